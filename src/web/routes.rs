//! Every endpoint: the page for Prometheus, the state of the apps for people, and health.
//!
//! Reads what the pollers have published, so that no response waits for WeChat or the disk; only the days of
//! an app wait for the archive, and a reload for files and the archive.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use tokio::sync::oneshot;

use super::compressed::{accepts_gzip, send, send_json};
use super::state::{AppState, Paths};
use super::status::Status;
use super::{browser, connections, csv, guard, pages, sd};
use crate::exposition::gzip::Member;
use crate::portrait::AppId;
use crate::shard::Shard;
use crate::state::Progress;

/// The paths of everything but the page for Prometheus; of one that ends with a slash, what is below.
pub const RESERVED_PATHS: [&str; 10] = [
    "/",
    "/probe",
    "/sd",
    "/-/healthy",
    "/-/ready",
    "/-/reload",
    "/api/v1/status",
    "/config",
    "/apps/",
    "/assets/",
];

/// Returns `true` if there is anything else than the page for Prometheus at a path.
#[must_use]
pub fn is_reserved(path: &str) -> bool {
    RESERVED_PATHS.into_iter().any(|reserved| {
        let is_below = reserved.ends_with('/') && reserved != "/" && path.starts_with(reserved);
        path == reserved || is_below
    })
}

const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

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
        .route(&index_path, get(pages::overview))
        .route(&at("/assets/{version}/{name}"), get(pages::asset))
        .route(&at(&telemetry), get(metrics))
        .route(&at("/probe"), get(probe))
        .route(&at("/sd"), get(sd::targets))
        .route(&at("/apps/{name}"), get(app))
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
            let redirect = async move |RawQuery(query): RawQuery| match query {
                Some(query) => Redirect::temporary(&format!("{index}?{query}")),
                None => Redirect::temporary(&index),
            };
            app = app.route(path, get(redirect));
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

async fn status(State(state): State<Arc<AppState>>, headers: HeaderMap) -> Response {
    let rendering = state.rendering.clone();
    send_json(&rendering, headers, move || Status::new(&state)).await
}

async fn config(State(state): State<Arc<AppState>>, headers: HeaderMap) -> Response {
    let response = send(YAML_FORMAT, state.config(), &headers);
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
        unleased,
    } = state.registry.progress();
    let problem = state.archive.problem().filter(|_| unleased > 0);
    let text = if let Some(problem) = problem {
        format!("waiting for the archive: {problem}\n")
    } else if restored < apps {
        format!("reading the archive: {restored} of {apps} apps\n")
    } else if unleased > 0 {
        format!("waiting for the leases of {unleased} of {apps} apps\n")
    } else {
        format!(
            "waiting for the first response to {} of {apps} apps\n",
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
        if let Some(size) = state.archive.size() {
            state.telemetry.archive_size(size);
        }
        match state.telemetry.pieces() {
            Ok(pieces) => pieces.into_iter().for_each(|piece| member.push(piece)),
            Err(error) => tracing::error!(%error, "cannot render the exporter's own metrics"),
        }
    }
    send(TEXT_FORMAT, member, &headers)
}

async fn probe(
    State(state): State<Arc<AppState>>,
    Query(parameters): Parameters,
    headers: HeaderMap,
) -> Response {
    let Some((_, target)) = parameters.into_iter().find(|(name, _)| name == "target") else {
        return bad_request("the parameter `target` is missing: /probe?target=APPID\n");
    };
    let appid = target.parse::<AppId>().ok();
    let member = appid.as_ref().and_then(|appid| state.page.of(appid));
    member.map_or_else(
        || no_such_app(state.shard, appid.as_ref()),
        |member| send(TEXT_FORMAT, member, &headers),
    )
}

/// Responds with the page of an app, or with its days as a file.
async fn app(
    State(state): State<Arc<AppState>>,
    Path(name): Path<String>,
    Query(parameters): Parameters,
    headers: HeaderMap,
) -> Response {
    let appid = name.strip_suffix(".csv");
    let is_file = appid.is_some();
    let appid = appid.unwrap_or(&name).parse::<AppId>().ok();
    let app = appid.as_ref().and_then(|appid| state.registry.get(appid));
    let Some(app) = app else {
        return if is_file {
            no_such_app(state.shard, appid.as_ref())
        } else {
            pages::missing(&state, name, &parameters, headers).await
        };
    };
    if !is_file {
        return pages::app(&state, app, &parameters, headers).await;
    }
    let AppState {
        archive, downloads, ..
    } = &*state;
    csv::respond(archive, downloads, app, &parameters, accepts_gzip(&headers)).await
}

fn no_such_app(shard: Shard, appid: Option<&AppId>) -> Response {
    let other = appid.and_then(|appid| Some((appid, shard.other_owner(appid)?)));
    let text = match other {
        None => {
            "no app with this appid is configured; see / and /api/v1/status for those that are\n"
                .to_owned()
        }
        Some((appid, owner)) => format!(
            "{appid} is an app of shard {owner} of {}, and this is shard {}\n",
            shard.total(),
            shard.ordinal()
        ),
    };
    (StatusCode::NOT_FOUND, text).into_response()
}

fn bad_request(text: &'static str) -> Response {
    (StatusCode::BAD_REQUEST, text).into_response()
}
