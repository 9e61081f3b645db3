//! How an app gets at WeChat's API: its secret, and the token that the secret buys.
//!
//! One token is held per app and renewed by one caller at a time. Tokens come from
//! `stable_token`, whose tokens are apart from those of `cgi-bin/token`: asking for one never
//! takes away the token of the app's own backend.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

use super::{Error, wire};
use crate::portrait::AppId;

/// WeChat gives out the next token this long before the end of one, and both work in between.
const RENEW_BEFORE_END: Duration = Duration::from_mins(5);

/// One app's way in.
#[derive(Debug)]
pub struct Access {
    appid: AppId,
    secret: SecretString,
    held: Mutex<Option<Held>>,
}

#[derive(Debug)]
struct Held {
    token: SecretString,
    renew_at: DateTime<Utc>,
}

impl Access {
    /// Starts without a token; the first request asks for one.
    #[must_use]
    pub fn new(appid: AppId, secret: SecretString) -> Self {
        Self {
            appid,
            secret,
            held: Mutex::new(None),
        }
    }

    /// Returns whose way in this is.
    #[must_use]
    pub fn appid(&self) -> &AppId {
        &self.appid
    }

    /// Returns the token that is held, or asks for a new one; whoever comes meanwhile waits.
    pub(super) async fn token(
        &self,
        now: DateTime<Utc>,
        ask: impl AsyncFnOnce(&AppId, &SecretString) -> Result<wire::Token, Error>,
    ) -> Result<SecretString, Error> {
        let mut held = self.held.lock().await;
        if let Some(held) = held.as_ref().filter(|held| now < held.renew_at) {
            return Ok(held.token.clone());
        }
        // The old one is kept until there is a new one: it may live on for some minutes.
        let wire::Token { value, expires_in } = ask(&self.appid, &self.secret).await?;
        let token = SecretString::from(value);
        let life = Duration::from_secs(expires_in).saturating_sub(RENEW_BEFORE_END);
        let life = TimeDelta::from_std(life).unwrap_or(TimeDelta::MAX);
        let renew_at = now
            .checked_add_signed(life)
            .unwrap_or(DateTime::<Utc>::MAX_UTC);
        *held = Some(Held {
            token: token.clone(),
            renew_at,
        });
        Ok(token)
    }

    /// Drops a token that was refused, unless another caller has put a newer one in its place.
    pub(super) async fn forget(&self, refused: &SecretString) {
        let mut held = self.held.lock().await;
        if held
            .as_ref()
            .is_some_and(|held| held.token.expose_secret() == refused.expose_secret())
        {
            *held = None;
        }
    }
}
