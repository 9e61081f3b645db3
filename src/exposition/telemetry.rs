//! The exporter's own metrics: what it does, not what WeChat reported.
//!
//! What belongs to an app is on the page; this is about requests, the archive and the process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};
use prometheus::core::Collector;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

use super::gzip::Piece;
use super::process::Process;
use crate::archive::Operation;
use crate::shard::Shard;
use crate::wechat::{Endpoint, Request};

/// The metrics are inconsistent, or one can't be encoded: a bug.
#[derive(Debug, thiserror::Error)]
#[error("the exporter's own metrics are broken")]
pub struct Error(#[from] prometheus::Error);

/// Counts and measures what the exporter does.
#[derive(Debug)]
pub struct Telemetry {
    registry: Registry,
    requests: IntCounterVec,
    request_failures: IntCounterVec,
    request_duration: HistogramVec,
    archive_size: IntGauge,
    archive_failures: IntCounterVec,
    task_panics: IntCounter,
    last_reload_successful: IntGauge,
    last_reload_success_at: IntGauge,
    web_config_failures: IntCounter,
    process: Process,
    /// Grows with every change of a metric.
    changes: AtomicU64,
    /// The metrics as they were rendered last, and the number of changes then.
    rendered: Mutex<Option<(u64, Piece)>>,
}

impl Telemetry {
    /// Starts everything at zero, for the exporter of this shard.
    ///
    /// # Errors
    ///
    /// Two metrics have one name.
    pub fn new(shard: Shard) -> Result<Self, Error> {
        let telemetry = Self {
            registry: Registry::new(),
            requests: IntCounterVec::new(
                Opts::new(
                    "wxapp_portrait_api_requests_total",
                    "Requests sent to WeChat.",
                ),
                &["endpoint"],
            )?,
            request_failures: IntCounterVec::new(
                Opts::new(
                    "wxapp_portrait_api_request_failures_total",
                    "Requests that failed, by WeChat's error code or what happened instead.",
                ),
                &["endpoint", "errcode"],
            )?,
            request_duration: HistogramVec::new(
                HistogramOpts::new(
                    "wxapp_portrait_api_request_duration_seconds",
                    "Time from sending a request to the last byte of its response.",
                ),
                &["endpoint"],
            )?,
            archive_size: IntGauge::new(
                "wxapp_portrait_archive_size_bytes",
                "Size of the archive's files.",
            )?,
            archive_failures: IntCounterVec::new(
                Opts::new(
                    "wxapp_portrait_archive_failures_total",
                    "Operations of the archive that failed.",
                ),
                &["operation"],
            )?,
            task_panics: IntCounter::new(
                "wxapp_portrait_task_panics_total",
                "Tasks that panicked, which is a bug, and were started again.",
            )?,
            last_reload_successful: IntGauge::new(
                "wxapp_portrait_config_last_reload_successful",
                "Whether the configuration could be used when it was last read.",
            )?,
            last_reload_success_at: IntGauge::new(
                "wxapp_portrait_config_last_reload_success_timestamp_seconds",
                "When a configuration that could be used was last read.",
            )?,
            web_config_failures: IntCounter::new(
                "wxapp_portrait_web_config_failures_total",
                "How often the web configuration became invalid; nothing was served until it was corrected.",
            )?,
            process: Process::of_self(),
            changes: AtomicU64::new(0),
            rendered: Mutex::default(),
        };
        for endpoint in Endpoint::ALL {
            telemetry.requests.with_label_values(&[endpoint.as_str()]);
            telemetry
                .request_duration
                .with_label_values(&[endpoint.as_str()]);
        }
        for operation in Operation::ALL {
            telemetry
                .archive_failures
                .with_label_values(&[operation.as_str()]);
        }
        let collectors: [Box<dyn Collector>; 12] = [
            Box::new(telemetry.requests.clone()),
            Box::new(telemetry.request_failures.clone()),
            Box::new(telemetry.request_duration.clone()),
            Box::new(telemetry.archive_size.clone()),
            Box::new(telemetry.archive_failures.clone()),
            Box::new(telemetry.task_panics.clone()),
            Box::new(telemetry.last_reload_successful.clone()),
            Box::new(telemetry.last_reload_success_at.clone()),
            Box::new(telemetry.web_config_failures.clone()),
            Box::new(gauge(
                "wxapp_portrait_shard_ordinal",
                "Which shard this exporter is, from 0; it has the apps of that shard only.",
                shard.ordinal(),
            )?),
            Box::new(gauge(
                "wxapp_portrait_total_shards",
                "Into how many shards the apps are divided, by the flags of this exporter.",
                shard.total(),
            )?),
            Box::new(build_info()?),
        ];
        for collector in collectors {
            telemetry.registry.register(collector)?;
        }
        Ok(telemetry)
    }

    /// Counts a request to WeChat.
    pub fn request(&self, request: &Request) {
        let endpoint = request.endpoint.as_str();
        self.requests.with_label_values(&[endpoint]).inc();
        self.request_duration
            .with_label_values(&[endpoint])
            .observe(request.duration.as_secs_f64());
        if let Some(failure) = request.failure {
            self.request_failures
                .with_label_values(&[endpoint, &failure.to_string()])
                .inc();
        }
        self.changed();
    }

    /// Counts an operation of the archive that failed.
    pub fn archive_failure(&self, operation: Operation) {
        self.archive_failures
            .with_label_values(&[operation.as_str()])
            .inc();
        self.changed();
    }

    /// Counts a task that panicked.
    pub fn task_panicked(&self) {
        self.task_panics.inc();
        self.changed();
    }

    /// Records that a valid configuration was read.
    pub fn reloaded(&self, now: DateTime<Utc>) {
        self.last_reload_successful.set(1);
        self.last_reload_success_at.set(now.timestamp());
        self.changed();
    }

    /// Records that an invalid configuration was read.
    pub fn reload_failed(&self) {
        self.last_reload_successful.set(0);
        self.changed();
    }

    /// Counts a web configuration that became invalid.
    pub fn web_config_failed(&self) {
        self.web_config_failures.inc();
        self.changed();
    }

    /// Removes the size of the archive, of which nothing is known.
    ///
    /// # Errors
    ///
    /// It was removed before.
    pub fn without_archive_size(&self) -> Result<(), Error> {
        let size = Box::new(self.archive_size.clone());
        self.registry.unregister(size)?;
        self.changed();
        Ok(())
    }

    /// Sets the size of the archive, in bytes.
    pub fn archive_size(&self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        if self.archive_size.get() != bytes {
            self.archive_size.set(bytes);
            self.changed();
        }
    }

    /// Returns all metrics in the text format: those of the process as they are now, and the others, which
    /// are rendered again only if one of them has changed.
    ///
    /// # Errors
    ///
    /// A metric has no name.
    pub fn pieces(&self) -> Result<[Piece; 2], Error> {
        let process = Piece::uncompressed(&self.process.text());
        // Before the metrics are read: a change in between is rendered the next time.
        let changes = self.changes.load(Ordering::Acquire);
        let mut rendered = self.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, piece)) = &*rendered
            && *of == changes
        {
            return Ok([process, piece.clone()]);
        }
        let text = TextEncoder::new().encode_to_string(&self.registry.gather())?;
        let piece = Piece::new(&text);
        *rendered = Some((changes, piece.clone()));
        Ok([process, piece])
    }

    /// Counts a change, after it was made.
    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }
}

fn gauge(name: &str, help: &str, value: u32) -> Result<IntGauge, prometheus::Error> {
    let gauge = IntGauge::new(name, help)?;
    gauge.set(value.into());
    Ok(gauge)
}

fn build_info() -> Result<IntGauge, prometheus::Error> {
    let options = Opts::new(
        "wxapp_portrait_exporter_build_info",
        "What this exporter was built from, always 1.",
    )
    .const_label("version", env!("CARGO_PKG_VERSION"))
    .const_label("revision", env!("BUILD_REVISION"))
    .const_label("rustversion", env!("BUILD_RUSTVERSION"));
    let gauge = IntGauge::with_opts(options)?;
    gauge.set(1);
    Ok(gauge)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::exposition::gzip::Member;

    fn text(telemetry: &Telemetry) -> String {
        let mut member = Member::default();
        for piece in telemetry.pieces().unwrap() {
            member.push(piece);
        }
        String::from_utf8(member.plain().flatten().collect()).unwrap()
    }

    #[test]
    fn every_change_is_shown_at_once() {
        let telemetry = Telemetry::new(Shard::default()).unwrap();
        let request = Request {
            endpoint: Endpoint::Portrait,
            duration: Duration::from_millis(3),
            failure: None,
        };
        let changes: [(&str, &dyn Fn()); 7] = [
            (
                "wxapp_portrait_api_requests_total{endpoint=\"portrait\"} 1",
                &|| telemetry.request(&request),
            ),
            (
                "wxapp_portrait_archive_failures_total{operation=\"write\"} 1",
                &|| telemetry.archive_failure(Operation::Write),
            ),
            ("wxapp_portrait_task_panics_total 1", &|| {
                telemetry.task_panicked();
            }),
            ("wxapp_portrait_config_last_reload_successful 1", &|| {
                telemetry.reloaded(DateTime::UNIX_EPOCH);
            }),
            ("wxapp_portrait_config_last_reload_successful 0", &|| {
                telemetry.reload_failed();
            }),
            ("wxapp_portrait_web_config_failures_total 1", &|| {
                telemetry.web_config_failed();
            }),
            ("wxapp_portrait_archive_size_bytes 7", &|| {
                telemetry.archive_size(7);
            }),
        ];
        for (line, change) in changes {
            let line = format!("\n{line}\n");
            let before = text(&telemetry);
            change();
            let after = text(&telemetry);
            assert!(after.contains(&line), "{line}{after}");
            assert!(line.contains("successful 0") || !before.contains(&line));
        }
        telemetry.without_archive_size().unwrap();
        assert!(!text(&telemetry).contains("archive_size"));
    }
}
