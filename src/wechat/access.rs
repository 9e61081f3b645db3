//! How an app gets at WeChat's API: what is configured for it, and the token that is held.
//!
//! One token is held per app and renewed by one caller at a time, wherever tokens come from. Those of
//! `stable_token` are apart from those of `cgi-bin/token`: asking for one never takes away the token
//! of the app's own backend.

use std::path::Path;
use std::sync::PoisonError;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

use super::errcode::{Asked, Reason};
use super::{Endpoint, Error, WECHAT, wire};
use crate::config::access::{self, AccessMethod, Secret, TokenAccess, TokenSource, trim_secret};
use crate::portrait::AppId;

/// WeChat gives out the next token this long before the end of one, and both work in between.
const RENEW_BEFORE_END: Duration = Duration::from_mins(5);

/// One app's way in.
#[derive(Debug)]
pub struct Access {
    appid: AppId,
    way: AccessMethod,
    tokens: Mutex<Tokens>,
    seen: std::sync::Mutex<Seen>,
}

/// What stood in the file with the AppSecret, or with the token.
#[derive(Debug, Default)]
struct Seen {
    /// When it was read last, if it could be.
    text: Option<SecretString>,
    /// The AppSecret that was there last.
    secret: Option<SecretString>,
}

/// What is held, and how many tokens there have been.
#[derive(Debug, Default)]
struct Tokens {
    held: Option<Held>,
    number: u64,
}

#[derive(Debug)]
struct Held {
    token: SecretString,
    /// None for a token that is used for one poll and no longer: nobody told how long it lives, or it
    /// lives for minutes.
    renew_at: Option<DateTime<Utc>>,
}

/// A token for one request.
pub(super) struct Lent {
    pub(super) token: SecretString,
    /// Which one it is: its source may give the same text again.
    number: u64,
}

impl Access {
    /// Starts without a token; the first request asks for one.
    #[must_use]
    pub fn new(appid: AppId, way: AccessMethod) -> Self {
        Self {
            appid,
            way,
            tokens: Mutex::default(),
            seen: std::sync::Mutex::default(),
        }
    }

    /// Returns whose way in this is.
    #[must_use]
    pub fn appid(&self) -> &AppId {
        &self.appid
    }

    /// Returns what is configured.
    #[must_use]
    pub fn way(&self) -> &AccessMethod {
        &self.way
    }

    /// Forgets a token that was for one poll.
    pub async fn begin_poll(&self) {
        let mut tokens = self.tokens.lock().await;
        tokens.held.take_if(|held| held.renew_at.is_none());
    }

    /// Returns the file with the AppSecret, or with the token, if there is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        let AccessMethod::Token(token) = &self.way else {
            return None;
        };
        match &token.source {
            TokenSource::Secret(secret, _) => secret.file.as_deref(),
            TokenSource::File(path) => Some(path),
            TokenSource::Url(_) | TokenSource::Command(_) => None,
        }
    }

    /// Tells whether there is something else in that file than was read there last.
    pub async fn has_news(&self) -> bool {
        let Some(path) = self.file() else {
            return false;
        };
        read_text(path).await.is_ok_and(|text| {
            let seen = self.seen.lock();
            let seen = seen.unwrap_or_else(PoisonError::into_inner);
            seen.text.as_ref().map(ExposeSecret::expose_secret) != Some(text.expose_secret())
        })
    }

    /// Reads a file with the AppSecret or the token.
    pub(super) async fn read(&self, path: &Path) -> Result<SecretString, String> {
        let text = read_text(path).await;
        let seen = self.seen.lock();
        seen.unwrap_or_else(PoisonError::into_inner).text = text.as_ref().ok().cloned();
        text
    }

    /// Returns the AppSecret as it is now, or as it was when its file could be read.
    pub(super) async fn secret(&self, secret: &Secret) -> Result<SecretString, Error> {
        let Some(path) = &secret.file else {
            return Ok(secret.value.clone());
        };
        let found = match self.read(path).await {
            Ok(text) => {
                let found = trim_secret(text.expose_secret());
                Some(found.map_err(|problem| {
                    let problem = format!("{}: {problem}", path.display());
                    Error::Unusable(Endpoint::Token, Reason::Credentials, problem)
                })?)
            }
            Err(problem) => {
                tracing::warn!(appid = %self.appid, "{problem}; the AppSecret is used that was there before");
                None
            }
        };
        let seen = self.seen.lock();
        let mut seen = seen.unwrap_or_else(PoisonError::into_inner);
        let found = found.or_else(|| seen.secret.clone());
        let found = found.unwrap_or_else(|| secret.value.clone());
        Ok(seen.secret.insert(found).clone())
    }

    /// Returns the token that is held, or asks for a new one; whoever comes meanwhile waits.
    pub(super) async fn token(
        &self,
        now: DateTime<Utc>,
        ask: impl AsyncFnOnce() -> Result<wire::Token, Error>,
    ) -> Result<Lent, Error> {
        let mut tokens = self.tokens.lock().await;
        let is_good = |held: &&Held| held.renew_at.is_none_or(|renew_at| now < renew_at);
        if let Some(held) = tokens.held.as_ref().filter(is_good) {
            return Ok(Lent {
                token: held.token.clone(),
                number: tokens.number,
            });
        }
        let wire::Token { value, expires_in } = ask().await?;
        let token = SecretString::from(value);
        let renew_at = expires_in.map(|seconds| {
            let life = Duration::from_secs(seconds).saturating_sub(RENEW_BEFORE_END);
            let life = TimeDelta::from_std(life).unwrap_or(TimeDelta::MAX);
            now.checked_add_signed(life)
                .unwrap_or(DateTime::<Utc>::MAX_UTC)
        });
        // It would be asked for again before every request of the poll.
        let renew_at = renew_at.filter(|renew_at| now < *renew_at);
        tokens.number += 1;
        tokens.held = Some(Held {
            token: token.clone(),
            renew_at,
        });
        Ok(Lent {
            token,
            number: tokens.number,
        })
    }

    /// Uses a token that was refused to the end of the poll at most. Dropped at once, it would be asked
    /// for by everybody who has been refused the one before it.
    pub(super) async fn distrust(&self, refused: &Lent) {
        let mut tokens = self.tokens.lock().await;
        if tokens.number == refused.number
            && let Some(held) = &mut tokens.held
        {
            held.renew_at = None;
        }
    }

    /// Drops a token that was refused, unless another caller has had it replaced already.
    pub(super) async fn forget(&self, refused: &Lent) {
        let mut tokens = self.tokens.lock().await;
        if tokens.number == refused.number {
            tokens.held = None;
        }
    }

    /// Returns what a request to an endpoint carries.
    pub(super) fn asked(&self, endpoint: Endpoint) -> Asked {
        match (&self.way, endpoint) {
            (_, Endpoint::Token) => Asked::Secret,
            (AccessMethod::CloudHosting, _) => Asked::CloudHosting,
            (AccessMethod::PortraitUrl(_), _) => Asked::PortraitUrl,
            (AccessMethod::Token(access), _) => match access.source {
                TokenSource::Secret(..) => Asked::OwnToken,
                _ => Asked::GivenToken,
            },
        }
    }

    /// Returns who answers at an endpoint, and the key that says where.
    pub(super) fn peer(&self, endpoint: Endpoint) -> (String, &'static str) {
        match (&self.way, endpoint) {
            (AccessMethod::PortraitUrl(remote), _) => (
                format!("portrait_url ({})", remote.url.host()),
                "portrait_url",
            ),
            (
                AccessMethod::Token(TokenAccess {
                    source: TokenSource::Url(remote),
                    ..
                }),
                Endpoint::Token,
            ) => (format!("token_url ({})", remote.url.host()), "token_url"),
            (
                AccessMethod::Token(TokenAccess {
                    function: Some(function),
                    ..
                }),
                // What the function itself answers, and not WeChat about it.
                Endpoint::Portrait,
            ) => (
                format!("the cloud function {}", function.name),
                "cloud_function",
            ),
            _ => (WECHAT.to_owned(), "wechat.base_url"),
        }
    }
}

/// Reads a file away from the tasks that must not wait.
async fn read_text(path: &Path) -> Result<SecretString, String> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || access::read_text(&path)).await;
    let text = read.unwrap_or_else(|error| Err(error.to_string()))?;
    Ok(SecretString::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_is_kept_for_its_life_or_for_one_poll() {
        let now: DateTime<Utc> = "2026-11-22T02:00:00Z".parse().unwrap();
        for (expires_in, asked_in_each_poll) in [
            (Some(7200), [1, 0, 1]),
            (Some(301), [1, 1, 1]),
            (Some(300), [1, 1, 1]),
            (None, [1, 1, 1]),
        ] {
            let way = AccessMethod::of_secret(SecretString::from("secret"));
            let access = Access::new("wx0123456789abcdef".parse().unwrap(), way);
            for (minutes, expected) in [0, 30, 115].into_iter().zip(asked_in_each_poll) {
                access.begin_poll().await;
                let mut asked = 0;
                for _ in 0..6 {
                    let ask = async || {
                        asked += 1;
                        let value = "token".to_owned();
                        Ok(wire::Token { value, expires_in })
                    };
                    let now = now + TimeDelta::minutes(minutes);
                    access.token(now, ask).await.ok().unwrap();
                }
                assert_eq!(asked, expected, "{expires_in:?} {minutes}");
            }
        }
    }
}
