//! The log on standard error, in two formats with the same keys: `ts`, `level`, `message`, then the
//! fields.
//!
//! A thread of its own writes it, so that a reader that stops reading stops nothing else. Lines of other
//! crates are left out, as some of them would log URLs, and URLs contain tokens.

use std::fmt;

use serde::Serializer as _;
use serde::ser::SerializeMap as _;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use wxapp_portrait_exporter::cli::{Log, LogFormat, LogLevel};

/// So many lines may wait to be written; further ones are dropped.
const WAITING_LINES: usize = 4096;

/// Starts the log; what waits is written when the guard is dropped. A program that serves goes on
/// without a reader of its log; a command waits for it, as its last line says how it ended.
pub(crate) fn start(log: Log, is_serving: bool) -> WorkerGuard {
    let level = match log.level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    };
    let targets = Targets::new().with_target("wxapp_portrait_exporter", level);
    let registry = tracing_subscriber::registry().with(targets);
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(WAITING_LINES)
        .lossy(is_serving)
        .thread_name("log")
        .finish(std::io::stderr());
    match log.format {
        LogFormat::Logfmt => registry
            .with(
                tracing_logfmt::builder()
                    .with_target(false)
                    .layer()
                    .with_writer(writer),
            )
            .init(),
        LogFormat::Json => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .event_format(JsonLines)
                    .with_writer(writer),
            )
            .init(),
    }
    guard
}

/// Writes an event as a line of JSON.
struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        let mut line = Vec::new();
        let mut serializer = serde_json::Serializer::new(&mut line);
        let written = serializer.serialize_map(None).and_then(|mut map| {
            map.serialize_entry("ts", &time)?;
            map.serialize_entry("level", &level)?;
            map.serialize_entry("message", &fields.message)?;
            for (key, value) in &fields.others {
                map.serialize_entry(key, value)?;
            }
            map.end()
        });
        written.map_err(|_| fmt::Error)?;
        writer.write_str(&String::from_utf8_lossy(&line))?;
        writer.write_char('\n')
    }
}

/// The fields of an event, in their order.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, Value)>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.others.push((field.name(), text.into()));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.others.push((field.name(), value.into()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.others.push((field.name(), value.into()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.others.push((field.name(), value.into()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.others.push((field.name(), value.into()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.others.push((field.name(), value.into()));
    }
}
