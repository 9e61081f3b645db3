//! Every endpoint: the page for Prometheus, the state of the apps for people, and health.
//!
//! Reads what the pollers have published, so that no response waits for WeChat or the disk; only a reload
//! waits for files and the archive.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use futures_util::stream;
use tokio::sync::oneshot;

use super::state::{AppState, Paths};
use super::status::Status;
use super::{browser, connections, guard};
use crate::exposition::gzip::{Member, Piece};
use crate::portrait::AppId;
use crate::state::Progress;

/// The paths of everything but the page for Prometheus.
pub const RESERVED_PATHS: [&str; 7] = [
    "/",
    "/probe",
    "/-/healthy",
    "/-/ready",
    "/-/reload",
    "/api/v1/status",
    "/config",
];

const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

const JSON_FORMAT: &str = "application/json";

const YAML_FORMAT: &str = "text/yaml; charset=utf-8";

/// Returns the routes.
pub fn create_app(state: Arc<AppState>) -> Router {
    let Paths {
        prefix,
        telemetry,
        external_url,
    } = state.paths.clone();
    let at = |path: &str| format!("{prefix}{path}");
    let index_path = at("/");
    let mut app = Router::new()
        .route(&index_path, get(index))
        .route(&at(&telemetry), get(metrics))
        .route(&at("/probe"), get(probe))
        .route(&at("/config"), get(config))
        .route(&at("/-/healthy"), get(async || "healthy\n"))
        .route(&at("/-/ready"), get(ready))
        .route(&at("/-/reload"), post(reload).fallback(reload_by_post))
        .route(&at("/api/v1/status"), get(status));
    if !prefix.is_empty() {
        // Relative, as a proxy may serve it elsewhere.
        let below = |path: &str| format!("{}/", path.rsplit('/').next().unwrap_or_default());
        for (path, index) in [
            ("/", format!("{}/", &prefix[1..])),
            (&prefix, below(&prefix)),
        ] {
            app = app.route(path, get(async move || Redirect::temporary(&index)));
        }
    }
    let not_found = format!("not found; see {index_path} for the endpoints\n");
    let app = app
        .fallback(async move || (StatusCode::NOT_FOUND, not_found))
        .layer(middleware::from_fn(connections::answering))
        .layer(middleware::from_fn_with_state(
            external_url,
            browser::protect,
        ));
    match state.guard.clone() {
        Some(guard) => app.layer(middleware::from_fn_with_state(guard, guard::protect)),
        None => app,
    }
    .with_state(state)
}

async fn index(State(state): State<Arc<AppState>>) -> Response {
    match Status::new(&state).to_html() {
        Ok(html) => Html(html).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn status(State(state): State<Arc<AppState>>, headers: HeaderMap) -> Response {
    // Of a thousand apps it is megabytes, which would keep other requests waiting.
    let rendered = tokio::task::spawn_blocking(move || {
        let json = serde_json::to_string(&Status::new(&state))?;
        Ok::<_, serde_json::Error>(send_text(JSON_FORMAT, json, &headers))
    });
    match rendered.await {
        Ok(Ok(response)) => ([(header::CACHE_CONTROL, "no-cache")], response).into_response(),
        Ok(Err(_)) | Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn config(State(state): State<Arc<AppState>>, headers: HeaderMap) -> Response {
    let response = send_as(YAML_FORMAT, state.config(), &headers);
    ([(header::CACHE_CONTROL, "no-cache")], response).into_response()
}

async fn ready(State(state): State<Arc<AppState>>) -> Response {
    if state.registry.is_ready() {
        return "ready\n".into_response();
    }
    let Progress {
        apps,
        restored,
        ready,
    } = state.registry.progress();
    let text = if restored < apps {
        format!("reading the archive: {restored} of {apps} apps\n")
    } else {
        format!(
            "waiting for the first answer to {} of {apps} apps\n",
            apps - ready
        )
    };
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn reload_by_post() -> Response {
    let text = "use POST, such as with `curl -X POST`, or send SIGHUP\n";
    let allow = [(header::ALLOW, "POST")];
    (StatusCode::METHOD_NOT_ALLOWED, allow, text).into_response()
}

/// Reads the configuration again, and responds when it is applied.
async fn reload(State(state): State<Arc<AppState>>) -> Response {
    let (reply, answer) = oneshot::channel();
    // There is no reply while the exporter shuts down.
    let _ = state.reload.send(reply);
    match answer.await {
        Ok(Ok(())) => "reloaded\n".into_response(),
        Ok(Err(problems)) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("{problems}\n")).into_response()
        }
        Err(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the exporter is shutting down\n",
        )
            .into_response(),
    }
}

type Parameters = Query<Vec<(String, String)>>;

async fn metrics(
    State(state): State<Arc<AppState>>,
    Query(parameters): Parameters,
    headers: HeaderMap,
) -> Response {
    let (mut with_portrait, mut with_exporter) = (false, false);
    for (_, part) in parameters.iter().filter(|(name, _)| name == "collect[]") {
        match part.as_str() {
            "portrait" => with_portrait = true,
            "exporter" => with_exporter = true,
            _ => return bad_request("collect[] is `portrait` or `exporter`\n"),
        }
    }
    let with_all = !with_portrait && !with_exporter;
    let mut member = if with_all || with_portrait {
        state.page.all()
    } else {
        Member::default()
    };
    if with_all || with_exporter {
        state.telemetry.archive_size(state.archive.size());
        match state.telemetry.encode() {
            Ok(text) => member.push(Piece::new(&text)),
            Err(error) => tracing::error!(%error, "cannot render the exporter's own metrics"),
        }
    }
    send(member, &headers)
}

async fn probe(
    State(state): State<Arc<AppState>>,
    Query(parameters): Parameters,
    headers: HeaderMap,
) -> Response {
    let Some((_, target)) = parameters.into_iter().find(|(name, _)| name == "target") else {
        return bad_request("the parameter `target` is missing: /probe?target=APPID\n");
    };
    let member = target
        .parse::<AppId>()
        .ok()
        .and_then(|appid| state.page.of(&appid));
    if let Some(member) = member {
        send(member, &headers)
    } else {
        let text =
            "no app with this appid is configured; see / and /api/v1/status for those that are\n";
        (StatusCode::NOT_FOUND, text).into_response()
    }
}

fn bad_request(text: &'static str) -> Response {
    (StatusCode::BAD_REQUEST, text).into_response()
}

/// Sends a text that is rendered for this request, compressed if the client accepts that.
fn send_text(content_type: &str, text: String, headers: &HeaderMap) -> Response {
    if !accepts_gzip(headers) {
        let of_text = [
            (header::CONTENT_TYPE, content_type),
            (header::VARY, "accept-encoding"),
        ];
        return (of_text, text).into_response();
    }
    let mut member = Member::default();
    member.push(Piece::new(&text));
    send_as(content_type, member, headers)
}

fn send(member: Member, headers: &HeaderMap) -> Response {
    send_as(TEXT_FORMAT, member, headers)
}

fn send_as(content_type: &str, member: Member, headers: &HeaderMap) -> Response {
    let response = Response::builder()
        .header(header::CONTENT_TYPE, content_type)
        .header(header::VARY, "accept-encoding");
    let response = if accepts_gzip(headers) {
        response
            .header(header::CONTENT_ENCODING, "gzip")
            .header(header::CONTENT_LENGTH, member.gzip_len())
            .body(Body::from_stream(stream::iter(
                member.gzip().map(Ok::<_, Infallible>),
            )))
    } else {
        response
            .header(header::CONTENT_LENGTH, member.len())
            .body(Body::from_stream(stream::iter(
                member.plain().map(Ok::<_, Infallible>),
            )))
    };
    response.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// Returns whether the client accepts gzip (RFC 9110, section 12.5.3); a weight of 0 refuses it.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| {
            let mut parameters = coding.split(';').map(str::trim);
            let is_gzip = parameters
                .next()
                .is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
            is_gzip
                && !parameters.any(|parameter| {
                    let weight = parameter
                        .strip_prefix("q=")
                        .or_else(|| parameter.strip_prefix("Q="));
                    weight.and_then(|weight| weight.parse::<f32>().ok()) == Some(0.0)
                })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_when_accepted() {
        let accepts = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, value.parse().unwrap());
            accepts_gzip(&headers)
        };
        for value in ["gzip", "deflate, GZIP;q=0.5", "br,gzip ; q=1"] {
            assert!(accepts(value), "{value}");
        }
        for value in ["", "identity", "gzip;q=0", "gzip; q=0.000", "xgzip", "br"] {
            assert!(!accepts(value), "{value}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
