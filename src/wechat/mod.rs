//! Everything that knows WeChat: its addresses, field names, tokens and error codes.
//!
//! `client` sends requests, `access` holds tokens, `wire` reads answers, `errcode` says what a
//! refusal means and what to do about it. What leaves this room is a portrait or an [`Error`];
//! when to ask is for `poll` to say, and nobody outside sees a token.

mod access;
mod client;
pub mod errcode;
pub mod wire;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

pub use access::Access;
pub use client::{BACKOFF, Client, Request, Settings};
use errcode::{Reason, Then};

use crate::portrait::{AppId, spelled};

spelled! {
    /// Which part of WeChat's API a request went to.
    Endpoint, "endpoint" {
        /// The user portrait.
        Portrait = "portrait",
        /// Tokens.
        Token = "token",
    }
}

/// Why there is no portrait.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// WeChat answered with an error code.
    #[error("WeChat answered errcode {}", .0.errcode)]
    Refused(Refusal),
    /// WeChat answered a portrait without any figure: the day is not computed yet.
    #[error("WeChat answered an empty portrait")]
    Empty,
    /// No answer could be had from whoever stands at the other end.
    #[error("no answer from WeChat ({failure})")]
    Transport {
        /// What went wrong.
        failure: Failure,
        /// Free of addresses, which hold tokens.
        source: Option<reqwest::Error>,
    },
    /// The answer is none that could be read.
    #[error("unreadable answer: {1}")]
    Decode(Endpoint, String),
}

/// A refusal in WeChat's own terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Where it was refused.
    pub endpoint: Endpoint,
    /// WeChat's number.
    pub errcode: i64,
    /// WeChat's sentence, without anything that could be a secret or a token.
    pub errmsg: String,
}

/// How a request failed before there was an answer to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No connection, or it broke before the first byte.
    #[error("connect")]
    Connect,
    /// The time for the whole request was over.
    #[error("timeout")]
    Timeout,
    /// The answer broke off.
    #[error("body")]
    Body,
    /// Something answered, but with this HTTP status.
    #[error("http_{0}")]
    Status(u16),
}

impl Failure {
    /// Tells whether the same request may succeed a moment later.
    fn is_passing(self) -> bool {
        match self {
            Self::Connect | Self::Timeout | Self::Body => true,
            Self::Status(status) => status >= 500,
        }
    }
}

impl Error {
    /// Returns the label value under which this is counted.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Refused(refusal) => refusal.rule().reason,
            Self::Empty => Reason::Empty,
            Self::Transport {
                failure: Failure::Status(429),
                ..
            } => Reason::RateLimited,
            Self::Transport { .. } => Reason::Transport,
            Self::Decode(..) => Reason::Decode,
        }
    }

    /// Tells whether this is what WeChat says of a day that it has not computed yet.
    #[must_use]
    pub fn is_not_ready(&self) -> bool {
        matches!(self.reason(), Reason::NotReady | Reason::Empty)
    }

    /// Tells whether every other question about the app would fare the same.
    #[must_use]
    pub fn is_of_app(&self) -> bool {
        match self.then() {
            Then::NewToken | Then::After(_) | Then::Tomorrow => true,
            Then::NextPoll | Then::Soon | Then::OtherDay => false,
        }
    }

    /// Returns when it makes sense to ask again.
    #[must_use]
    pub fn then(&self) -> Then {
        match self {
            Self::Refused(refusal) => refusal.rule().then,
            Self::Transport {
                failure: Failure::Status(429),
                ..
            } => Then::After(Duration::from_mins(1)),
            Self::Empty | Self::Transport { .. } | Self::Decode(..) => Then::NextPoll,
        }
    }

    /// Tells the operator in one sentence what happened to which app, and what to do.
    #[must_use]
    pub fn sentence(&self, appid: &AppId) -> String {
        match self {
            Self::Refused(refusal) => refusal.sentence(appid),
            Self::Empty => format!(
                "{appid}: not computed yet, the portrait is empty; normal before 10:00, possible until 15:00 Beijing time"
            ),
            Self::Transport { failure, source } => {
                let detail = source
                    .as_ref()
                    .map_or(String::new(), |error| format!(" ({})", innermost(error)));
                let what = match failure {
                    Failure::Connect => "no connection to WeChat; check network, DNS, proxy and wechat.base_url".to_owned(),
                    Failure::Timeout => "WeChat did not answer in time; check the network, or raise wechat.timeout".to_owned(),
                    Failure::Body => "the answer broke off; check what stands between here and WeChat".to_owned(),
                    Failure::Status(429) => "too many requests, says a gateway in between or WeChat itself; raise poll.interval".to_owned(),
                    Failure::Status(status) => format!(
                        "HTTP status {status}, which WeChat itself never sends; check proxy and wechat.base_url, or wait if it passes"
                    ),
                };
                format!("{appid}: {what}{detail}")
            }
            Self::Decode(endpoint, problem) => {
                let wanted = match endpoint {
                    Endpoint::Portrait => "portrait of the day asked for",
                    Endpoint::Token => "token",
                };
                format!(
                    "{appid}: the answer is no {wanted}: {problem}; check what stands between here and WeChat"
                )
            }
        }
    }
}

/// Returns the last cause of an error, which is the one that says something.
fn innermost(error: &reqwest::Error) -> String {
    let mut error: &dyn std::error::Error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

impl Refusal {
    fn rule(&self) -> errcode::Rule {
        errcode::rule(self.endpoint, self.errcode)
    }

    /// Returns the address that WeChat does not want to hear from, if it names one.
    fn address(&self) -> Option<IpAddr> {
        self.errmsg
            .split([' ', ','])
            .find_map(|word| word.parse().ok())
    }

    /// Returns WeChat's number for this very answer, which its support asks for.
    fn rid(&self) -> Option<&str> {
        let rid = self
            .errmsg
            .split("rid: ")
            .nth(1)?
            .split_whitespace()
            .next()?;
        rid.bytes()
            .all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
            .then_some(rid)
    }

    fn sentence(&self, appid: &AppId) -> String {
        let rule = self.rule();
        let address = self
            .address()
            .map_or("the address of this exporter".to_owned(), |ip| {
                ip.to_string()
            });
        let mut sentence = format!(
            "{appid}: {} (errcode {}",
            rule.advice.replace("{ip}", &address),
            self.errcode
        );
        if rule.reason == Reason::Other && !self.errmsg.is_empty() {
            let _ = write!(sentence, ", WeChat says: {}", self.errmsg);
        } else if let Some(rid) = self.rid() {
            let _ = write!(sentence, ", rid {rid}");
        }
        sentence + ")"
    }
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;

    use super::*;
    use crate::portrait::Window;

    const RID: &str = "rid: 61b7f9e0-66c14e21-3f647b7e";

    /// What the operator reads of this refusal.
    fn sentence(endpoint: Endpoint, errcode: i64, errmsg: &str) -> String {
        let body = serde_json::json!({ "errcode": errcode, "errmsg": errmsg }).to_string();
        let error = match endpoint {
            Endpoint::Token => wire::token(body.as_bytes()).err(),
            Endpoint::Portrait => {
                wire::portrait(body.as_bytes(), Window::OneDay, NaiveDate::MIN).err()
            }
        };
        error.unwrap().sentence(&appid())
    }

    fn appid() -> AppId {
        "wx0123456789abcdef".parse().unwrap()
    }

    #[test]
    fn a_refused_address_is_named() {
        let errmsg =
            format!("invalid ip 61.183.89.14 ipv6 ::ffff:61.183.89.14, not in whitelist {RID}");
        assert_eq!(
            sentence(Endpoint::Token, 40164, &errmsg),
            "wx0123456789abcdef: add 61.183.89.14 to the IP allow-list of the app, in the WeChat console under development settings (errcode 40164, rid 61b7f9e0-66c14e21-3f647b7e)"
        );
        assert_eq!(
            sentence(
                Endpoint::Token,
                89503,
                "reject invoke IP 2001:db8::1, please contact"
            ),
            "wx0123456789abcdef: the administrator of the app must confirm 2001:db8::1: WeChat has sent them a message (errcode 89503)"
        );
        assert_eq!(
            sentence(
                Endpoint::Portrait,
                61004,
                "access clientip is not registered"
            ),
            "wx0123456789abcdef: add the address of this exporter to the IP allow-list of the app, in the WeChat console under development settings (errcode 61004)"
        );
    }

    #[test]
    fn a_refused_secret_and_a_refused_token_are_told_apart() {
        let errmsg = format!("invalid credential, access_token is invalid or not latest {RID}");
        assert_eq!(
            sentence(Endpoint::Token, 40001, &errmsg),
            "wx0123456789abcdef: WeChat refuses the AppSecret: set the one shown in its console (errcode 40001, rid 61b7f9e0-66c14e21-3f647b7e)"
        );
        assert_eq!(
            sentence(Endpoint::Portrait, 40001, &errmsg),
            "wx0123456789abcdef: WeChat refuses even a new token: another program fetches tokens with cgi-bin/token or force_refresh, or the secret is of another app (errcode 40001, rid 61b7f9e0-66c14e21-3f647b7e)"
        );
    }

    #[test]
    fn an_unknown_code_is_told_in_the_words_of_wechat_without_secrets() {
        let secret = "0123456789abcdef0123456789abcdef";
        let token = "aZ9_".repeat(128);
        assert_eq!(
            sentence(
                Endpoint::Portrait,
                12345,
                &format!("no {secret}\nlevel=error {token} {RID}")
            ),
            "wx0123456789abcdef: WeChat refuses for a reason that this exporter does not know (errcode 12345, WeChat says: no [redacted] level=error [redacted] rid: 61b7f9e0-66c14e21-3f647b7e)"
        );
        assert_eq!(
            sentence(Endpoint::Portrait, 12345, ""),
            "wx0123456789abcdef: WeChat refuses for a reason that this exporter does not know (errcode 12345)"
        );
    }

    #[test]
    fn a_number_for_support_is_only_told_if_it_is_one() {
        for errmsg in [
            "x rid: ",
            "x rid: <b>",
            "rid:",
            &format!("rid: {}", "a".repeat(32)),
        ] {
            assert_eq!(
                sentence(Endpoint::Token, 40125, errmsg),
                "wx0123456789abcdef: the AppSecret is wrong or was reset: set the new one and restart the exporter (errcode 40125)",
                "{errmsg}"
            );
        }
    }

    #[test]
    fn what_is_no_refusal_is_told_in_a_sentence_too() {
        let status = |status| Error::from(Failure::Status(status)).sentence(&appid());
        assert_eq!(
            Error::Empty.sentence(&appid()),
            "wx0123456789abcdef: not computed yet, the portrait is empty; normal before 10:00, possible until 15:00 Beijing time"
        );
        assert_eq!(
            status(502),
            "wx0123456789abcdef: HTTP status 502, which WeChat itself never sends; check proxy and wechat.base_url, or wait if it passes"
        );
        assert_eq!(
            status(429),
            "wx0123456789abcdef: too many requests, says a gateway in between or WeChat itself; raise poll.interval"
        );
        assert_eq!(
            Error::Decode(Endpoint::Portrait, "it is JSON, but no object".to_owned())
                .sentence(&appid()),
            "wx0123456789abcdef: the answer is no portrait of the day asked for: it is JSON, but no object; check what stands between here and WeChat"
        );
    }

    #[test]
    fn only_a_day_that_is_not_computed_is_not_ready() {
        let refused = |errcode| {
            Error::Refused(Refusal {
                endpoint: Endpoint::Portrait,
                errcode,
                errmsg: String::new(),
            })
        };
        assert!(Error::Empty.is_not_ready());
        assert!(refused(61503).is_not_ready());
        for error in [
            refused(-1),
            refused(61501),
            Failure::Timeout.into(),
            Error::Decode(Endpoint::Portrait, String::new()),
        ] {
            assert!(!error.is_not_ready(), "{error}");
        }
        assert_eq!(
            Error::from(Failure::Status(429)).reason(),
            Reason::RateLimited
        );
        assert_eq!(
            Error::from(Failure::Status(500)).reason(),
            Reason::Transport
        );
    }
}
