//! Requests portraits: builds each request, with a token if one is needed.
//!
//! Does not decide which days are due or what is done with an answer.

use chrono::NaiveDate;
use secrecy::{ExposeSecret as _, SecretString};

use super::access::Access;
use super::decode::{self, Answer};
use super::diagnosis::Diagnosis;
use super::errcodes::Retry;
use super::redact::Redactor;
use super::requests::{self, Endpoint, Wanted};
use super::transport::{BuildError, Purpose, Request, RequestSpec, Settings, Transport};
use crate::calendar::Clock;
use crate::config::access::{AccessMethod, TokenAccess};
use crate::portrait::Window;

/// The path of the portrait.
const PORTRAIT: &str = "datacube/getweanalysisappiduserportrait";

/// The path that calls a cloud function.
const INVOKE: &str = "tcb/invokecloudfunction";

/// A client of WeChat's API.
pub struct Client {
    pub(super) transport: Transport,
}

impl Client {
    /// Prepares to send requests; `observe` is called after every one. The process must have chosen
    /// its cryptography, see [`install_crypto_provider`](super::install_crypto_provider).
    ///
    /// # Errors
    ///
    /// The certificates of the system or of the configuration can't be used, or the proxy of the
    /// environment or of the configuration is invalid.
    pub fn new(
        settings: Settings,
        clock: Clock,
        observe: impl Fn(&Request) + Send + Sync + 'static,
    ) -> Result<Self, BuildError> {
        let transport = Transport::new(settings, clock, observe)?;
        Ok(Self { transport })
    }

    /// Requests the portrait of the window that ends on `day`.
    ///
    /// A refused token is replaced and the request sent once more; what is likely to succeed a moment
    /// later is tried a few times.
    ///
    /// # Errors
    ///
    /// The failure that remains after that, and its meaning.
    pub async fn portrait(
        &self,
        access: &mut Access,
        window: Window,
        day: NaiveDate,
    ) -> Result<Answer, Diagnosis> {
        let wanted = Wanted { window, day };
        if !matches!(access.method(), AccessMethod::Token(_)) {
            return self.request_portrait(access, wanted, None).await;
        }
        let token = self.token(access, wanted).await?;
        match self.request_portrait(access, wanted, Some(&token)).await {
            // Only once: loops here have used up whole quotas.
            Err(refused) if refused.retry == Retry::NewToken => {
                access.invalidate();
                let token = self.token(access, wanted).await?;
                let result = self.request_portrait(access, wanted, Some(&token)).await;
                let refused = result.as_ref().err();
                if refused.is_some_and(|refused| refused.retry == Retry::NewToken) {
                    access.invalidate();
                }
                result
            }
            result => result,
        }
    }

    async fn request_portrait(
        &self,
        access: &Access,
        wanted: Wanted,
        token: Option<&SecretString>,
    ) -> Result<Answer, Diagnosis> {
        let purpose = Purpose {
            caller: &access.caller,
            wanted,
        };
        let mut request = self.portrait_spec(purpose, token);
        for secret in token.into_iter().chain(access.last_secret()) {
            request.redactor.add(secret.expose_secret());
        }
        let endpoint = request.endpoint;
        let decode =
            |body: &[u8], redactor: &Redactor| decode::response(body, endpoint, wanted, redactor);
        self.transport.send_with_retries(&request, decode).await
    }

    /// Prepares the request for a portrait.
    fn portrait_spec<'a>(
        &'a self,
        purpose: Purpose<'a>,
        token: Option<&SecretString>,
    ) -> RequestSpec<'a> {
        let body = requests::portrait(purpose.wanted);
        let event = requests::function_event(purpose.wanted);
        let transport = &self.transport;
        let access = match &purpose.caller.method {
            AccessMethod::PortraitUrl(at) => {
                return transport.to_endpoint(purpose, Endpoint::Portrait, at, Some(&event));
            }
            AccessMethod::CloudHosting => {
                return transport.to_sidecar(purpose, Endpoint::Portrait, PORTRAIT, Some(&body));
            }
            AccessMethod::Token(access) => access,
        };
        let TokenAccess {
            parameter,
            function,
            ..
        } = access;
        let mut request = match function {
            None => transport.to_wechat(purpose, Endpoint::Portrait, PORTRAIT, Some(&body)),
            Some(_) => transport.to_wechat(purpose, Endpoint::Function, INVOKE, Some(&event)),
        };
        for url in &mut request.urls {
            let mut query = url.query_pairs_mut();
            query.extend_pairs(token.map(|token| (parameter, token.expose_secret())));
            if let Some(function) = function {
                query.append_pair("env", &function.env);
                query.append_pair("name", &function.name);
            }
        }
        request
    }
}
