//! The simulated WeChat over HTTP, with faults that break answers and connections.
//!
//! Beside WeChat's own paths there is `/simulator/…`, to set faults and read counts from outside.
//! What is answered to whom is decided in `mod`.

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

use super::fault::{self, Fault, Kind};
use super::function::{self, FUNCTION_ENV, FUNCTION_NAME, Spelling, Wrap};
use super::refusal::Refusal;
use super::tokens::Parameter;
use super::{App, Endpoint, Simulator, dice, object, secret_of, token_answer, written};
use crate::portrait::AppId;

/// Stands on answers to requests that cloud hosting gave a token.
const SEQUENCE: HeaderName = HeaderName::from_static("x-openapi-seqid");

/// Builds the routes of the simulated WeChat.
///
/// | path | what it plays |
/// |---|---|
/// | `POST /cgi-bin/stable_token`, `GET /cgi-bin/token` | WeChat's tokens |
/// | `POST /datacube/getweanalysisappiduserportrait` | WeChat's portraits, for either kind of token, or for none in cloud hosting |
/// | `POST /tcb/invokecloudfunction` | WeChat's way to the cloud function [`FUNCTION_NAME`] in [`FUNCTION_ENV`] |
/// | `POST /function/APPID` | that function's own address; `?wrap=data`, `result` or `resp_data`, `?case=snake` |
/// | `GET /simulator/tokens/APPID` | a token server that shares the stable token; `?format=json`, `?force_refresh=true` |
/// | `GET /simulator/cloudbase-token/APPID` | what writes a container's token file |
/// | `PUT` and `DELETE /simulator/faults/APPID` | nothing: sets and clears faults |
/// | `GET /simulator/apps`, `GET /simulator/requests` | nothing: tells secrets and counts |
pub fn create_app(simulator: Arc<Simulator>) -> Router {
    Router::new()
        .route("/cgi-bin/stable_token", any(stable_token))
        .route("/cgi-bin/token", any(old_token))
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
        .fallback(|| async { page(StatusCode::NOT_FOUND) })
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

/// Logs what was asked for, without the query, which holds tokens and secrets.
async fn log(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    tracing::debug!(%method, path, status, "simulated WeChat was asked");
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
    give_token(&simulator, appid.as_ref(), answer).await
}

async fn old_token(
    State(simulator): State<Arc<Simulator>>,
    method: Method,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let appid = query.get("appid").and_then(|appid| appid.parse().ok());
    let answer = || match method {
        Method::GET => simulator.old_token(&query),
        _ => Err(43001),
    };
    give_token(&simulator, appid.as_ref(), answer).await
}

/// What is wanted of a token server.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Wanted {
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
    Query(wanted): Query<Wanted>,
) -> Response {
    let Some(appid) = known(&simulator, &appid) else {
        return unknown(&appid);
    };
    let answer = || {
        let (token, seconds) = simulator.stable(&appid, wanted.force_refresh);
        Ok(match wanted.format {
            Format::Text => format!("{token}\n"),
            Format::Json => token_answer((token, seconds)),
        })
    };
    let mut response = give_token(&simulator, Some(&appid), answer).await;
    if wanted.format == Format::Text && response.status().is_success() {
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, text);
    }
    response
}

async fn give_token(
    simulator: &Simulator,
    appid: Option<&AppId>,
    answer: impl FnOnce() -> Result<String, i64>,
) -> Response {
    let kind = simulator.strike(appid, Endpoint::Token);
    let body = match refusal(kind.as_ref(), appid, "") {
        Some(refusal) => Err(refusal),
        None => answer().map_err(Refusal::from),
    };
    deliver(simulator, appid, kind, body).await
}

async fn portrait(
    State(simulator): State<Arc<Simulator>>,
    method: Method,
    Query(query): Query<HashMap<String, String>>,
    body: Bytes,
) -> Response {
    let token = carried(&query);
    let appid = match token {
        Some((_, token)) => simulator.state().tokens.owner(token).cloned(),
        None => simulator.settings.cloud_hosting.clone(),
    };
    let kind = simulator.strike(appid.as_ref(), Endpoint::Portrait);
    let relayed_for = appid
        .clone()
        .filter(|_| token.is_none() && kind != Some(Kind::Unrelayed));
    let is_relayed = relayed_for.is_some();
    let text = token.map_or("", |(_, token)| token);
    let body = match refusal(kind.as_ref(), appid.as_ref(), text) {
        Some(refusal) => Err(refusal),
        None if method != Method::POST => Err(43002.into()),
        None => relayed_for
            .map_or_else(|| simulator.asker(token), Ok)
            .map_err(Refusal::from)
            .and_then(|appid| figures(&simulator, &appid, kind.as_ref(), None, &body)),
    };
    let mut response = deliver(&simulator, appid.as_ref(), kind, body).await;
    // A gateway's page comes from before the relay.
    if is_relayed
        && response.status().is_success()
        && let Ok(id) = HeaderValue::try_from(simulator.request_id())
    {
        response.headers_mut().insert(SEQUENCE, id);
    }
    response
}

/// Answers the token that a request carries, and where.
fn carried(query: &HashMap<String, String>) -> Option<(Parameter, &str)> {
    [
        ("access_token", Parameter::Access),
        ("cloudbase_access_token", Parameter::Cloudbase),
    ]
    .into_iter()
    .find_map(|(name, parameter)| Some((parameter, query.get(name)?.as_str())))
}

/// Answers a portrait, spoiled if the fault is one that spoils figures.
fn figures(
    simulator: &Simulator,
    appid: &AppId,
    kind: Option<&Kind>,
    spelling: Option<Spelling>,
    body: &[u8],
) -> Result<String, Refusal> {
    let (answer, window, end) = simulator.portrait(appid, body)?;
    let answer = match kind {
        Some(kind) => kind.spoil(answer, window, end),
        None => written(&answer),
    };
    Ok(match (kind, spelling) {
        (Some(Kind::Camel), _) => Spelling::Camel.spell(&answer),
        (_, Some(spelling)) => spelling.spell(&answer),
        (_, None) => answer,
    })
}

async fn invoke_function(
    State(simulator): State<Arc<Simulator>>,
    method: Method,
    Query(query): Query<HashMap<String, String>>,
    event: Bytes,
) -> Response {
    let token = carried(&query).map_or("", |(_, token)| token);
    let appid = simulator.state().tokens.owner(token).cloned();
    let kind = simulator.strike(appid.as_ref(), Endpoint::Function);
    let body = match refusal(kind.as_ref(), appid.as_ref(), token) {
        Some(refusal) => Err(refusal),
        None if method != Method::POST => Err(43002.into()),
        None => invoked(&simulator, &query, &event).await,
    };
    deliver(&simulator, appid.as_ref(), kind, body).await
}

/// Runs the function for whoever may, and answers what WeChat tells of that.
async fn invoked(
    simulator: &Simulator,
    query: &HashMap<String, String>,
    event: &[u8],
) -> Result<String, Refusal> {
    let token = carried(query);
    let appid = simulator.asker(token)?;
    let text = |key| query.get(key).map_or("", String::as_str);
    match (text("env"), text("name")) {
        ("", _) | (_, "") => return Err(40101.into()),
        (FUNCTION_ENV, FUNCTION_NAME) => {}
        (FUNCTION_ENV, _) => return Err((-1000).into()),
        _ => return Err(85088.into()),
    }
    let kind = simulator.strike(Some(&appid), Endpoint::Portrait);
    let limit = simulator.settings.function_limit;
    if let Some(Kind::Delay(time)) = kind {
        tokio::time::sleep(time.min(limit)).await;
        if time >= limit {
            return Err((-604_102).into());
        }
    }
    let returned = match &kind {
        Some(Kind::Http(_) | Kind::Cut | Kind::Reset | Kind::Garbage | Kind::Huge) => {
            function::THROWN.to_owned()
        }
        kind => returned(simulator, &appid, kind.as_ref(), Spelling::Camel, event),
    };
    let returned = written(&returned);
    Ok(format!(
        r#"{{"errcode":0,"errmsg":"ok","resp_data":{returned}}}"#
    ))
}

/// How a function's own address is asked to answer.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Form {
    wrap: Wrap,
    case: Spelling,
}

async fn function(
    State(simulator): State<Arc<Simulator>>,
    Path(appid): Path<String>,
    Query(form): Query<Form>,
    event: Bytes,
) -> Response {
    let Some(appid) = known(&simulator, &appid) else {
        return unknown(&appid);
    };
    let kind = simulator.strike(Some(&appid), Endpoint::Portrait);
    let returned = returned(&simulator, &appid, kind.as_ref(), form.case, &event);
    let body = Ok(form.wrap.around(returned));
    deliver(&simulator, Some(&appid), kind, body).await
}

/// Answers what the function returns, be it an error.
fn returned(
    simulator: &Simulator,
    appid: &AppId,
    kind: Option<&Kind>,
    spelling: Spelling,
    event: &[u8],
) -> String {
    let asked = function::asked(event);
    let answer = match refusal(kind, Some(appid), "") {
        Some(refusal) => Err(refusal),
        None => figures(simulator, appid, kind, Some(spelling), asked.as_bytes()),
    };
    answer.unwrap_or_else(|refusal| function::caught(&refusal, &simulator.request_id()))
}

/// Answers the refusal that a fault asks for.
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

/// Sends an answer, or does with it what the fault says.
async fn deliver(
    simulator: &Simulator,
    appid: Option<&AppId>,
    kind: Option<Kind>,
    body: Result<String, Refusal>,
) -> Response {
    let body = body.unwrap_or_else(|refusal| refusal.write(&simulator.request_id()));
    let body = match kind {
        Some(Kind::Delay(time)) => {
            tokio::time::sleep(time).await;
            Body::from(body)
        }
        Some(Kind::Http(status)) => return page(status),
        Some(Kind::Cut) => return cut(body),
        // The error comes before the head is flushed: nothing at all is sent.
        Some(Kind::Reset) => Body::from_stream(stream::iter([Err::<Bytes, _>(broken())])),
        Some(Kind::Garbage) => Body::from(&b"\xff\xfe<\x00\x80 upstream \xc3\x28"[..]),
        Some(Kind::Huge) => Body::from_stream(stream::iter(fault::huge().map(io::Result::Ok))),
        _ => Body::from(body),
    };
    let content_type = match appid {
        Some(appid) if dice::hash("type", appid.as_str()).is_multiple_of(3) => "text/plain",
        _ => "application/json; encoding=utf-8",
    };
    ([(CONTENT_TYPE, content_type)], body).into_response()
}

/// Announces the whole answer, sends half of it, and ends the connection.
fn cut(body: String) -> Response {
    let whole = HeaderValue::from(body.len());
    let mut half = Bytes::from(body);
    half.truncate(half.len() / 2);
    let pieces = stream::unfold(Some(half), |half| async {
        if let Some(half) = half {
            return Some((Ok(half), None));
        }
        // Lets the server send what it has, before the error makes it drop that too.
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

/// Answers a page as gateways write them.
fn page(status: StatusCode) -> Response {
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
    let Some(appid) = known(&simulator, &appid) else {
        return unknown(&appid);
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
    let Some(appid) = known(&simulator, &appid) else {
        return unknown(&appid);
    };
    simulator.clear_faults(&appid);
    StatusCode::NO_CONTENT.into_response()
}

async fn cloudbase_token(
    State(simulator): State<Arc<Simulator>>,
    Path(appid): Path<String>,
) -> Response {
    match known(&simulator, &appid) {
        Some(appid) => simulator.cloudbase_token(&appid).into_response(),
        None => unknown(&appid),
    }
}

/// Lists the apps with the secrets that a program needs to play their backend.
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

fn known(simulator: &Simulator, appid: &str) -> Option<AppId> {
    let appid = appid.parse().ok()?;
    simulator.apps.contains_key(&appid).then_some(appid)
}

fn unknown(appid: &str) -> Response {
    (
        StatusCode::NOT_FOUND,
        format!("there is no app `{appid}`\n"),
    )
        .into_response()
}
