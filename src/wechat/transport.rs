//! Sends requests: repeats those that may succeed a moment later, fails over to other hosts, and
//! limits how many are in flight to each host.
//!
//! Reports every request to an observer. Does not depend on tokens or the contents of an answer.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Proxy};
use secrecy::ExposeSecret as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

use super::access::Caller;
use super::diagnosis::Diagnosis;
use super::errcodes::{Reason, Retry};
use super::error::{DecodeError, Error, Failure, RequestFailure, host_of};
use super::redact::Redactor;
use super::requests::{Endpoint, Wanted};
use super::sanitise::MAX_RESPONSE_BYTES;
use crate::calendar::Clock;
use crate::config::access::{self, HttpEndpoint};
use crate::config::{self, WeChat};

/// How many times a request is repeated while WeChat is busy or the connection fails.
const RETRIES: u32 = 3;

/// The usual pause before a request is repeated.
pub const BACKOFF: Duration = Duration::from_millis(500);

/// How long to keep using the host that was failed over to before the first one is retried.
const FAILOVER_TTL: TimeDelta = TimeDelta::minutes(10);

/// The header that the sidecar of cloud hosting adds to every answer that it relays.
const RELAY_HEADER: &str = "x-openapi-seqid";

/// How requests are sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// WeChat's hosts and how to reach them.
    pub wechat: WeChat,
    /// How many requests may be in flight at once to WeChat, and to each other host.
    pub concurrency: usize,
    /// The pause before the first repetition; it doubles with each, and varies by half.
    pub backoff: Duration,
    /// Variables of the environment that token commands do not inherit, as they have secrets of apps.
    pub secret_variables: Vec<String>,
}

/// One request that was sent, whether or not it succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its endpoint.
    pub endpoint: Endpoint,
    /// From sending it to the last byte of the answer.
    pub duration: Duration,
    /// How it failed; `None` if it succeeded.
    pub failure: Option<RequestFailure>,
}

/// Requests can't be sent as configured.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot prepare requests to WeChat; check the system's certificates, wechat.proxy_url and proxy variables"
)]
pub struct BuildError(#[source] reqwest::Error);

impl From<reqwest::Error> for BuildError {
    fn from(error: reqwest::Error) -> Self {
        Self(error.without_url())
    }
}

/// Chooses the cryptography of TLS for the whole process, which must be done before the first
/// [`Client`](super::Client).
pub fn install_crypto_provider() {
    // Fails only where one is installed already, which is equivalent.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Sends requests.
pub(super) struct Transport {
    /// For WeChat's own hosts.
    wechat: reqwest::Client,
    /// Uses the proxies that the environment names.
    others: reqwest::Client,
    /// Uses no proxy.
    direct: reqwest::Client,
    pub(super) settings: Settings,
    preferred: PreferredHost,
    permits: Permits,
    clock: Clock,
    observe: Box<dyn Fn(&Request) + Send + Sync>,
}

/// The host that was failed over to, and when; forgotten after a while, so that the first one is
/// retried.
#[derive(Default)]
struct PreferredHost(Mutex<Option<(usize, DateTime<Utc>)>>);

impl PreferredHost {
    fn get(&self, now: DateTime<Utc>) -> usize {
        let preferred = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = preferred.filter(|(_, since)| (now - *since).abs() < FAILOVER_TTL);
        fresh.map_or(0, |(index, _)| index)
    }

    fn set(&self, index: usize, now: DateTime<Utc>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((index, now));
    }
}

/// What a permit is for. Requests only wait for others to the same upstream, so that a slow one delays
/// no others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Upstream {
    /// All of WeChat's hosts.
    WeChat,
    /// The host and port of a `token_url` or `portrait_url`.
    Host(String),
    /// The program of a `token_command`.
    Program(String),
}

/// Limits how many requests are in flight to each upstream.
struct Permits {
    concurrency: usize,
    upstreams: Mutex<HashMap<Upstream, Arc<Semaphore>>>,
}

impl Permits {
    fn new(concurrency: usize) -> Self {
        Self {
            concurrency,
            upstreams: Mutex::default(),
        }
    }

    /// Waits until one more request may be sent; `None` never happens, as no semaphore is closed.
    async fn acquire(&self, upstream: &Upstream) -> Option<OwnedSemaphorePermit> {
        self.of(upstream).acquire_owned().await.ok()
    }

    fn of(&self, upstream: &Upstream) -> Arc<Semaphore> {
        let upstreams = self.upstreams.lock();
        let mut upstreams = upstreams.unwrap_or_else(PoisonError::into_inner);
        if let Some(semaphore) = upstreams.get(upstream) {
            return Arc::clone(semaphore);
        }
        // A reload may have removed upstreams: keep only those in use.
        upstreams.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
        let semaphore = Arc::new(Semaphore::new(self.concurrency));
        upstreams.insert(upstream.clone(), Arc::clone(&semaphore));
        semaphore
    }
}

/// What all requests for one portrait have in common.
#[derive(Clone, Copy)]
pub(super) struct Purpose<'a> {
    pub(super) caller: &'a Caller,
    pub(super) wanted: Wanted,
}

/// A request before it is sent.
pub(super) struct RequestSpec<'a> {
    pub(super) purpose: Purpose<'a>,
    pub(super) endpoint: Endpoint,
    /// The first one that can be reached gets the request.
    pub(super) urls: Vec<Url>,
    /// Whether the sidecar of cloud hosting must relay it.
    pub(super) is_relayed: bool,
    /// What the answer must not repeat.
    pub(super) redactor: Redactor,
    method: Method,
    http: &'a reqwest::Client,
    upstream: Upstream,
    body: Option<String>,
    headers_file: Option<&'a Path>,
}

/// An answer before it is decoded.
struct RawResponse {
    status: reqwest::StatusCode,
    is_relayed: bool,
    body: Vec<u8>,
}

impl Transport {
    /// Prepares to send requests; `observe` is called after every one.
    ///
    /// # Errors
    ///
    /// The certificates of the system or of the configuration can't be used, or the proxy of the
    /// environment or of the configuration is invalid.
    pub(super) fn new(
        settings: Settings,
        clock: Clock,
        observe: impl Fn(&Request) + Send + Sync + 'static,
    ) -> Result<Self, BuildError> {
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
                // Leaves time for the next host.
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
        let permits = Permits::new(settings.concurrency);
        Ok(Self {
            wechat: through_proxy,
            others,
            direct,
            settings,
            preferred: PreferredHost::default(),
            permits,
            clock,
            observe: Box::new(observe),
        })
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        (self.clock)()
    }

    /// Prepares a request to WeChat.
    pub(super) fn to_wechat<'a>(
        &'a self,
        purpose: Purpose<'a>,
        endpoint: Endpoint,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> RequestSpec<'a> {
        let settings = &self.settings.wechat;
        let urls = settings.base_urls.iter().map(|base| {
            let mut url = base.clone();
            url.set_path(&format!("{}{path}", base.path()));
            url
        });
        let urls: Vec<Url> = urls.collect();
        let is_here = settings.proxy_url.is_none() && urls.iter().all(config::is_loopback);
        RequestSpec {
            purpose,
            endpoint,
            urls,
            is_relayed: false,
            redactor: Redactor::default(),
            method: body.map_or(Method::GET, |_| Method::POST),
            http: if is_here { &self.direct } else { &self.wechat },
            upstream: Upstream::WeChat,
            body: body.map(ToString::to_string),
            headers_file: None,
        }
    }

    /// Prepares a request to WeChat that the sidecar of cloud hosting relays.
    pub(super) fn to_sidecar<'a>(
        &'a self,
        purpose: Purpose<'a>,
        endpoint: Endpoint,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> RequestSpec<'a> {
        let mut request = self.to_wechat(purpose, endpoint, path, body);
        request.http = &self.direct;
        request.is_relayed = true;
        for url in &mut request.urls {
            // The sidecar can't look into TLS.
            let _ = url.set_scheme("http");
        }
        request
    }

    /// Prepares a request to an endpoint of another host than WeChat.
    pub(super) fn to_endpoint<'a>(
        &'a self,
        purpose: Purpose<'a>,
        endpoint: Endpoint,
        at: &'a HttpEndpoint,
        body: Option<&serde_json::Value>,
    ) -> RequestSpec<'a> {
        let url = at.url.expose();
        let mut redactor = Redactor::default();
        // A user's key may be anywhere in the URL, and short.
        redactor.add(url.password().unwrap_or_default());
        for (_, value) in url.query_pairs().filter(|(_, value)| value.len() >= 8) {
            redactor.add(&value);
        }
        RequestSpec {
            purpose,
            endpoint,
            urls: vec![url.clone()],
            is_relayed: false,
            redactor,
            method: body.map_or(Method::GET, |_| Method::POST),
            http: if config::is_loopback(url) {
                &self.direct
            } else {
                &self.others
            },
            upstream: Upstream::Host(host_of(url)),
            body: body.map(ToString::to_string),
            headers_file: at.headers_file.as_deref(),
        }
    }

    /// Sends a request until it succeeds, fails for good, or has failed too often.
    pub(super) async fn send_with_retries<T>(
        &self,
        request: &RequestSpec<'_>,
        decode: impl Fn(&[u8], &Redactor) -> Result<T, DecodeError>,
    ) -> Result<T, Diagnosis> {
        let mut retries = 0;
        loop {
            match self.send_with_failover(request, &decode).await {
                Err(failed) if failed.retry == Retry::Soon && self.backoff(&mut retries).await => {}
                result => return result,
            }
        }
    }

    /// Waits before the next repetition and counts it; returns `false` at once if there were too many.
    pub(super) async fn backoff(&self, retries: &mut u32) -> bool {
        if *retries == RETRIES {
            return false;
        }
        let pause = self.settings.backoff * 2_u32.pow(*retries);
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
        *retries += 1;
        true
    }

    /// Waits for a permit. It is held for one request only, so that an app that waits before a
    /// repetition does not delay others.
    pub(super) async fn permit(&self, upstream: &Upstream) -> Option<OwnedSemaphorePermit> {
        self.permits.acquire(upstream).await
    }

    /// Sends a request to the first of its hosts that can be reached, beginning with the one that was
    /// failed over to lately.
    async fn send_with_failover<T>(
        &self,
        request: &RequestSpec<'_>,
        decode: &impl Fn(&[u8], &Redactor) -> Result<T, DecodeError>,
    ) -> Result<T, Diagnosis> {
        let is_unreachable = |result: &Result<T, Diagnosis>| {
            let failure = result.as_ref().err().and_then(|failed| failed.failure);
            matches!(failure, Some(RequestFailure::Transport(failure)) if failure.is_unreachable())
        };
        let urls = &request.urls;
        let first = self.preferred.get(self.now()) % urls.len();
        let mut result = self.send_once(request, &urls[first], decode).await;
        for index in 1..urls.len() {
            if !is_unreachable(&result) {
                break;
            }
            let index = (first + index) % urls.len();
            result = self.send_once(request, &urls[index], decode).await;
            if !is_unreachable(&result) {
                let (from, to) = (host_of(&urls[first]), host_of(&urls[index]));
                tracing::warn!(from, to, "failed over to another host of WeChat");
                self.preferred.set(index, self.now());
            }
        }
        result
    }

    /// Sends a request once, decodes the answer, and reports the request to the observer.
    async fn send_once<T>(
        &self,
        request: &RequestSpec<'_>,
        url: &Url,
        decode: &impl Fn(&[u8], &Redactor) -> Result<T, DecodeError>,
    ) -> Result<T, Diagnosis> {
        let endpoint = request.endpoint;
        let Purpose { caller, wanted } = request.purpose;
        let headers = read_headers(request.headers_file)
            .await
            .map_err(|problem| {
                Error::Unusable(endpoint, Reason::Configuration, problem).diagnose(caller)
            })?;
        let permit = self.permit(&request.upstream).await;
        let start = Instant::now();
        let result = match send(request, url, headers).await {
            Err(error) => Err(error),
            Ok(response) => match decode(&response.body, &request.redactor) {
                // WeChat refuses with status 200; a gateway with a page of its own.
                Err(error @ DecodeError::Refused(_)) => Err(error.into()),
                _ if !response.status.is_success() => {
                    let failure = Failure::Status(response.status.as_u16());
                    Err(Error::failed(endpoint, failure))
                }
                result => result.map_err(Error::from),
            }
            .map_err(|error| {
                if request.is_relayed && !response.is_relayed {
                    Error::NotRelayed(Box::new(error))
                } else {
                    error
                }
            }),
        };
        drop(permit);
        let duration = start.elapsed();
        let result = result.map_err(|error| error.diagnose(caller));
        let failure = result.as_ref().err().and_then(|failed| failed.failure);
        tracing::debug!(
            appid = %caller.appid,
            app = caller.name,
            window = %wanted.window,
            day = %wanted.day,
            %endpoint,
            ?duration,
            failure = failure.map(|failure| failure.to_string()),
            "request finished"
        );
        (self.observe)(&Request {
            endpoint,
            duration,
            failure,
        });
        result
    }
}

async fn send(
    request: &RequestSpec<'_>,
    url: &Url,
    headers: HeaderMap,
) -> Result<RawResponse, Error> {
    let failed = |error| Error::from_reqwest(request.endpoint, error);
    let mut builder = request
        .http
        .request(request.method.clone(), url.clone())
        .headers(headers);
    if let Some(body) = &request.body {
        builder = builder
            .header(CONTENT_TYPE, "application/json")
            .body(body.clone());
    }
    let mut response = builder.send().await.map_err(failed)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
            let problem = "it is larger than 8 MiB".to_owned();
            return Err(DecodeError::Unreadable(request.endpoint, problem).into());
        }
        if body.len() + chunk.len() > body.capacity() {
            // Doubled, but never beyond what may be read.
            let capacity =
                (2 * body.capacity()).clamp(body.len() + chunk.len(), MAX_RESPONSE_BYTES);
            body.reserve_exact(capacity - body.len());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(RawResponse {
        status: response.status(),
        is_relayed: response.headers().contains_key(RELAY_HEADER),
        body,
    })
}

/// Reads the headers that are sent with a request.
async fn read_headers(file: Option<&Path>) -> Result<HeaderMap, String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_host_is_retried_after_a_while() {
        let now: DateTime<Utc> = "2026-11-22T02:00:00Z".parse().unwrap();
        let preferred = PreferredHost::default();
        assert_eq!(preferred.get(now), 0);
        preferred.set(1, now);
        assert_eq!(preferred.get(now + TimeDelta::minutes(9)), 1);
        assert_eq!(preferred.get(now + TimeDelta::minutes(10)), 0);
        assert_eq!(preferred.get(now - TimeDelta::minutes(10)), 0);
    }

    #[tokio::test]
    async fn an_upstream_whose_permits_are_taken_delays_no_other() {
        let permits = Permits::new(1);
        let slow = Upstream::Host("example.com:443".to_owned());
        let held = permits.acquire(&slow).await;
        assert!(permits.of(&slow).try_acquire().is_err());
        assert!(permits.of(&Upstream::WeChat).try_acquire().is_ok());
        drop(held);
        assert!(permits.of(&slow).try_acquire().is_ok());
        // Unused ones are not kept.
        for number in 0..100 {
            permits.of(&Upstream::Program(number.to_string()));
        }
        assert!(permits.upstreams.lock().unwrap().len() < 3);
    }
}
