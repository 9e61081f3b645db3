//! The simulated WeChat over HTTP, with faults that break responses and connections.
//!
//! Besides WeChat's own paths there is `/simulator/…`, to set faults and read counts from outside.
//! The response to a request is decided in `service`.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post, put};
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use tokio::net::TcpListener;

use super::bodies::{object, to_json, token_response};
use super::cloud_function::{self, FUNCTION_ENV, FUNCTION_NAME, Spelling, Wrap};
use super::faults::{self, Endpoint, Fault, Kind};
use super::random;
use super::refusal::Refusal;
use super::service::Simulator;
use super::settings::{App, secret_of};
use super::tokens::Parameter;
use crate::portrait::AppId;

/// The header of responses to requests to which cloud hosting added a token.
const SEQUENCE: HeaderName = HeaderName::from_static("x-openapi-seqid");

/// Returns the routes of the simulated WeChat.
///
/// | path | what it simulates |
/// |---|---|
/// | `POST /cgi-bin/stable_token`, `GET /cgi-bin/token` | WeChat's tokens |
/// | `POST /datacube/getweanalysisappiduserportrait` | WeChat's portraits, for either kind of token, or for none in cloud hosting |
/// | `POST /tcb/invokecloudfunction` | WeChat's call of the cloud function [`FUNCTION_NAME`] in [`FUNCTION_ENV`] |
/// | `POST /function/APPID` | that function's own address; `?wrap=data`, `result` or `resp_data`, `?case=snake` |
/// | `GET /simulator/tokens/APPID` | a token server that shares the stable token; `?format=json`, `?force_refresh=true` |
/// | `GET /simulator/cloudbase-token/APPID` | what writes a container's token file |
/// | `PUT` and `DELETE /simulator/faults/APPID` | nothing: sets and clears faults |
/// | `GET /simulator/apps`, `GET /simulator/requests` | nothing: returns secrets and counts |
pub fn create_app(simulator: Arc<Simulator>) -> Router {
    Router::new()
        .route("/cgi-bin/stable_token", any(stable_token))
        .route("/cgi-bin/token", any(legacy_token))
        .route("/datacube/getweanalysisappiduserportrait", any(portrait))
        .route("/tcb/invokecloudfunction", any(invoke_function))
        .route("/function/{appid}", post(function))
        .route(
            "/simulator/faults/{appid}",
            put(set_fault).delete(clear_faults),
        )
        .route("/simulator/tokens/{appid}", get(share_token))
        .route("/simulator/cloudbase-token/{appid}", get(cloudbase_token))
        .route("/simulator/apps", get(apps))
        .route("/simulator/requests", get(requests))
        .fallback(|| async { error_page(StatusCode::NOT_FOUND) })
        .layer(middleware::from_fn(log))
        .with_state(simulator)
}

/// Serves the simulated WeChat until `shutdown`.
///
/// # Errors
///
/// Fails if the listener does.
pub async fn run(
    listener: TcpListener,
    simulator: Arc<Simulator>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, create_app(simulator))
        .with_graceful_shutdown(shutdown)
        .await
}

/// Logs the requested path without the query, which holds tokens and secrets.
async fn log(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    tracing::debug!(%method, path, status, "simulated WeChat received a request");
    response
}

async fn stable_token(
    State(simulator): State<Arc<Simulator>>,
    method: Method,
    body: Bytes,
) -> Response {
    let request = if method == Method::POST {
        object(&body)
    } else {
        Err(43002)
    };
    let appid = request.as_ref().ok().and_then(|request| {
        let appid = request.get("appid")?.as_str()?;
        appid.parse().ok()
    });
    let answer = || request.and_then(|request| simulator.stable_token(&request));
    respond_with_token(&simulator, appid.as_ref(), answer).await
}

async fn legacy_token(
    State(simulator): State<Arc<Simulator>>,
    method: Method,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let appid = query.get("appid").and_then(|appid| appid.parse().ok());
    let answer = || match method {
        Method::GET => simulator.legacy_token(&query),
        _ => Err(43001),
    };
    respond_with_token(&simulator, appid.as_ref(), answer).await
}

/// The query of the token server.
#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenQuery {
    format: Format,
    force_refresh: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Format {
    #[default]
    Text,
    Json,
}

async fn share_token(
    State(simulator): State<Arc<Simulator>>,
    Path(appid): Path<String>,
    Query(query): Query<TokenQuery>,
) -> Response {
    let Some(appid) = find_app(&simulator, &appid) else {
        return not_found(&appid);
    };
    let answer = || {
        let (token, seconds) = simulator.stable(&appid, query.force_refresh);
        Ok(match query.format {
            Format::Text => format!("{token}\n"),
            Format::Json => token_response((token, seconds)),
        })
    };
    let mut response = respond_with_token(&simulator, Some(&appid), answer).await;
    if query.format == Format::Text && response.status().is_success() {
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, text);
    }
    response
}

async fn respond_with_token(
    simulator: &Simulator,
    appid: Option<&AppId>,
    answer: impl FnOnce() -> Result<String, i64>,
) -> Response {
    let kind = simulator.take_fault(appid, Endpoint::Token);
    let body = match refusal(kind.as_ref(), appid, "") {
        Some(refusal) => Err(refusal),
        None => answer().map_err(Refusal::from),
    };
    respond(simulator, appid, kind, body).await
}

async fn portrait(
    State(simulator): State<Arc<Simulator>>,
    method: Method,
    Query(query): Query<HashMap<String, String>>,
    body: Bytes,
) -> Response {
    let token = token_of(&query);
    let appid = match token {
        Some((_, token)) => simulator.token_owner(token),
        None => simulator.settings.cloud_hosting.clone(),
    };
    let kind = simulator.take_fault(appid.as_ref(), Endpoint::Portrait);
    let relayed_for = appid
        .clone()
        .filter(|_| token.is_none() && kind != Some(Kind::Unrelayed));
    let is_relayed = relayed_for.is_some();
    let text = token.map_or("", |(_, token)| token);
    let body = match refusal(kind.as_ref(), appid.as_ref(), text) {
        Some(refusal) => Err(refusal),
        None if method != Method::POST => Err(43002.into()),
        None => relayed_for
            .map_or_else(|| simulator.authorize(token), Ok)
            .map_err(Refusal::from)
            .and_then(|appid| figures(&simulator, &appid, kind.as_ref(), None, &body)),
    };
    let mut response = respond(&simulator, appid.as_ref(), kind, body).await;
    // A gateway's page comes from a hop before the relay.
    if is_relayed
        && response.status().is_success()
        && let Ok(id) = HeaderValue::try_from(simulator.request_id())
    {
        response.headers_mut().insert(SEQUENCE, id);
    }
    response
}

/// Returns the token of a request, and the parameter that holds it.
fn token_of(query: &HashMap<String, String>) -> Option<(Parameter, &str)> {
    [
        ("access_token", Parameter::Access),
        ("cloudbase_access_token", Parameter::Cloudbase),
    ]
    .into_iter()
    .find_map(|(name, parameter)| Some((parameter, query.get(name)?.as_str())))
}

/// Returns a portrait, corrupted if the fault is one that corrupts figures.
fn figures(
    simulator: &Simulator,
    appid: &AppId,
    kind: Option<&Kind>,
    spelling: Option<Spelling>,
    body: &[u8],
) -> Result<String, Refusal> {
    let (figures, window, end) = simulator.portrait(appid, body)?;
    let response = match kind {
        Some(kind) => kind.corrupt(figures, window, end),
        None => to_json(&figures),
    };
    Ok(match (kind, spelling) {
        (Some(Kind::Camel), _) => Spelling::Camel.respell(&response),
        (_, Some(spelling)) => spelling.respell(&response),
        (_, None) => response,
    })
}

async fn invoke_function(
    State(simulator): State<Arc<Simulator>>,
    method: Method,
    Query(query): Query<HashMap<String, String>>,
    event: Bytes,
) -> Response {
    let token = token_of(&query).map_or("", |(_, token)| token);
    let appid = simulator.token_owner(token);
    let kind = simulator.take_fault(appid.as_ref(), Endpoint::Function);
    let body = match refusal(kind.as_ref(), appid.as_ref(), token) {
        Some(refusal) => Err(refusal),
        None if method != Method::POST => Err(43002.into()),
        None => invoked(&simulator, &query, &event).await,
    };
    respond(&simulator, appid.as_ref(), kind, body).await
}

/// Runs the function if the token permits, and returns WeChat's response.
async fn invoked(
    simulator: &Simulator,
    query: &HashMap<String, String>,
    event: &[u8],
) -> Result<String, Refusal> {
    let token = token_of(query);
    let appid = simulator.authorize(token)?;
    let text = |key| query.get(key).map_or("", String::as_str);
    match (text("env"), text("name")) {
        ("", _) | (_, "") => return Err(40101.into()),
        (FUNCTION_ENV, FUNCTION_NAME) => {}
        (FUNCTION_ENV, _) => return Err((-1000).into()),
        _ => return Err(85088.into()),
    }
    let kind = simulator.take_fault(Some(&appid), Endpoint::Portrait);
    let limit = simulator.settings.function_limit;
    if let Some(Kind::Delay(time)) = kind {
        tokio::time::sleep(time.min(limit)).await;
        if time >= limit {
            return Err((-604_102).into());
        }
    }
    let returned = match &kind {
        Some(Kind::Http(_) | Kind::Cut | Kind::Reset | Kind::Garbage | Kind::Huge) => {
            cloud_function::THROWN.to_owned()
        }
        kind => returned(simulator, &appid, kind.as_ref(), Spelling::Camel, event),
    };
    let returned = to_json(&returned);
    Ok(format!(
        r#"{{"errcode":0,"errmsg":"ok","resp_data":{returned}}}"#
    ))
}

/// The query of a function's own address.
#[derive(Default, Deserialize)]
#[serde(default)]
struct FunctionQuery {
    wrap: Wrap,
    case: Spelling,
}

async fn function(
    State(simulator): State<Arc<Simulator>>,
    Path(appid): Path<String>,
    Query(query): Query<FunctionQuery>,
    event: Bytes,
) -> Response {
    let Some(appid) = find_app(&simulator, &appid) else {
        return not_found(&appid);
    };
    let kind = simulator.take_fault(Some(&appid), Endpoint::Portrait);
    let returned = returned(&simulator, &appid, kind.as_ref(), query.case, &event);
    let body = Ok(query.wrap.wrap(returned));
    respond(&simulator, Some(&appid), kind, body).await
}

/// Returns the function's result, which may be an error.
fn returned(
    simulator: &Simulator,
    appid: &AppId,
    kind: Option<&Kind>,
    spelling: Spelling,
    event: &[u8],
) -> String {
    let request = cloud_function::request_body(event);
    let answer = match refusal(kind, Some(appid), "") {
        Some(refusal) => Err(refusal),
        None => figures(simulator, appid, kind, Some(spelling), request.as_bytes()),
    };
    answer.unwrap_or_else(|refusal| cloud_function::error_body(&refusal, &simulator.request_id()))
}

/// Returns the refusal that a fault requires.
fn refusal(kind: Option<&Kind>, appid: Option<&AppId>, token: &str) -> Option<Refusal> {
    match kind? {
        Kind::Errcode(errcode) => Some((*errcode).into()),
        Kind::Leaky => Some(Refusal {
            errcode: 99999,
            errmsg: format!(
                "invalid credential, access_token={token} secret={}",
                appid.map(secret_of).unwrap_or_default()
            ),
        }),
        _ => None,
    }
}

/// Sends a response, or applies the fault to it.
async fn respond(
    simulator: &Simulator,
    appid: Option<&AppId>,
    kind: Option<Kind>,
    body: Result<String, Refusal>,
) -> Response {
    let body = body.unwrap_or_else(|refusal| refusal.body(&simulator.request_id()));
    let body = match kind {
        Some(Kind::Delay(time)) => {
            tokio::time::sleep(time).await;
            Body::from(body)
        }
        Some(Kind::Http(status)) => return error_page(status),
        Some(Kind::Cut) => return truncated(body),
        // The error occurs before the header is flushed, so nothing at all is sent.
        Some(Kind::Reset) => Body::from_stream(stream::iter([Err::<Bytes, _>(broken())])),
        Some(Kind::Garbage) => Body::from(&b"\xff\xfe<\x00\x80 upstream \xc3\x28"[..]),
        Some(Kind::Huge) => {
            Body::from_stream(stream::iter(faults::oversized().map(io::Result::Ok)))
        }
        _ => Body::from(body),
    };
    let content_type = match appid {
        Some(appid) if random::hash("type", appid.as_str()).is_multiple_of(3) => "text/plain",
        _ => "application/json; encoding=utf-8",
    };
    ([(CONTENT_TYPE, content_type)], body).into_response()
}

/// Announces the whole response, sends half of it, and ends the connection.
fn truncated(body: String) -> Response {
    let whole = HeaderValue::from(body.len());
    let mut half = Bytes::from(body);
    half.truncate(half.len() / 2);
    let pieces = stream::unfold(Some(half), |half| async {
        if let Some(half) = half {
            return Some((Ok(half), None));
        }
        // Lets the server send what it has before the error makes it drop that, too.
        tokio::task::yield_now().await;
        Some((Err(broken()), None))
    });
    let headers = [
        (CONTENT_LENGTH, whole),
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
    ];
    (headers, Body::from_stream(pieces)).into_response()
}

fn broken() -> io::Error {
    io::Error::from(io::ErrorKind::ConnectionReset)
}

/// Returns an error page as gateways write them.
fn error_page(status: StatusCode) -> Response {
    let body = format!(
        "<html>\r\n<head><title>{status}</title></head>\r\n<body>\r\n\
         <center><h1>{status}</h1></center>\r\n</body>\r\n</html>\r\n"
    );
    (status, [(CONTENT_TYPE, "text/html")], body).into_response()
}

async fn set_fault(
    State(simulator): State<Arc<Simulator>>,
    Path(appid): Path<String>,
    body: String,
) -> Response {
    let Some(appid) = find_app(&simulator, &appid) else {
        return not_found(&appid);
    };
    match body.parse::<Fault>() {
        Ok(fault) => {
            simulator.set_fault(&appid, fault);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(problem) => (StatusCode::BAD_REQUEST, format!("{problem}\n")).into_response(),
    }
}

async fn clear_faults(
    State(simulator): State<Arc<Simulator>>,
    Path(appid): Path<String>,
) -> Response {
    let Some(appid) = find_app(&simulator, &appid) else {
        return not_found(&appid);
    };
    simulator.clear_faults(&appid);
    StatusCode::NO_CONTENT.into_response()
}

async fn cloudbase_token(
    State(simulator): State<Arc<Simulator>>,
    Path(appid): Path<String>,
) -> Response {
    match find_app(&simulator, &appid) {
        Some(appid) => simulator.cloudbase_token(&appid).into_response(),
        None => not_found(&appid),
    }
}

/// Lists the apps with the secrets that a program needs to act as their backend.
async fn apps(State(simulator): State<Arc<Simulator>>) -> Response {
    let apps: BTreeMap<_, _> = simulator
        .apps
        .values()
        .map(|App { appid, users }| {
            let app = serde_json::json!({ "secret": secret_of(appid), "users": users });
            (appid.as_str(), app)
        })
        .collect();
    axum::Json(apps).into_response()
}

async fn requests(State(simulator): State<Arc<Simulator>>) -> Response {
    axum::Json(simulator.requests()).into_response()
}

fn find_app(simulator: &Simulator, appid: &str) -> Option<AppId> {
    let appid = appid.parse().ok()?;
    simulator.apps.contains_key(&appid).then_some(appid)
}

fn not_found(appid: &str) -> Response {
    (
        StatusCode::NOT_FOUND,
        format!("app `{appid}` is not simulated\n"),
    )
        .into_response()
}
