//! Everything that knows WeChat: its addresses, field names, tokens and error codes.
//!
//! `client` sends requests, `access` holds tokens, `command` runs programs that give them, `wire`
//! reads answers, `errcode` says what a refusal means and what to do about it. What leaves this room
//! is a portrait or an [`Error`]; when to ask is for `poll` to say, and nobody outside sees a token.

mod access;
mod client;
mod command;
pub mod errcode;
pub mod wire;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

pub use access::Access;
pub use client::{BACKOFF, Client, Request, Settings, Unprepared};
use errcode::{Asked, Reason, Rule, Then};

use crate::portrait::spelled;

spelled! {
    /// Which part of WeChat's API a request went to.
    Endpoint, "endpoint" {
        /// The user portrait.
        Portrait = "portrait",
        /// Tokens.
        Token = "token",
        /// A cloud function that asks for the portrait.
        Function = "function",
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
        /// What was asked for.
        endpoint: Endpoint,
        /// What went wrong.
        failure: Failure,
        /// Host and port of the address, if it got as far.
        host: Option<String>,
        /// Free of addresses, which hold tokens.
        source: Option<reqwest::Error>,
    },
    /// The answer is none that could be read.
    #[error("unreadable answer: {1}")]
    Decode(Endpoint, String),
    /// A file or a program that is configured gives nothing to go on with; says what it is needed
    /// for, and why.
    #[error("{2}")]
    Unusable(Endpoint, Reason, String),
    /// Cloud hosting did not relay the request that failed.
    #[error("{0}, and no sidecar relayed the request")]
    NotRelayed(Box<Error>),
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
            Self::Refused(refusal) => refusal.usual_rule().reason,
            Self::Empty => Reason::Empty,
            Self::Transport {
                failure: Failure::Status(429),
                ..
            } => Reason::RateLimited,
            Self::Transport { .. } => Reason::Transport,
            Self::Decode(..) => Reason::Decode,
            Self::Unusable(_, reason, _) => *reason,
            Self::NotRelayed(error) => error.reason(),
        }
    }

    /// Returns WeChat's number, if it has answered one.
    #[must_use]
    pub fn errcode(&self) -> Option<i64> {
        match self {
            Self::Refused(refusal) => Some(refusal.errcode),
            Self::NotRelayed(error) => error.errcode(),
            Self::Empty | Self::Transport { .. } | Self::Decode(..) | Self::Unusable(..) => None,
        }
    }

    /// Tells whether there is no token to ask for a portrait with.
    #[must_use]
    pub fn is_of_token(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.endpoint == Endpoint::Token,
            Self::Transport { endpoint, .. }
            | Self::Decode(endpoint, _)
            | Self::Unusable(endpoint, ..) => *endpoint == Endpoint::Token,
            Self::NotRelayed(_) | Self::Empty => false,
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
            // Without a token, or a file that belongs to every request, no question can be asked.
            Then::NextPoll | Then::Soon | Then::OtherDay => {
                self.is_of_token() || matches!(self, Self::Unusable(..))
            }
        }
    }

    /// Returns when it makes sense to ask again.
    #[must_use]
    pub fn then(&self) -> Then {
        match self {
            Self::Refused(refusal) => refusal.usual_rule().then,
            Self::NotRelayed(error) => error.then(),
            Self::Transport {
                failure: Failure::Status(429),
                ..
            } => Then::After(Duration::from_mins(1)),
            Self::Empty | Self::Transport { .. } | Self::Decode(..) | Self::Unusable(..) => {
                Then::NextPoll
            }
        }
    }

    /// Tells the operator in one sentence what happened to the app with this access, what to do, and
    /// where.
    #[must_use]
    pub fn sentence(&self, access: &Access) -> String {
        let appid = access.appid();
        match self {
            Self::Refused(refusal) => refusal.sentence(access),
            Self::Empty => format!(
                "{appid}: not computed yet, the portrait is empty; normal before 10:00, possible until 15:00 Beijing time"
            ),
            Self::Transport {
                endpoint,
                failure,
                host,
                source,
            } => {
                let detail = source.as_ref().map_or(String::new(), |error| {
                    let host = host.as_ref().map(|host| format!("{host}: "));
                    format!(" ({}{})", host.unwrap_or_default(), innermost(error))
                });
                let (peer, key) = access.peer(*endpoint);
                let what = match failure {
                    Failure::Connect => {
                        format!("no connection to {peer}; check network, DNS, proxy and {key}")
                    }
                    Failure::Timeout => format!(
                        "{peer} did not answer in time; check the network, or raise wechat.timeout"
                    ),
                    Failure::Body => {
                        format!("the answer broke off; check what stands between here and {peer}")
                    }
                    Failure::Status(429) => format!(
                        "too many requests, says a gateway in between or {peer} itself; raise poll.interval"
                    ),
                    Failure::Status(status) if peer == WECHAT => format!(
                        "HTTP status {status}, which WeChat itself never sends; check proxy and {key}, or wait if it passes"
                    ),
                    Failure::Status(status) => format!(
                        "HTTP status {status} from {peer}; check {key} and {key}_headers_file, or wait if it passes"
                    ),
                };
                format!("{appid}: {what}{detail}")
            }
            Self::Decode(endpoint, problem) => {
                let wanted = match endpoint {
                    Endpoint::Portrait | Endpoint::Function => "portrait of the day asked for",
                    Endpoint::Token => "token",
                };
                let (peer, _) = access.peer(*endpoint);
                let check = if peer == WECHAT {
                    "check what stands between here and WeChat".to_owned()
                } else {
                    format!("check what {peer} answers, and its log")
                };
                format!("{appid}: the answer is no {wanted}: {problem}; {check}")
            }
            Self::Unusable(_, _, problem) => format!("{appid}: {problem}"),
            Self::NotRelayed(error) => format!(
                "{}; the answer has no x-openapi-seqid, so the sidecar of cloud hosting did not relay the request",
                error.sentence(access)
            ),
        }
    }
}

/// What sentences call the usual peer.
const WECHAT: &str = "WeChat";

/// Returns the last cause of an error, which is the one that says something.
fn innermost(error: &reqwest::Error) -> String {
    let mut error: &dyn std::error::Error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

impl Refusal {
    /// Returns the rule that decides what is done.
    fn usual_rule(&self) -> Rule {
        errcode::rule(Asked::at(self.endpoint), self.errcode)
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

    fn sentence(&self, access: &Access) -> String {
        let rule = errcode::rule(access.asked(self.endpoint), self.errcode);
        let address = self
            .address()
            .map_or("the address of this exporter".to_owned(), |ip| {
                ip.to_string()
            });
        let (peer, _) = access.peer(self.endpoint);
        let advice = rule.advice.replace("{ip}", &address);
        let advice = advice.replace("{peer}", &peer);
        let mut sentence = format!("{}: {advice}", access.appid());
        if let Some(place) = rule.place {
            let _ = write!(sentence, "; see {}", place.way());
        }
        let _ = write!(sentence, " (errcode {}", self.errcode);
        if rule.reason == Reason::Other && !self.errmsg.is_empty() {
            let _ = write!(sentence, ", it says: {}", self.errmsg);
        } else if let Some(rid) = self.rid() {
            let _ = write!(sentence, ", rid {rid}");
        }
        sentence + ")"
    }
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;
    use secrecy::SecretString;

    use super::*;
    use crate::config::access::{
        AccessMethod, CloudFunction, HttpEndpoint, PrivateUrl, Secret, TokenAccess, TokenEndpoint,
        TokenSource, read_text,
    };
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
            Endpoint::Function => {
                wire::of_function(body.as_bytes(), Window::OneDay, NaiveDate::MIN).err()
            }
        };
        error.unwrap().sentence(&access())
    }

    fn access() -> Access {
        access_by("secret_file")
    }

    #[test]
    fn a_refused_address_is_named() {
        let errmsg =
            format!("invalid ip 61.183.89.14 ipv6 ::ffff:61.183.89.14, not in whitelist {RID}");
        assert_eq!(
            sentence(Endpoint::Token, 40164, &errmsg),
            "wx0123456789abcdef: add 61.183.89.14 to the IP allow-list of the app; see mp.weixin.qq.com › 开发管理 › 开发设置 (errcode 40164, rid 61b7f9e0-66c14e21-3f647b7e)"
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
            "wx0123456789abcdef: add the address of this exporter to the IP allow-list of the app; see mp.weixin.qq.com › 开发管理 › 开发设置 (errcode 61004)"
        );
    }

    #[test]
    fn a_refused_secret_and_a_refused_token_are_told_apart() {
        let errmsg = format!("invalid credential, access_token is invalid or not latest {RID}");
        assert_eq!(
            sentence(Endpoint::Token, 40001, &errmsg),
            "wx0123456789abcdef: WeChat refuses the AppSecret: set the one shown in its console; see mp.weixin.qq.com › 开发管理 › 开发设置 (errcode 40001, rid 61b7f9e0-66c14e21-3f647b7e)"
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
            "wx0123456789abcdef: WeChat refuses for a reason that this exporter does not know (errcode 12345, it says: no [redacted] level=error [redacted] rid: 61b7f9e0-66c14e21-3f647b7e)"
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
                "wx0123456789abcdef: the AppSecret is wrong or was reset: set the new one; a changed secret_file is noticed within a minute; see mp.weixin.qq.com › 开发管理 › 开发设置 (errcode 40125)",
                "{errmsg}"
            );
        }
    }

    #[test]
    fn what_is_no_refusal_is_told_in_a_sentence_too() {
        let status =
            |status| Error::failed(Endpoint::Portrait, Failure::Status(status)).sentence(&access());
        assert_eq!(
            Error::Empty.sentence(&access()),
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
                .sentence(&access()),
            "wx0123456789abcdef: the answer is no portrait of the day asked for: it is JSON, but no object; check what stands between here and WeChat"
        );
    }

    /// The access of an app whose portraits, or tokens, come from elsewhere.
    fn access_by(key: &str) -> Access {
        let remote = || HttpEndpoint {
            url: PrivateUrl::from("https://example.com/".parse::<url::Url>().unwrap()),
            headers_file: None,
        };
        let token = |source, function| {
            AccessMethod::Token(TokenAccess {
                source,
                parameter: String::new(),
                function,
            })
        };
        let secret = || {
            let (value, file) = (SecretString::from("secret"), None);
            TokenSource::Secret(Secret { value, file }, TokenEndpoint::Stable)
        };
        let way = match key {
            "portrait_url" => AccessMethod::PortraitUrl(remote()),
            "token_url" => token(TokenSource::Url(remote()), None),
            "cloud_function" => {
                let (env, name) = ("prod-1a2b".to_owned(), "portrait".to_owned());
                token(secret(), Some(CloudFunction { env, name }))
            }
            _ => token(secret(), None),
        };
        Access::new("wx0123456789abcdef".parse().unwrap(), way)
    }

    /// What is no errcode, and whose it is.
    async fn other_failures() -> Vec<(&'static str, Error)> {
        const PORTRAIT: Endpoint = Endpoint::Portrait;
        const TOKEN: Endpoint = Endpoint::Token;
        let failed = Error::failed;
        let given = |source, output| client::given(source, output).err().unwrap();
        let appid = "wx0123456789abcdef".parse().unwrap();
        let run = async |program: &str| {
            let token = client::by_command(&appid, &[program.to_owned()]).await;
            token.err().unwrap()
        };
        let file = |text: &[u8]| given("token_file /run/tokens/shop", Ok(text.to_owned()));
        let missing = |name: &str| read_text(name.as_ref()).unwrap_err();
        let unusable = |reason, name| Error::Unusable(PORTRAIT, reason, missing(name));
        let unreadable = |body: &str| {
            wire::of_function(body.as_bytes(), Window::OneDay, NaiveDate::MIN).unwrap_err()
        };
        vec![
            ("", Error::Empty),
            ("", failed(PORTRAIT, Failure::Connect)),
            ("", failed(PORTRAIT, Failure::Timeout)),
            ("", failed(PORTRAIT, Failure::Body)),
            ("", failed(PORTRAIT, Failure::Status(502))),
            ("", failed(PORTRAIT, Failure::Status(404))),
            ("", failed(PORTRAIT, Failure::Status(429))),
            ("", unreadable(r#"{"a":0}"#)),
            ("", unreadable("<html>")),
            (
                "",
                Error::NotRelayed(Box::new(failed(PORTRAIT, Failure::Status(502)))),
            ),
            ("", unusable(Reason::Configuration, "secrets/headers")),
            ("", given("", Err(missing("/run/tokens/shop")))),
            ("", file(b"")),
            ("", file(b"<html>")),
            (
                "",
                file(br#"{"errcode":40125,"errmsg":"invalid appsecret"}"#),
            ),
            ("", run("true").await),
            ("", run("false").await),
            ("", run("wx-token").await),
            ("token_url", failed(TOKEN, Failure::Connect)),
            ("token_url", failed(TOKEN, Failure::Timeout)),
            ("token_url", failed(TOKEN, Failure::Status(403))),
            ("token_url", wire::given_token(b"<html>").err().unwrap()),
            ("cloud_function", unreadable(r#"{"resp_data":""}"#)),
            (
                "cloud_function",
                unreadable(r#"{"resp_data":"{\"errorMessage\":\"x is not defined\"}"}"#),
            ),
            ("portrait_url", failed(PORTRAIT, Failure::Timeout)),
            ("portrait_url", failed(PORTRAIT, Failure::Status(403))),
            ("portrait_url", unreadable(r#"{"a":0}"#)),
            (
                "portrait_url",
                unreadable(r#"{"data":{"errCode":401,"errMsg":"send the header"}}"#),
            ),
        ]
    }

    /// Writes what the program can say about failures as the table of docs/access.md.
    async fn troubleshooting() -> String {
        let mut table = "| errcode | the exporter says | reason | asked again | where |\n|---|---|---|---|---|\n".to_owned();
        let again = |then| match then {
            Then::NextPoll => "at the next poll".to_owned(),
            Then::Soon => "in a moment, three times".to_owned(),
            Then::NewToken => "once with a new token".to_owned(),
            Then::OtherDay => "not for that day".to_owned(),
            Then::After(pause) => format!("after {}", humantime::format_duration(pause)),
            Then::Tomorrow => "after midnight in Beijing".to_owned(),
        };
        let kind = |asked| match asked {
            Asked::OwnToken => "",
            Asked::Secret => " for the AppSecret",
            Asked::GivenToken => " with `token_file`, `token_url`, `token_command`",
            Asked::CloudHosting => " with `cloud_hosting`",
            Asked::PortraitUrl => " with `portrait_url`",
        };
        let rules = errcode::RULES.iter().map(|rule| (Asked::OwnToken, rule));
        let exceptions = errcode::EXCEPTIONS.iter();
        for (asked, rule) in rules.chain(exceptions.map(|(asked, rule)| (*asked, rule))) {
            let codes: Vec<String> = rule.errcodes.iter().map(ToString::to_string).collect();
            let has_token = !matches!(asked, Asked::CloudHosting | Asked::PortraitUrl);
            let _ = writeln!(
                table,
                "| {}{} | {} | `{}` | {} | {} |",
                codes.join(", "),
                kind(asked),
                rule.advice.replace("{ip}", "203.0.113.7"),
                rule.reason,
                match rule.then {
                    Then::NewToken if !has_token => again(Then::NextPoll),
                    then => again(then),
                },
                rule.place.map_or("", errcode::Place::way),
            );
        }
        for (key, error) in other_failures().await {
            let sentence = error.sentence(&access_by(key));
            let _ = writeln!(
                table,
                "| | {} | `{}` | {} | |",
                sentence.trim_start_matches("wx0123456789abcdef: "),
                error.reason(),
                again(if error.is_passing() {
                    Then::Soon
                } else {
                    error.then()
                }),
            );
        }
        table
    }

    #[tokio::test]
    async fn the_documentation_has_what_the_program_says() {
        let page = include_str!("../../docs/access.md");
        let begin = "<!-- what follows is checked by a test, up to the end of the table -->\n\n";
        let (_, rest) = page.split_once(begin).unwrap();
        let (table, _) = rest.split_once("\n\n").unwrap_or((rest, ""));
        let expected = troubleshooting().await;
        assert_eq!(
            table.trim_end(),
            expected.trim_end(),
            "it must be\n{expected}"
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
            Error::failed(Endpoint::Portrait, Failure::Timeout),
            Error::Decode(Endpoint::Portrait, String::new()),
        ] {
            assert!(!error.is_not_ready(), "{error}");
        }
        assert_eq!(
            Error::failed(Endpoint::Portrait, Failure::Status(429)).reason(),
            Reason::RateLimited
        );
        assert_eq!(
            Error::failed(Endpoint::Portrait, Failure::Status(500)).reason(),
            Reason::Transport
        );
    }
}
