//! How one app is authenticated: its settings, the token in use, and its file.
//!
//! Tokens of `stable_token` are separate from those of `cgi-bin/token`: requesting one never revokes the
//! token of the app's own backend. Sends nothing itself.

use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret, SecretString};

use super::errcodes::{Credential, Reason};
use super::error::Error;
use super::requests::Endpoint;
use super::tokens::Token;
use crate::config::App;
use crate::config::access::{self, AccessMethod, Secret, TokenAccess, TokenSource, trim_secret};
use crate::portrait::AppId;

/// WeChat issues the next token this long before the current one expires, and both are valid in between.
const RENEW_BEFORE_END: Duration = Duration::from_mins(5);

/// The usual peer in messages.
pub(super) const WECHAT: &str = "WeChat";

/// The access of one app, owned by the task that polls it.
#[derive(Debug)]
pub struct Access {
    pub(super) caller: Caller,
    lease: Option<TokenLease>,
    pub(super) file: CredentialFile,
    /// What the token command last wrote to standard error when it failed.
    pub(super) command_stderr: String,
}

/// Which app a request is for, and how it is authenticated.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) appid: AppId,
    /// The configured name, for the log.
    pub(super) name: String,
    pub(super) method: AccessMethod,
}

/// The contents of the file with the AppSecret, or with the token.
#[derive(Debug, Default)]
pub(super) struct CredentialFile {
    /// The whole text when it was last read; `None` if that failed.
    text: Option<SecretString>,
    /// The last AppSecret that could be read.
    secret: Option<SecretString>,
    /// Whether it was logged that the file can't be read.
    is_unreadable: bool,
}

/// A token and how long to use it.
#[derive(Debug)]
struct TokenLease {
    token: SecretString,
    /// `None` for a token that is used for one poll only: its lifetime is unknown, or minutes.
    renew_at: Option<DateTime<Utc>>,
}

impl Access {
    /// Starts without a token; the first request obtains one.
    #[must_use]
    pub fn new(app: &App) -> Self {
        Self {
            caller: Caller {
                appid: app.appid.clone(),
                name: app.name.clone(),
                method: app.access.clone(),
            },
            lease: None,
            file: CredentialFile::default(),
            command_stderr: String::new(),
        }
    }

    /// Returns the app.
    #[must_use]
    pub fn appid(&self) -> &AppId {
        &self.caller.appid
    }

    /// Returns what is configured.
    #[must_use]
    pub fn method(&self) -> &AccessMethod {
        &self.caller.method
    }

    /// Drops a token that was for one poll only.
    pub fn begin_poll(&mut self) {
        self.lease.take_if(|lease| lease.renew_at.is_none());
    }

    /// Returns the file with the AppSecret, or with the token, if there is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        let AccessMethod::Token(token) = &self.caller.method else {
            return None;
        };
        match &token.source {
            TokenSource::Secret(secret, _) => secret.file.as_deref(),
            TokenSource::File(path) => Some(path),
            TokenSource::Url(_) | TokenSource::Command(_) => None,
        }
    }

    /// Returns `true` if that file has changed since it was last read.
    pub async fn credentials_changed(&self) -> bool {
        let Some(path) = self.file() else {
            return false;
        };
        read_text(path).await.is_ok_and(|text| {
            let last = self.file.text.as_ref().map(ExposeSecret::expose_secret);
            last != Some(text.expose_secret())
        })
    }

    /// Returns the token in use, unless it is about to expire.
    pub(super) fn lease(&self, now: DateTime<Utc>) -> Option<SecretString> {
        let is_good = |lease: &&TokenLease| lease.renew_at.is_none_or(|renew_at| now < renew_at);
        let lease = self.lease.as_ref().filter(is_good)?;
        Some(lease.token.clone())
    }

    /// Uses a token that was requested at `now` from now on.
    pub(super) fn renew(&mut self, token: Token, now: DateTime<Utc>) -> SecretString {
        let renew_at = token.expires_in.map(|seconds| {
            let life = Duration::from_secs(seconds).saturating_sub(RENEW_BEFORE_END);
            let life = TimeDelta::from_std(life).unwrap_or(TimeDelta::MAX);
            now.checked_add_signed(life)
                .unwrap_or(DateTime::<Utc>::MAX_UTC)
        });
        let token = SecretString::from(token.value);
        self.lease = Some(TokenLease {
            token: token.clone(),
            // It would be requested again before every request of the poll.
            renew_at: renew_at.filter(|renew_at| now < *renew_at),
        });
        token
    }

    /// Returns the AppSecret as it was used last, which must be redacted in answers.
    pub(super) fn last_secret(&self) -> Option<&SecretString> {
        let AccessMethod::Token(token) = &self.caller.method else {
            return None;
        };
        match &token.source {
            TokenSource::Secret(secret, _) => {
                self.file.secret.as_ref().or(secret.value.as_ref().ok())
            }
            _ => None,
        }
    }

    /// Drops a token that was refused.
    pub(super) fn invalidate(&mut self) {
        self.lease = None;
    }
}

impl CredentialFile {
    /// Reads the file.
    pub(super) async fn read(&mut self, path: &Path) -> Result<SecretString, String> {
        let text = read_text(path).await;
        self.text = text.as_ref().ok().cloned();
        text
    }

    /// Returns the current AppSecret, or the last one that could be read.
    pub(super) async fn secret(
        &mut self,
        caller: &Caller,
        secret: &Secret,
    ) -> Result<SecretString, Error> {
        let missing = |problem| Error::Unusable(Endpoint::Token, Reason::Configuration, problem);
        let Some(path) = &secret.file else {
            return secret.value.clone().map_err(missing);
        };
        match self.read(path).await {
            Ok(text) => {
                self.is_unreadable = false;
                let found = trim_secret(text.expose_secret()).map_err(|problem| {
                    let problem = format!("{}: {problem}", path.display());
                    Error::Unusable(Endpoint::Token, Reason::Credentials, problem)
                })?;
                Ok(self.secret.insert(found).clone())
            }
            Err(problem) => {
                let last = self.secret.as_ref().or(secret.value.as_ref().ok());
                let Some(last) = last else {
                    return Err(missing(problem));
                };
                // Once while it lasts: the status and the check of the configuration report it, too.
                if !std::mem::replace(&mut self.is_unreadable, true) {
                    let Caller { appid, name, .. } = caller;
                    tracing::warn!(%appid, app = name, problem, "cannot read the AppSecret, using the last one");
                }
                Ok(last.clone())
            }
        }
    }
}

impl Caller {
    /// Returns the credential of a request to an endpoint.
    pub(super) fn credential(&self, endpoint: Endpoint) -> Credential {
        match (&self.method, endpoint) {
            (AccessMethod::CloudHosting, _) => Credential::CloudHosting,
            (AccessMethod::PortraitUrl(_), _) => Credential::PortraitUrl,
            (AccessMethod::Token(access), Endpoint::Token) => match access.source {
                TokenSource::Url(_) => Credential::TokenUrl,
                _ => Credential::AppSecret,
            },
            (AccessMethod::Token(access), _) => match access.source {
                TokenSource::Secret(..) => Credential::OwnToken,
                _ => Credential::GivenToken,
            },
        }
    }

    /// Returns the peer of an endpoint, and the key that configures it.
    pub(super) fn peer(&self, endpoint: Endpoint) -> (String, &'static str) {
        match (&self.method, endpoint) {
            (AccessMethod::PortraitUrl(at), _) => {
                (format!("portrait_url ({})", at.url.host()), "portrait_url")
            }
            (
                AccessMethod::Token(TokenAccess {
                    source: TokenSource::Url(at),
                    ..
                }),
                Endpoint::Token,
            ) => (format!("token_url ({})", at.url.host()), "token_url"),
            (
                AccessMethod::Token(TokenAccess {
                    function: Some(function),
                    ..
                }),
                // The answer of the function itself, as opposed to WeChat's about it.
                Endpoint::Portrait,
            ) => (
                format!("the cloud function {}", function.name),
                "cloud_function",
            ),
            _ => (WECHAT.to_owned(), "wechat.base_url"),
        }
    }
}

/// Reads a file on a thread that may block.
async fn read_text(path: &Path) -> Result<SecretString, String> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || access::read_text(&path)).await;
    let text = read.unwrap_or_else(|error| Err(error.to_string()))?;
    Ok(SecretString::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_used_for_its_lifetime_or_for_one_poll() {
        let now: DateTime<Utc> = "2026-11-22T02:00:00Z".parse().unwrap();
        for (expires_in, requested_in_each_poll) in [
            (Some(7200), [1, 0, 1]),
            (Some(301), [1, 1, 1]),
            (Some(300), [1, 1, 1]),
            (None, [1, 1, 1]),
        ] {
            let method = AccessMethod::of_secret(SecretString::from("secret"));
            let app = App::new("wx0123456789abcdef".parse().unwrap(), method);
            let mut access = Access::new(&app);
            for (minutes, expected) in [0, 30, 115].into_iter().zip(requested_in_each_poll) {
                access.begin_poll();
                let now = now + TimeDelta::minutes(minutes);
                let mut requested = 0;
                for _ in 0..6 {
                    if access.lease(now).is_none() {
                        requested += 1;
                        let value = "token".to_owned();
                        access.renew(Token { value, expires_in }, now);
                    }
                }
                assert_eq!(requested, expected, "{expires_in:?} {minutes}");
            }
        }
    }

    #[test]
    fn a_refused_token_is_not_used_again() {
        let now: DateTime<Utc> = "2026-11-22T02:00:00Z".parse().unwrap();
        let method = AccessMethod::of_secret(SecretString::from("secret"));
        let app = App::new("wx0123456789abcdef".parse().unwrap(), method);
        let mut access = Access::new(&app);
        let value = "token".to_owned();
        access.renew(
            Token {
                value,
                expires_in: Some(7200),
            },
            now,
        );
        assert!(access.lease(now).is_some());
        access.invalidate();
        assert!(access.lease(now).is_none());
    }
}
