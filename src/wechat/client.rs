//! Sends requests to WeChat and repeats those that may succeed a moment later.
//!
//! Tells whoever listens of every request, and knows neither days that are due nor what becomes of
//! an answer.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Proxy};
use secrecy::ExposeSecret;
use tokio::sync::Semaphore;
use url::Url;

use super::access::Lent;
use super::errcode::{Reason, Then};
use super::wire::{self, Answer};
use super::{Access, Endpoint, Error, Failure, command};
use crate::calendar::Clock;
use crate::config::access::{self, Remote, TokenAccess, TokenEndpoint, TokenSource, Way};
use crate::config::{self, WeChat};
use crate::portrait::{AppId, Window};

/// Beyond this an answer is no portrait: the largest seen have some 50 KB.
const LARGEST_ANSWER: usize = 8 << 20;

/// How often a request is sent again while WeChat is busy or the connection breaks.
const RETRIES: u32 = 3;

/// The usual pause before a request is sent again.
pub const BACKOFF: Duration = Duration::from_millis(500);

/// Where WeChat has the portrait.
const PORTRAIT: &str = "datacube/getweanalysisappiduserportrait";

/// For so long no other host is tried first than the one that could be reached.
const REMEMBERED: TimeDelta = TimeDelta::minutes(10);

/// What the sidecar of cloud hosting puts on every answer that it relays.
const RELAYED: &str = "x-openapi-seqid";

/// How requests are sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where and how WeChat is asked.
    pub wechat: WeChat,
    /// How many requests may be under way at once.
    pub concurrency: usize,
    /// The pause before the first repetition; it doubles with each, and varies by half.
    pub backoff: Duration,
}

/// One request that was sent and answered, or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Where it went.
    pub endpoint: Endpoint,
    /// From sending it to the last byte of the answer.
    pub duration: Duration,
    /// WeChat's error code, or how it failed otherwise; none if it succeeded.
    pub failure: Option<String>,
}

/// Requests can't be sent as configured.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot prepare requests to WeChat; check the system's certificates, wechat.proxy_url and proxy variables"
)]
pub struct Unprepared(#[source] reqwest::Error);

/// Asks WeChat.
pub struct Client {
    /// For WeChat's own hosts.
    wechat: reqwest::Client,
    /// Takes the proxies that the environment names.
    others: reqwest::Client,
    /// Takes no proxy.
    direct: reqwest::Client,
    settings: Settings,
    reached: Reached,
    permits: Semaphore,
    clock: Clock,
    observe: Box<dyn Fn(&Request) + Send + Sync>,
}

/// To which of several hosts was switched, and when; forgotten after a while, so that the first gets
/// another chance.
#[derive(Default)]
struct Reached(Mutex<Option<(usize, DateTime<Utc>)>>);

impl Reached {
    fn first(&self, now: DateTime<Utc>) -> usize {
        let reached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = reached.filter(|(_, at)| (now - *at).abs() < REMEMBERED);
        fresh.map_or(0, |(index, _)| index)
    }

    fn at(&self, index: usize, now: DateTime<Utc>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((index, now));
    }
}

/// A request before it is sent.
struct Outgoing<'a> {
    endpoint: Endpoint,
    method: Method,
    /// The first that can be reached gets it.
    urls: Vec<Url>,
    http: &'a reqwest::Client,
    body: Option<String>,
    headers_file: Option<&'a Path>,
    /// Whether the sidecar of cloud hosting has to relay it.
    is_relayed: bool,
}

/// An answer before it is read.
struct Received {
    status: reqwest::StatusCode,
    is_relayed: bool,
    body: Vec<u8>,
}

impl Client {
    /// Prepares to ask; `observe` is told of every request.
    ///
    /// # Errors
    ///
    /// Certificates can't be used, the system's or those configured, or a proxy is wrong, that of the
    /// environment or the one configured.
    pub fn new(
        settings: Settings,
        clock: Clock,
        observe: impl Fn(&Request) + Send + Sync + 'static,
    ) -> Result<Self, Unprepared> {
        // Fails only where somebody installed one before, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let wechat = &settings.wechat;
        let builder = || {
            let mut builder = reqwest::Client::builder()
                .user_agent(concat!(
                    env!("CARGO_PKG_NAME"),
                    "/",
                    env!("CARGO_PKG_VERSION")
                ))
                .timeout(wechat.timeout)
                // A redirect would carry the token to wherever it points.
                .redirect(reqwest::redirect::Policy::none())
                .referer(false);
            if wechat.base_urls.len() > 1 {
                // Leaves time for the next one.
                builder = builder.connect_timeout(wechat.timeout / 2);
            }
            if let Some(ca) = &wechat.ca {
                let certificates = reqwest::Certificate::from_pem_bundle(ca)?;
                builder = builder.tls_certs_merge(certificates);
            }
            Ok::<_, reqwest::Error>(builder)
        };
        let (others, direct) = (builder()?.build()?, builder()?.no_proxy().build()?);
        let through_proxy = match &wechat.proxy_url {
            Some(url) => builder()?
                .proxy(Proxy::all(url.expose().clone())?)
                .build()?,
            None => others.clone(),
        };
        let permits = Semaphore::new(settings.concurrency);
        Ok(Self {
            wechat: through_proxy,
            others,
            direct,
            settings,
            reached: Reached::default(),
            permits,
            clock,
            observe: Box::new(observe),
        })
    }

    /// Asks for the portrait of the window that ends on `reference_date`.
    ///
    /// A refused token is replaced and the portrait asked for once more; what is likely to succeed
    /// a moment later is tried a few times.
    ///
    /// # Errors
    ///
    /// Whatever is wrong after that.
    pub async fn portrait(
        &self,
        access: &Access,
        window: Window,
        reference_date: NaiveDate,
    ) -> Result<Answer, Error> {
        let ask = async |lent: Option<&Lent>| {
            let request = self.for_portrait(access.way(), lent, window, reference_date);
            let read = |body: &[u8]| match request.endpoint {
                Endpoint::Function => wire::of_function(body, window, reference_date),
                _ => wire::portrait(body, window, reference_date),
            };
            self.call(&request, read).await
        };
        let Way::Token(token) = access.way() else {
            return ask(None).await;
        };
        let borrow = async || {
            let token = async || self.token(access, token).await;
            access.token((self.clock)(), token).await
        };
        let lent = borrow().await?;
        match ask(Some(&lent)).await {
            // Once and no more: whole quotas have been lost to loops here.
            Err(error) if error.then() == Then::NewToken => {
                access.forget(&lent).await;
                let lent = borrow().await?;
                let result = ask(Some(&lent)).await;
                if result
                    .as_ref()
                    .is_err_and(|error| error.then() == Then::NewToken)
                {
                    access.distrust(&lent).await;
                }
                result
            }
            result => result,
        }
    }

    /// Prepares the request for a portrait, with the token if the app has one.
    fn for_portrait<'a>(
        &'a self,
        way: &'a Way,
        lent: Option<&Lent>,
        window: Window,
        reference_date: NaiveDate,
    ) -> Outgoing<'a> {
        let body = wire::portrait_request(window, reference_date);
        let mut request = match way {
            Way::PortraitUrl(remote) => {
                let body = wire::function_event(window, reference_date);
                return self.to_remote(Endpoint::Portrait, remote, Some(&body));
            }
            Way::CloudHosting => Outgoing {
                http: &self.direct,
                is_relayed: true,
                ..self.to_wechat(Endpoint::Portrait, PORTRAIT, Some(&body))
            },
            Way::Token(TokenAccess { function: None, .. }) => {
                self.to_wechat(Endpoint::Portrait, PORTRAIT, Some(&body))
            }
            Way::Token(TokenAccess {
                function: Some(_), ..
            }) => {
                let body = wire::function_event(window, reference_date);
                self.to_wechat(Endpoint::Function, "tcb/invokecloudfunction", Some(&body))
            }
        };
        for url in &mut request.urls {
            if request.is_relayed {
                // The sidecar can't look into TLS.
                let _ = url.set_scheme("http");
            }
            let Way::Token(token) = way else { continue };
            let mut query = url.query_pairs_mut();
            query.extend_pairs(lent.map(|lent| (&token.parameter, lent.token.expose_secret())));
            if let Some(function) = &token.function {
                query.append_pair("env", &function.env);
                query.append_pair("name", &function.name);
            }
        }
        request
    }

    /// Gets a token from where the app has its tokens.
    async fn token(&self, access: &Access, token: &TokenAccess) -> Result<wire::Token, Error> {
        match &token.source {
            TokenSource::Secret(secret, endpoint) => {
                let secret = access.secret(secret).await?;
                let (appid, secret) = (access.appid(), secret.expose_secret());
                let request = match endpoint {
                    TokenEndpoint::Stable => {
                        // Taking nobody's token away, as force_refresh would.
                        let body = wire::stable_token_request(appid, secret);
                        self.to_wechat(Endpoint::Token, "cgi-bin/stable_token", Some(&body))
                    }
                    TokenEndpoint::Old => {
                        let mut request = self.to_wechat(Endpoint::Token, "cgi-bin/token", None);
                        for url in &mut request.urls {
                            url.query_pairs_mut()
                                .append_pair("grant_type", "client_credential")
                                .append_pair("appid", appid.as_str())
                                .append_pair("secret", secret);
                        }
                        request
                    }
                };
                self.call(&request, wire::token).await
            }
            TokenSource::Url(remote) => {
                let request = self.to_remote(Endpoint::Token, remote, None);
                let token = self.call(&request, wire::given_token).await;
                token.map_err(|error| passed_on(&access.peer(Endpoint::Token).0, error))
            }
            TokenSource::File(path) => {
                let mut retries = 0;
                loop {
                    let text = access.read(path).await;
                    let text = text.map(|text| text.expose_secret().as_bytes().to_owned());
                    match given(&format!("token_file {}", path.display()), text) {
                        // It may be about to be written.
                        Err(_) if retries < RETRIES => self.pause(&mut retries).await,
                        token => {
                            // It may be written again at any time, whatever its life.
                            return token.map(|token| wire::Token {
                                expires_in: None,
                                ..token
                            });
                        }
                    }
                }
            }
            TokenSource::Command(words) => {
                let permit = self.permits.acquire().await;
                let token = by_command(access.appid(), words).await;
                drop(permit);
                token
            }
        }
    }

    /// Prepares a request to WeChat.
    fn to_wechat(
        &self,
        endpoint: Endpoint,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Outgoing<'_> {
        let settings = &self.settings.wechat;
        let urls = settings.base_urls.iter().map(|base| {
            let mut url = base.clone();
            url.set_path(&format!("{}{path}", base.path()));
            url
        });
        let urls: Vec<Url> = urls.collect();
        let is_here = settings.proxy_url.is_none() && urls.iter().all(config::is_loopback);
        Outgoing {
            endpoint,
            method: body.map_or(Method::GET, |_| Method::POST),
            urls,
            http: if is_here { &self.direct } else { &self.wechat },
            body: body.map(ToString::to_string),
            headers_file: None,
            is_relayed: false,
        }
    }

    /// Prepares a request to an address that is not WeChat's.
    fn to_remote<'a>(
        &'a self,
        endpoint: Endpoint,
        remote: &'a Remote,
        body: Option<&serde_json::Value>,
    ) -> Outgoing<'a> {
        let url = remote.url.expose();
        Outgoing {
            endpoint,
            method: body.map_or(Method::GET, |_| Method::POST),
            urls: vec![url.clone()],
            http: if config::is_loopback(url) {
                &self.direct
            } else {
                &self.others
            },
            body: body.map(ToString::to_string),
            headers_file: remote.headers_file.as_deref(),
            is_relayed: false,
        }
    }

    /// Sends a request until it succeeds, fails for good, or has failed often enough.
    async fn call<T>(
        &self,
        request: &Outgoing<'_>,
        read: impl Fn(&[u8]) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut retries = 0;
        loop {
            match self.reach(request, &read).await {
                Err(error) if error.is_passing() && retries < RETRIES => {
                    self.pause(&mut retries).await;
                }
                result => return result,
            }
        }
    }

    /// Waits before something is tried again.
    async fn pause(&self, retries: &mut u32) {
        let pause = self.settings.backoff * 2_u32.pow(*retries);
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
        *retries += 1;
    }

    /// Sends a request to the first of its addresses that can be reached, beginning with the one that
    /// was switched to lately.
    async fn reach<T>(
        &self,
        request: &Outgoing<'_>,
        read: &impl Fn(&[u8]) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let urls = &request.urls;
        let first = self.reached.first((self.clock)()) % urls.len();
        let mut result = self.exchange(request, &urls[first], read).await;
        for index in 1..urls.len() {
            if !result.as_ref().is_err_and(Error::is_unreached) {
                break;
            }
            let index = (first + index) % urls.len();
            result = self.exchange(request, &urls[index], read).await;
            if !result.as_ref().is_err_and(Error::is_unreached) {
                let (from, to) = (host(&urls[first]), host(&urls[index]));
                tracing::warn!(from, to, "WeChat is asked at another host");
                self.reached.at(index, (self.clock)());
            }
        }
        result
    }

    /// Sends a request once, reads the answer, and tells how it went.
    async fn exchange<T>(
        &self,
        request: &Outgoing<'_>,
        url: &Url,
        read: &impl Fn(&[u8]) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let endpoint = request.endpoint;
        let headers = headers(request.headers_file).await;
        let headers =
            headers.map_err(|problem| Error::Unusable(endpoint, Reason::Configuration, problem))?;
        // Held for one request only, so that an app that waits to try again delays nobody.
        let permit = self.permits.acquire().await;
        let start = Instant::now();
        let result = match send(request, url, headers).await {
            Err(error) => Err(error),
            Ok(received) => match read(&received.body) {
                // WeChat refuses with status 200; a gateway with a page of its own.
                Err(error @ Error::Refused(_)) => Err(error),
                _ if !received.status.is_success() => {
                    let failure = Failure::Status(received.status.as_u16());
                    Err(Error::failed(endpoint, failure))
                }
                result => result,
            }
            .map_err(|error| {
                if request.is_relayed && !received.is_relayed {
                    Error::NotRelayed(Box::new(error))
                } else {
                    error
                }
            }),
        };
        drop(permit);
        let duration = start.elapsed();
        let failure = result.as_ref().err().and_then(Error::request_failure);
        tracing::debug!(%endpoint, ?duration, failure, "WeChat was asked");
        (self.observe)(&Request {
            endpoint,
            duration,
            failure,
        });
        result
    }
}

async fn send(request: &Outgoing<'_>, url: &Url, headers: HeaderMap) -> Result<Received, Error> {
    let broken = |error| Error::broken(request.endpoint, error);
    let mut builder = request
        .http
        .request(request.method.clone(), url.clone())
        .headers(headers);
    if let Some(body) = &request.body {
        builder = builder
            .header(CONTENT_TYPE, "application/json")
            .body(body.clone());
    }
    let mut response = builder.send().await.map_err(broken)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if body.len() + chunk.len() > LARGEST_ANSWER {
            let problem = "it is larger than 8 MiB".to_owned();
            return Err(Error::Decode(request.endpoint, problem));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Received {
        status: response.status(),
        is_relayed: response.headers().contains_key(RELAYED),
        body,
    })
}

/// Reads the headers that go with a request.
async fn headers(file: Option<&Path>) -> Result<HeaderMap, String> {
    let Some(file) = file.map(Path::to_owned) else {
        return Ok(HeaderMap::new());
    };
    let read = tokio::task::spawn_blocking(move || access::headers(&file)).await;
    let lines = read.unwrap_or_else(|error| Err(error.to_string()))?;
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(mut value)) = (name, HeaderValue::from_str(value.expose_secret())) {
            value.set_sensitive(true);
            headers.append(name, value);
        }
    }
    Ok(headers)
}

/// Gets a token from a program.
pub(super) async fn by_command(appid: &AppId, words: &[String]) -> Result<wire::Token, Error> {
    let output = command::run(appid, words).await;
    let program = words.first().map_or("", String::as_str);
    given(&format!("token_command {program}"), output)
}

/// Reads what a source of tokens gave.
pub(super) fn given(source: &str, output: Result<Vec<u8>, String>) -> Result<wire::Token, Error> {
    let no_token = |problem| Error::Unusable(Endpoint::Token, Reason::Token, problem);
    let output = output.map_err(no_token)?;
    wire::given_token(&output).map_err(|error| match error {
        Error::Decode(_, problem) => no_token(format!("{source} gave no token: {problem}")),
        error => passed_on(source, error),
    })
}

/// Takes a refusal that stands in the place of a token for what it is: WeChat said it to somebody
/// else, who may have a token at any time.
fn passed_on(source: &str, error: Error) -> Error {
    let Error::Refused(refusal) = error else {
        return error;
    };
    let problem = format!(
        "{source} gave no token, but a refusal of WeChat: errcode {}, {}",
        refusal.errcode, refusal.errmsg
    );
    Error::Unusable(Endpoint::Token, Reason::Token, problem)
}

impl Error {
    /// Tells whether the same request may succeed a moment later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Transport { failure, .. } => failure.is_passing(),
            Self::NotRelayed(error) => error.is_passing(),
            error => error.then() == Then::Soon,
        }
    }

    /// Tells whether no connection came to be, so that nobody has heard of the request.
    fn is_unreached(&self) -> bool {
        match self {
            Self::Transport {
                source: Some(error),
                ..
            } => error.is_connect(),
            _ => false,
        }
    }

    /// Returns the label value for a request that failed; an empty portrait is none.
    fn request_failure(&self) -> Option<String> {
        match self {
            Self::Refused(refusal) => Some(refusal.errcode.to_string()),
            Self::Transport { failure, .. } => Some(failure.to_string()),
            Self::Decode(..) => Some(Failure::Body.to_string()),
            Self::NotRelayed(error) => error.request_failure(),
            Self::Empty | Self::Unusable(..) => None,
        }
    }

    pub(super) fn failed(endpoint: Endpoint, failure: Failure) -> Self {
        Self::Transport {
            endpoint,
            failure,
            host: None,
            source: None,
        }
    }

    /// Takes the address off, for the token is in it.
    fn broken(endpoint: Endpoint, error: reqwest::Error) -> Self {
        let failure = if error.is_timeout() {
            Failure::Timeout
        } else if error.is_connect() || error.is_request() {
            Failure::Connect
        } else {
            Failure::Body
        };
        Self::Transport {
            endpoint,
            failure,
            host: error.url().map(host),
            source: Some(error.without_url()),
        }
    }
}

/// Returns what may be told of an address.
fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port_or_known_default()
        .map_or(host.to_owned(), |port| format!("{host}:{port}"))
}

impl From<reqwest::Error> for Unprepared {
    fn from(error: reqwest::Error) -> Self {
        Self(error.without_url())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_host_gets_another_chance_after_a_while() {
        let now: DateTime<Utc> = "2026-11-22T02:00:00Z".parse().unwrap();
        let reached = Reached::default();
        assert_eq!(reached.first(now), 0);
        reached.at(1, now);
        assert_eq!(reached.first(now + TimeDelta::minutes(9)), 1);
        assert_eq!(reached.first(now + TimeDelta::minutes(10)), 0);
        assert_eq!(reached.first(now - TimeDelta::minutes(10)), 0);
    }
}
