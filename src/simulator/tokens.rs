//! The tokens that were issued, and which of them are still valid.
//!
//! Knows the rules of all endpoints that issue tokens; who may have one is decided in `service`.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::random::{hash, mix};
use crate::portrait::AppId;

/// A stable token is renewed this long before it expires; a token of `cgi-bin/token` remains valid for
/// this long after the next was issued.
const OVERLAP: TimeDelta = TimeDelta::minutes(5);

/// How long a token of cloud hosting is valid; none revokes another.
const CLOUDBASE_LIFE: TimeDelta = TimeDelta::minutes(30);

/// The alphabet of tokens.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Every token ever issued.
#[derive(Default)]
pub(super) struct Tokens {
    issued: HashMap<String, Issued>,
    stable: HashMap<AppId, String>,
    legacy: HashMap<AppId, String>,
}

/// The query parameters for tokens; each takes tokens of its own kind only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parameter {
    /// `access_token`.
    Access,
    /// `cloudbase_access_token`, of cloud hosting.
    Cloudbase,
}

struct Issued {
    app: AppId,
    parameter: Parameter,
    end: DateTime<Utc>,
    revoked: bool,
}

impl Tokens {
    /// Returns the app's stable token and the seconds until it expires: a new one if the
    /// present one expires soon, or if `refresh` revokes it.
    pub(super) fn stable(
        &mut self,
        app: &AppId,
        now: DateTime<Utc>,
        life: TimeDelta,
        refresh: bool,
    ) -> (String, i64) {
        if let Some(token) = self.stable.get(app)
            && let Some(issued) = self.issued.get_mut(token)
        {
            if refresh {
                issued.revoked = true;
            } else if issued.end - now >= OVERLAP {
                return (token.clone(), (issued.end - now).num_seconds());
            }
        }
        let token = self.issue(app, Parameter::Access, now + life);
        self.stable.insert(app.clone(), token.clone());
        (token, life.num_seconds())
    }

    /// Returns a new token of `cgi-bin/token`; the one before it is valid for
    /// another five minutes.
    pub(super) fn legacy(
        &mut self,
        app: &AppId,
        now: DateTime<Utc>,
        life: TimeDelta,
    ) -> (String, i64) {
        let token = self.issue(app, Parameter::Access, now + life);
        let before = self.legacy.insert(app.clone(), token.clone());
        if let Some(issued) = before.and_then(|token| self.issued.get_mut(&token)) {
            issued.end = issued.end.min(now + OVERLAP);
        }
        (token, life.num_seconds())
    }

    /// Returns a new token of cloud hosting; those before it stay valid.
    pub(super) fn cloudbase(&mut self, app: &AppId, now: DateTime<Utc>) -> String {
        self.issue(app, Parameter::Cloudbase, now + CLOUDBASE_LIFE)
    }

    /// Returns whose token it is, or the errcode with which it is refused.
    pub(super) fn check(
        &self,
        (parameter, token): (Parameter, &str),
        now: DateTime<Utc>,
    ) -> Result<AppId, i64> {
        match self.issued.get(token) {
            None => Err(40001),
            Some(issued) if issued.revoked || issued.parameter != parameter => Err(40001),
            Some(issued) if issued.end <= now => Err(42001),
            Some(issued) => Ok(issued.app.clone()),
        }
    }

    /// Returns whose token it is or was.
    pub(super) fn owner(&self, token: &str) -> Option<&AppId> {
        self.issued.get(token).map(|issued| &issued.app)
    }

    /// Returns every token, in no particular order.
    pub(super) fn all(&self) -> Vec<String> {
        self.issued.keys().cloned().collect()
    }

    fn issue(&mut self, app: &AppId, parameter: Parameter, end: DateTime<Utc>) -> String {
        let mut draw = hash("token", app.as_str()) ^ mix(self.issued.len() as u64);
        let mut token = String::from("85_");
        while token.len() < 512 {
            draw = mix(draw);
            token.push(char::from(
                ALPHABET[usize::from(draw.to_le_bytes()[0] & 63)],
            ));
        }
        let issued = Issued {
            app: app.clone(),
            parameter,
            end,
            revoked: false,
        };
        self.issued.insert(token.clone(), issued);
        token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: TimeDelta = TimeDelta::hours(2);

    fn app() -> AppId {
        "wx0123456789abcdef".parse().unwrap()
    }

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::minutes(minutes)
    }

    fn check(tokens: &Tokens, token: &str, minutes: i64) -> Result<AppId, i64> {
        tokens.check((Parameter::Access, token), at(minutes))
    }

    #[test]
    fn a_stable_token_is_the_same_until_five_minutes_before_it_expires() {
        let mut tokens = Tokens::default();
        let (first, seconds) = tokens.stable(&app(), at(0), LIFE, false);
        assert_eq!((first.len(), seconds), (512, 7200));
        assert_eq!(
            tokens.stable(&app(), at(115), LIFE, false),
            (first.clone(), 300)
        );
        let (second, seconds) = tokens.stable(&app(), at(116), LIFE, false);
        assert!(second != first && seconds == 7200);
        assert_eq!(check(&tokens, &first, 119), Ok(app()));
        assert_eq!(check(&tokens, &second, 119), Ok(app()));
        assert_eq!(check(&tokens, &first, 120), Err(42001));
        assert_eq!(tokens.all().len(), 2);
    }

    #[test]
    fn a_forced_refresh_revokes_at_once() {
        let mut tokens = Tokens::default();
        let (first, _) = tokens.stable(&app(), at(0), LIFE, false);
        let (second, _) = tokens.stable(&app(), at(0), LIFE, true);
        assert_eq!(check(&tokens, &first, 0), Err(40001));
        assert_eq!(check(&tokens, &second, 0), Ok(app()));
    }

    #[test]
    fn cgi_bin_token_revokes_its_previous_token_and_not_the_stable_one() {
        let mut tokens = Tokens::default();
        let (stable, _) = tokens.stable(&app(), at(0), LIFE, false);
        let (first, _) = tokens.legacy(&app(), at(0), LIFE);
        let (second, _) = tokens.legacy(&app(), at(1), LIFE);
        assert_eq!(check(&tokens, &first, 5), Ok(app()));
        assert_eq!(check(&tokens, &first, 6), Err(42001));
        assert_eq!(check(&tokens, &second, 6), Ok(app()));
        assert_eq!(check(&tokens, &stable, 6), Ok(app()));
    }

    #[test]
    fn a_token_of_cloud_hosting_is_valid_for_half_an_hour_in_its_own_parameter() {
        let mut tokens = Tokens::default();
        let first = tokens.cloudbase(&app(), at(0));
        let second = tokens.cloudbase(&app(), at(10));
        let (stable, _) = tokens.stable(&app(), at(10), LIFE, false);
        let hosted =
            |token: &str, minutes| tokens.check((Parameter::Cloudbase, token), at(minutes));
        assert_eq!(hosted(&first, 29), Ok(app()));
        assert_eq!(hosted(&first, 30), Err(42001));
        assert_eq!(hosted(&second, 30), Ok(app()));
        assert_eq!(hosted(&stable, 10), Err(40001));
        assert_eq!(check(&tokens, &first, 0), Err(40001));
    }
}
