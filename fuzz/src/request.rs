//! What is requested over HTTP: any path and parameters, with any headers.

use std::borrow::Cow;
use std::future::Future;
use std::io::Read as _;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, header};
use chrono::{DateTime, Utc};
use flate2::read::GzDecoder;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use wxapp_portrait_exporter::archive::{Archive, DayState, Key, Record, Row, Store};
use wxapp_portrait_exporter::calendar::{self, Clock};
use wxapp_portrait_exporter::config::access::AccessMethod;
use wxapp_portrait_exporter::config::{self, App};
use wxapp_portrait_exporter::exposition::telemetry::Telemetry;
use wxapp_portrait_exporter::poll::{self, AppPoller, Context};
use wxapp_portrait_exporter::portrait::{AppId, Window};
use wxapp_portrait_exporter::shard::Shard;
use wxapp_portrait_exporter::simulator::{self, Simulator};
use wxapp_portrait_exporter::web::{self, AppState, Paths};
use wxapp_portrait_exporter::wechat::{self, Client};

use super::exposition;

/// The first app has a history.
const APPS: [&str; 2] = ["wx0123456789abcdef", "wx1123456789abcdef"];

/// The secret of both.
const SECRET: &str = "5ecret0fbothapps5ecret0fbothapps";

/// A name of a tag or an attribute that no page has.
const MARK: &str = "q7z";

/// Nothing that is served of two apps is larger.
const LARGEST: usize = 4 << 20;

/// An exporter whose time stands still.
struct World {
    runtime: Runtime,
    /// Without a prefix, and behind a proxy with one.
    routers: [Router; 2],
    _reloads: [mpsc::UnboundedReceiver<web::Reload>; 2],
    _directory: TempDir,
}

static WORLD: LazyLock<World> = LazyLock::new(World::new);

/// A request: the target in the first line, and headers below it. No answer is an error of the exporter,
/// has a secret, repeats a tag, or is not in the format that it states.
pub fn request(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let target = lines.next().unwrap_or_default();
    let Ok(uri) = Uri::try_from(target) else {
        return;
    };
    if !uri.path().starts_with('/') {
        return;
    }
    let headers: HeaderMap = lines.filter_map(header_of).collect();
    let World {
        runtime, routers, ..
    } = &*WORLD;
    for router in routers {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers.clone();
        let service = TowerToHyperService::new(router.clone());
        let (head, body) = within(runtime, async {
            let Ok(response) = service.call(request).await;
            let (head, body) = response.into_parts();
            (head, to_bytes(body, LARGEST).await.unwrap())
        });
        let response = Response::from_parts(head, body);
        let text = check(&uri, &response);
        // A page may repeat what is requested.
        let mut parts = url::form_urlencoded::parse(data).flat_map(|(name, value)| [name, value]);
        let is_known = parts.any(|part| part.contains(SECRET));
        assert!(is_known || !text.contains(SECRET), "{text}");
    }
}

fn within<T>(runtime: &Runtime, future: impl Future<Output = T>) -> T {
    let bounded = async { tokio::time::timeout(Duration::from_mins(1), future).await };
    runtime.block_on(bounded).unwrap()
}

fn header_of(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = HeaderName::from_bytes(&line[..colon]).ok()?;
    let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
    Some((name, value))
}

/// Checks a response, and returns its text.
fn check(uri: &Uri, response: &Response<Bytes>) -> String {
    let status = response.status().as_u16();
    assert!(
        [200, 307, 400, 404, 405, 503].contains(&status),
        "{status} for {uri}"
    );
    let of = |name: HeaderName| {
        let value = response.headers().get(name);
        // A redirect repeats what follows the question mark, whatever it is.
        value.map_or(Cow::Borrowed(""), |value| {
            String::from_utf8_lossy(value.as_bytes())
        })
    };
    assert_eq!(of(header::X_CONTENT_TYPE_OPTIONS), "nosniff");
    let location = of(header::LOCATION);
    let path = location.split(['?', '#']).next().unwrap_or_default();
    assert!(
        !path.contains([':', '\\']) && !path.starts_with('/'),
        "leads to {location}"
    );
    let mut body = response.body().to_vec();
    if of(header::CONTENT_ENCODING) == "gzip" {
        let mut inflated = Vec::new();
        let mut decoder = GzDecoder::new(&*body);
        decoder.read_to_end(&mut inflated).unwrap();
        assert!(decoder.into_inner().is_empty(), "more than one member");
        body = inflated;
    }
    let text = String::from_utf8(body).unwrap();
    assert!(text.len() <= LARGEST, "{text}");
    let content_type = of(header::CONTENT_TYPE);
    if content_type.starts_with("text/plain; version=") {
        let series = exposition::parse(&text);
        let target = parameter(uri, "target");
        let is_probe = uri.path().ends_with("/probe");
        for (_, labels) in series.keys() {
            let app = labels.iter().find(|(name, _)| name == "appid");
            assert!(
                !is_probe || app.map(|(_, app)| app) == target.as_ref(),
                "{labels:?}"
            );
        }
    } else if content_type.starts_with("text/html") {
        assert!(of(header::CONTENT_SECURITY_POLICY).starts_with("default-src 'none'"));
        for beginning in ["<", "</", "\" ", "' ", "&#"] {
            assert!(
                !text.contains(&format!("{beginning}{MARK}")),
                "{uri}: {text}"
            );
        }
    } else if content_type == "application/json" {
        serde_json::from_str::<Value>(&text).unwrap();
    } else if content_type.starts_with("text/csv") && status == 200 {
        let lines = text.trim_start_matches('\u{feff}').lines();
        assert!(
            lines
                .into_iter()
                .all(|line| line.matches(',').count() >= 11),
            "{text}"
        );
    }
    text
}

/// Returns the first value of a parameter.
fn parameter(uri: &Uri, wanted: &str) -> Option<String> {
    let query = uri.query().unwrap_or_default();
    let mut parameters = url::form_urlencoded::parse(query.as_bytes());
    let found = parameters.find(|(name, _)| name == wanted);
    found.map(|(_, value)| value.into_owned())
}

impl World {
    fn new() -> Self {
        wechat::install_crypto_provider();
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let now: DateTime<Utc> = "2026-11-22T12:00:00Z".parse().unwrap();
        let clock: Clock = Arc::new(move || now);
        let mut store = Store::of_owner(directory.path(), Arc::clone(&clock));
        store.upsert(&rows(now)).unwrap();
        let telemetry = Arc::new(Telemetry::new(Shard::default()).unwrap());
        telemetry.reloaded(now);
        let settings = wechat::Settings {
            wechat: config::WeChat::default(),
            concurrency: 1,
            backoff: wechat::BACKOFF,
            secret_variables: Vec::new(),
        };
        let context = Context::new(
            Client::new(settings, Arc::clone(&clock), |_| {}).unwrap(),
            Arc::new(Archive::open(store, |_| {}).unwrap()),
            Arc::default(),
            Arc::default(),
            telemetry,
            clock,
            poll::Settings {
                interval: Duration::from_mins(30),
                quiet_interval: poll::due::QUIET_INTERVAL,
                stale_after: config::STALE_AFTER,
                retention: config::RETENTION,
            },
        );
        within(&runtime, async {
            for app in APPS {
                let access = AccessMethod::of_secret(SECRET.to_owned().into());
                let mut app = App::new(app.parse().unwrap(), access);
                app.windows = vec![Window::OneDay, Window::SevenDays];
                app.labels
                    .insert("team".to_owned(), "<零售> & \"co\"".to_owned());
                AppPoller::new(context.clone(), app).restore().await;
            }
        });
        let states =
            [("", None), ("/wx", Some("https://metrics.example/wx/"))].map(|(prefix, url)| {
                let paths = Paths {
                    prefix: prefix.to_owned(),
                    telemetry: "/metrics".to_owned(),
                    external_url: url.map(|url| url.parse().unwrap()),
                };
                let (reload, reloads) = mpsc::unbounded_channel();
                let state = AppState::new(&context, paths, Shard::default(), None, reload);
                state.set_config("apps: []\n");
                (web::create_app(Arc::new(state)), reloads)
            });
        let [(one, of_one), (other, of_other)] = states;
        Self {
            runtime,
            routers: [one, other],
            _reloads: [of_one, of_other],
            _directory: directory,
        }
    }
}

/// Returns some weeks of the first app.
fn rows(now: DateTime<Utc>) -> Vec<Row> {
    let settings = simulator::Settings {
        apps: vec![format!("{}=300", APPS[0]).parse().unwrap()],
        ..simulator::Settings::default()
    };
    let simulator = Simulator::new(settings, move || now);
    let appid: AppId = APPS[0].parse().unwrap();
    let row = |days_ago| {
        let day = calendar::days_before(calendar::yesterday(now), days_ago);
        let answered_at = calendar::expected_available_at(day);
        let answer = simulator.answer(&appid, Window::OneDay, day).unwrap();
        Row::from(&Record {
            key: Key {
                appid: appid.clone(),
                window: Window::OneDay,
                reference_date: day,
            },
            state: DayState {
                first_answered_at: answered_at,
                answered_at,
                settled: true,
                revisions: 0,
            },
            answer: answer.to_string(),
        })
    };
    (0..40).map(row).collect()
}
