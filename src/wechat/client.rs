//! Sends requests to WeChat and repeats those that may succeed a moment later.
//!
//! Tells whoever listens of every request, and knows neither days that are due nor what becomes of
//! an answer.

use std::time::{Duration, Instant};

use chrono::NaiveDate;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;
use url::Url;

use super::errcode::Then;
use super::wire::{self, Answer};
use super::{Access, Endpoint, Error, Failure};
use crate::calendar::Clock;
use crate::config;
use crate::portrait::{AppId, Window};

/// Beyond this an answer is no portrait: the largest seen have some 50 KB.
const LARGEST_ANSWER: usize = 8 << 20;

/// How often a request is sent again while WeChat is busy or the connection breaks.
const RETRIES: u32 = 3;

/// The usual pause before a request is sent again.
pub const BACKOFF: Duration = Duration::from_millis(500);

/// How requests are sent.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Ends with a slash.
    pub base_url: Url,
    /// For one request, from the connection to the last byte.
    pub timeout: Duration,
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

/// Asks WeChat.
pub struct Client {
    http: reqwest::Client,
    settings: Settings,
    permits: Semaphore,
    clock: Clock,
    observe: Box<dyn Fn(&Request) + Send + Sync>,
}

impl Client {
    /// Prepares to ask; `observe` is told of every request.
    ///
    /// # Errors
    ///
    /// The system's certificates can't be used, or a proxy variable of the environment is wrong.
    pub fn new(
        settings: Settings,
        clock: Clock,
        observe: impl Fn(&Request) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        // Fails only where somebody installed one before, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut http = reqwest::Client::builder()
            .user_agent(concat!(
                env!("CARGO_PKG_NAME"),
                "/",
                env!("CARGO_PKG_VERSION")
            ))
            .timeout(settings.timeout)
            // A redirect would carry the token to wherever it points.
            .redirect(reqwest::redirect::Policy::none())
            .referer(false);
        if config::is_loopback(&settings.base_url) {
            http = http.no_proxy();
        }
        let http = http.build()?;
        let permits = Semaphore::new(settings.concurrency);
        Ok(Self {
            http,
            settings,
            permits,
            clock,
            observe: Box::new(observe),
        })
    }

    /// Asks for the portrait of the window that ends on `reference_date`, a Beijing day.
    ///
    /// # Errors
    ///
    /// What the last try came to, after a refused token was replaced once and a busy WeChat or a
    /// broken connection was tried a few times.
    pub async fn portrait(
        &self,
        access: &Access,
        window: Window,
        reference_date: NaiveDate,
    ) -> Result<Answer, Error> {
        let body = wire::portrait_request(window, reference_date);
        let ask = async || {
            let ask =
                async |appid: &AppId, secret: &SecretString| self.stable_token(appid, secret).await;
            let token = access.token((self.clock)(), ask).await?;
            let mut url = self.url("datacube/getweanalysisappiduserportrait");
            url.query_pairs_mut()
                .append_pair("access_token", token.expose_secret());
            let result = self
                .call(Endpoint::Portrait, &url, &body, |body| {
                    wire::portrait(body, window, reference_date)
                })
                .await;
            if result
                .as_ref()
                .is_err_and(|error| error.then() == Then::NewToken)
            {
                access.forget(&token).await;
            }
            result
        };
        match ask().await {
            // Once and no more: whole quotas have been lost to loops here.
            Err(error) if error.then() == Then::NewToken => ask().await,
            result => result,
        }
    }

    /// Asks for the token that all who use `stable_token` share; takes nobody's token away.
    async fn stable_token(
        &self,
        appid: &AppId,
        secret: &SecretString,
    ) -> Result<wire::Token, Error> {
        let body = serde_json::json!({
            "grant_type": "client_credential",
            "appid": appid,
            "secret": secret.expose_secret(),
            "force_refresh": false,
        });
        self.call(
            Endpoint::Token,
            &self.url("cgi-bin/stable_token"),
            &body,
            wire::token,
        )
        .await
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.settings.base_url.clone();
        url.set_path(&format!("{}{path}", url.path()));
        url
    }

    /// Sends a request until it succeeds, fails for good, or has failed often enough.
    async fn call<T>(
        &self,
        endpoint: Endpoint,
        url: &Url,
        body: &serde_json::Value,
        read: impl Fn(&[u8]) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut retries = 0;
        loop {
            // Held for one request only, so that an app that waits to try again delays nobody.
            let permit = self.permits.acquire().await;
            let start = Instant::now();
            let result = match self.exchange(endpoint, url, body).await {
                Err(error) => Err(error),
                Ok((status, body)) => match read(&body) {
                    // WeChat refuses with status 200; a gateway with a page of its own.
                    Err(error @ Error::Refused(_)) => Err(error),
                    _ if !status.is_success() => Err(Failure::Status(status.as_u16()).into()),
                    result => result,
                },
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
            match result {
                Err(error) if error.is_passing() && retries < RETRIES => {
                    let pause = self.settings.backoff * 2_u32.pow(retries);
                    tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
                    retries += 1;
                }
                result => return result,
            }
        }
    }

    async fn exchange(
        &self,
        endpoint: Endpoint,
        url: &Url,
        body: &serde_json::Value,
    ) -> Result<(reqwest::StatusCode, Vec<u8>), Error> {
        let mut response = self
            .http
            .post(url.clone())
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .body(body.to_string())
            .send()
            .await?;
        let mut read = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if read.len() + chunk.len() > LARGEST_ANSWER {
                return Err(Error::Decode(
                    endpoint,
                    "it is larger than 8 MiB".to_owned(),
                ));
            }
            read.extend_from_slice(&chunk);
        }
        Ok((response.status(), read))
    }
}

impl Error {
    /// Tells whether the same request may succeed a moment later.
    fn is_passing(&self) -> bool {
        match self {
            Self::Transport { failure, .. } => failure.is_passing(),
            error => error.then() == Then::Soon,
        }
    }

    /// Returns the label value for a request that failed; an empty portrait is none.
    fn request_failure(&self) -> Option<String> {
        match self {
            Self::Refused(refusal) => Some(refusal.errcode.to_string()),
            Self::Transport { failure, .. } => Some(failure.to_string()),
            Self::Decode(..) => Some(Failure::Body.to_string()),
            Self::Empty => None,
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Transport {
            failure,
            source: None,
        }
    }
}

impl From<reqwest::Error> for Error {
    /// Takes the address off, for the token is in it.
    fn from(error: reqwest::Error) -> Self {
        let failure = if error.is_timeout() {
            Failure::Timeout
        } else if error.is_connect() || error.is_request() {
            Failure::Connect
        } else {
            Failure::Body
        };
        Self::Transport {
            failure,
            source: Some(error.without_url()),
        }
    }
}
