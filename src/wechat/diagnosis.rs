//! What a failure means: the reason it is counted under, when to retry, what it affects, and one
//! sentence for the operator.
//!
//! [`Diagnosis`] is computed once, where a request fails; callers read its fields.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::access::{Caller, WECHAT};
use super::errcodes::{self, Credential, Reason, Retry};
use super::error::{DecodeError, Error, Failure, Refusal, RequestFailure};
use super::requests::Endpoint;

/// Why there is no portrait, and what follows from that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// The reason it is counted under.
    pub reason: Reason,
    /// When to request again.
    pub retry: Retry,
    /// Which other requests would fail like this one.
    pub scope: Scope,
    /// The part of the API that failed; [`Endpoint::Token`] if there was no token to request a portrait
    /// with.
    pub endpoint: Endpoint,
    /// WeChat's error code, if it returned one.
    pub errcode: Option<i64>,
    /// WeChat's number for this answer, which its support asks for.
    pub rid: Option<String>,
    /// How the request is counted; `None` if no request failed.
    pub failure: Option<RequestFailure>,
    /// What happened, what to do about it and where, in one line.
    pub message: String,
}

/// Which requests a failure affects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// This window and day alone.
    Day,
    /// Everything that could be requested for the app now.
    App,
}

impl Diagnosis {
    /// Returns `true` if this is WeChat's answer for a day that it has not computed yet.
    #[must_use]
    pub fn is_not_ready(&self) -> bool {
        matches!(self.reason, Reason::NotReady | Reason::Empty)
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl Error {
    /// Decides what a failure means for the app that the request was for.
    pub(super) fn diagnose(&self, caller: &Caller) -> Diagnosis {
        match self {
            Self::Decode(DecodeError::Refused(refusal)) => refusal.diagnose(caller),
            Self::Decode(DecodeError::Empty) => Diagnosis {
                reason: Reason::Empty,
                retry: Retry::NextPoll,
                scope: Scope::Day,
                endpoint: Endpoint::Portrait,
                errcode: None,
                rid: None,
                failure: None,
                message: errcodes::NOT_COMPUTED.to_owned(),
            },
            Self::Decode(DecodeError::Unreadable(endpoint, problem)) => {
                let wanted = match endpoint {
                    Endpoint::Portrait | Endpoint::Function => "portrait of the requested day",
                    Endpoint::Token => "token",
                };
                let (peer, _) = caller.peer(*endpoint);
                let check = if peer == WECHAT {
                    "check the proxies and gateways on the way to WeChat".to_owned()
                } else {
                    format!("check what {peer} returns, and its log")
                };
                Diagnosis {
                    reason: Reason::Decode,
                    retry: Retry::NextPoll,
                    scope: scope(*endpoint, Retry::NextPoll),
                    endpoint: *endpoint,
                    errcode: None,
                    rid: None,
                    failure: Some(RequestFailure::Unreadable),
                    message: format!("the response is not a {wanted}: {problem}; {check}"),
                }
            }
            Self::Transport {
                endpoint,
                failure,
                host,
                source,
            } => {
                let (peer, key) = caller.peer(*endpoint);
                let detail = source.as_ref().map_or(String::new(), |error| {
                    let host = host.as_ref().map(|host| format!("{host}: "));
                    format!(" ({}{})", host.unwrap_or_default(), innermost(error))
                });
                let (reason, retry) = match failure {
                    Failure::Status(429) => {
                        (Reason::RateLimited, Retry::After(Duration::from_mins(1)))
                    }
                    Failure::Status(..500) => (Reason::Transport, Retry::NextPoll),
                    _ => (Reason::Transport, Retry::Soon),
                };
                let scope = match failure {
                    // The next request would wait for the same host, and as long.
                    Failure::Unreachable
                    | Failure::ConnectTimeout
                    | Failure::Disconnected
                    | Failure::Timeout => Scope::App,
                    Failure::Body | Failure::Status(_) => scope(*endpoint, retry),
                };
                Diagnosis {
                    reason,
                    retry,
                    scope,
                    endpoint: *endpoint,
                    errcode: None,
                    rid: None,
                    failure: Some(RequestFailure::Transport(*failure)),
                    message: format!("{}{detail}", failure.advice(&peer, key)),
                }
            }
            Self::Unusable(endpoint, reason, problem) => Diagnosis {
                reason: *reason,
                retry: Retry::NextPoll,
                // The file or the program belongs to every request of the app.
                scope: Scope::App,
                endpoint: *endpoint,
                errcode: None,
                rid: None,
                failure: None,
                message: problem.clone(),
            },
            Self::NotRelayed(error) => {
                let mut diagnosis = error.diagnose(caller);
                diagnosis.message += "; the response has no x-openapi-seqid, so the sidecar of cloud hosting did not relay the request";
                diagnosis
            }
        }
    }
}

/// Returns what a failure affects: without a token nothing can be requested, and what an operator has to
/// change, or a used-up quota, concerns all requests.
fn scope(endpoint: Endpoint, retry: Retry) -> Scope {
    match (endpoint, retry) {
        (Endpoint::Token, _) | (_, Retry::NewToken | Retry::After(_) | Retry::Tomorrow) => {
            Scope::App
        }
        (_, Retry::NextPoll | Retry::Soon | Retry::OtherDay) => Scope::Day,
    }
}

impl Failure {
    fn advice(self, peer: &str, key: &str) -> String {
        match self {
            Self::Unreachable => {
                format!("no connection to {peer}; check network, DNS, proxy and {key}")
            }
            Self::Disconnected => {
                format!("no valid HTTP response from {peer}; check network, proxy and {key}")
            }
            Self::Timeout | Self::ConnectTimeout => {
                format!(
                    "{peer} did not respond in time; check the network, or raise wechat.timeout"
                )
            }
            Self::Body => {
                format!(
                    "the response ended early; check the proxies and gateways on the way to {peer}"
                )
            }
            Self::Status(429) => format!(
                "too many requests, says {peer} or a gateway on the way; raise poll.interval"
            ),
            Self::Status(status) if peer == WECHAT => format!(
                "HTTP status {status}, which WeChat itself never sends; check proxy and {key}, or wait if it passes"
            ),
            Self::Status(status) => format!(
                "HTTP status {status} from {peer}; check {key} and {key}_headers_file, or wait if it passes"
            ),
        }
    }
}

impl Refusal {
    fn diagnose(&self, caller: &Caller) -> Diagnosis {
        let Self {
            endpoint,
            errcode,
            errmsg,
        } = self;
        let credential = caller.credential(*endpoint);
        let rule = errcodes::rule(credential, *errcode);
        let (peer, _) = caller.peer(*endpoint);
        let diagnosis = Diagnosis {
            reason: rule.reason,
            retry: rule.retry,
            scope: scope(*endpoint, rule.retry),
            endpoint: *endpoint,
            errcode: Some(*errcode),
            rid: self.rid().map(str::to_owned),
            failure: Some(RequestFailure::Errcode(*errcode)),
            message: String::new(),
        };
        if credential == Credential::TokenUrl {
            // WeChat sent it to another program, which may have a token at any time.
            let is_busy = rule.retry == Retry::Soon;
            return Diagnosis {
                reason: Reason::Token,
                retry: if is_busy {
                    Retry::Soon
                } else {
                    Retry::NextPoll
                },
                message: self.instead_of_token(&peer),
                ..diagnosis
            };
        }
        let address = self
            .address()
            .map_or("the address of this exporter".to_owned(), |ip| {
                ip.to_string()
            });
        let advice = rule.advice.text.replace("{ip}", &address);
        let advice = advice.replace("{peer}", &peer);
        let page = rule.advice.page;
        let page = page.map_or(String::new(), |page| format!("; see {}", page.breadcrumb()));
        let detail = if rule.reason == Reason::Other && !errmsg.is_empty() {
            format!(", it says: {errmsg}")
        } else {
            self.rid()
                .map_or(String::new(), |rid| format!(", rid {rid}"))
        };
        let has_token = !matches!(
            credential,
            Credential::CloudHosting | Credential::PortraitUrl
        );
        Diagnosis {
            retry: match rule.retry {
                // There is no token that could be replaced.
                Retry::NewToken if !has_token => Retry::NextPoll,
                retry => retry,
            },
            message: format!("{advice}{page} (errcode {errcode}{detail})"),
            ..diagnosis
        }
    }

    /// Describes an answer of a source of tokens that is not a token.
    pub(super) fn instead_of_token(&self, source: &str) -> String {
        format!(
            "{source} gave no token, but a refusal of WeChat: errcode {}, {}",
            self.errcode, self.errmsg
        )
    }

    /// Returns the address that WeChat does not allow, if it names one.
    fn address(&self) -> Option<IpAddr> {
        self.errmsg
            .split([' ', ','])
            .find_map(|word| word.parse().ok())
    }

    /// Returns WeChat's id of this answer, which its support asks for.
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
}

/// Returns the last cause of an error, which is the most specific one.
fn innermost(error: &reqwest::Error) -> String {
    let mut error: &dyn std::error::Error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use chrono::NaiveDate;
    use secrecy::SecretString;

    use super::*;
    use crate::config::access::{
        AccessMethod, CloudFunction, HttpEndpoint, PrivateUrl, Secret, TokenAccess, TokenEndpoint,
        TokenSource, read_text,
    };
    use crate::portrait::Window;
    use crate::wechat::redact::Redactor;
    use crate::wechat::requests::Wanted;
    use crate::wechat::{decode, tokens};

    const RID: &str = "rid: 61b7f9e0-66c14e21-3f647b7e";

    /// The message for the operator about this refusal.
    fn sentence(endpoint: Endpoint, errcode: i64, errmsg: &str) -> String {
        let body = serde_json::json!({ "errcode": errcode, "errmsg": errmsg }).to_string();
        let error = match endpoint {
            Endpoint::Token => given(body.as_bytes()),
            _ => response(&body, endpoint),
        };
        diagnose(&error).message
    }

    /// Why an answer is not a portrait.
    fn response(body: &str, endpoint: Endpoint) -> Error {
        let wanted = Wanted {
            window: Window::OneDay,
            day: NaiveDate::MIN,
        };
        let answer = decode::response(body.as_bytes(), endpoint, wanted, &Redactor::default());
        answer.unwrap_err().into()
    }

    /// Why an answer is not a token.
    fn given(body: &[u8]) -> Error {
        let token = tokens::given(body, &Redactor::default());
        token.err().unwrap().into()
    }

    fn diagnose(error: &Error) -> Diagnosis {
        error.diagnose(&caller_by("secret_file"))
    }

    fn unreadable(problem: &str) -> Error {
        DecodeError::Unreadable(Endpoint::Portrait, problem.to_owned()).into()
    }

    #[test]
    fn a_refused_address_is_named() {
        let errmsg =
            format!("invalid ip 61.183.89.14 ipv6 ::ffff:61.183.89.14, not in whitelist {RID}");
        assert_eq!(
            sentence(Endpoint::Token, 40164, &errmsg),
            "add 61.183.89.14 to the IP allow-list of the app; see mp.weixin.qq.com › 开发管理 › 开发设置 (errcode 40164, rid 61b7f9e0-66c14e21-3f647b7e)"
        );
        assert_eq!(
            sentence(
                Endpoint::Token,
                89503,
                "reject invoke IP 2001:db8::1, please contact"
            ),
            "the administrator of the app must confirm 2001:db8::1: WeChat has sent them a message (errcode 89503)"
        );
        assert_eq!(
            sentence(
                Endpoint::Portrait,
                61004,
                "access clientip is not registered"
            ),
            "add the address of this exporter to the IP allow-list of the app; see mp.weixin.qq.com › 开发管理 › 开发设置 (errcode 61004)"
        );
    }

    #[test]
    fn a_refused_secret_and_a_refused_token_are_distinguished() {
        let errmsg = format!("invalid credential, access_token is invalid or not latest {RID}");
        assert_eq!(
            sentence(Endpoint::Token, 40001, &errmsg),
            "WeChat refuses the AppSecret: set the one shown in its console; see mp.weixin.qq.com › 开发管理 › 开发设置 (errcode 40001, rid 61b7f9e0-66c14e21-3f647b7e)"
        );
        assert_eq!(
            sentence(Endpoint::Portrait, 40001, &errmsg),
            "WeChat refuses even a new token: another program fetches tokens with cgi-bin/token or force_refresh, or the secret is of another app (errcode 40001, rid 61b7f9e0-66c14e21-3f647b7e)"
        );
    }

    #[test]
    fn an_unknown_code_is_reported_in_the_words_of_wechat_without_secrets() {
        let secret = "0123456789abcdef0123456789abcdef";
        let token = "aZ9_".repeat(128);
        assert_eq!(
            sentence(
                Endpoint::Portrait,
                12345,
                &format!("no {secret}\nlevel=error {token} {RID}")
            ),
            "WeChat refuses for a reason that this exporter does not know (errcode 12345, it says: no [redacted] level=error [redacted] rid: 61b7f9e0-66c14e21-3f647b7e)"
        );
        assert_eq!(
            sentence(Endpoint::Portrait, 12345, ""),
            "WeChat refuses for a reason that this exporter does not know (errcode 12345)"
        );
    }

    #[test]
    fn an_id_for_support_is_only_reported_if_it_is_valid() {
        for errmsg in [
            "x rid: ",
            "x rid: <b>",
            "rid:",
            &format!("rid: {}", "a".repeat(32)),
        ] {
            assert_eq!(
                sentence(Endpoint::Token, 40125, errmsg),
                "the AppSecret is wrong or was reset: set the new one; a changed secret_file is noticed within a minute; see mp.weixin.qq.com › 开发管理 › 开发设置 (errcode 40125)",
                "{errmsg}"
            );
        }
    }

    #[test]
    fn a_failure_that_is_not_a_refusal_is_described_too() {
        let status = |status| {
            let failed = Error::failed(Endpoint::Portrait, Failure::Status(status));
            diagnose(&failed).message
        };
        assert_eq!(
            diagnose(&DecodeError::Empty.into()).message,
            errcodes::NOT_COMPUTED
        );
        assert_eq!(
            status(502),
            "HTTP status 502, which WeChat itself never sends; check proxy and wechat.base_url, or wait if it passes"
        );
        assert_eq!(
            status(429),
            "too many requests, says WeChat or a gateway on the way; raise poll.interval"
        );
        assert_eq!(
            diagnose(&unreadable("it is JSON, but not an object")).message,
            "the response is not a portrait of the requested day: it is JSON, but not an object; check the proxies and gateways on the way to WeChat"
        );
    }

    /// The access of an app whose portraits, or tokens, come from another source.
    fn caller_by(key: &str) -> Caller {
        let at = || HttpEndpoint {
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
            let secret = Secret {
                value: Ok(SecretString::from("secret")),
                file: None,
                variable: None,
            };
            TokenSource::Secret(secret, TokenEndpoint::Stable)
        };
        let method = match key {
            "portrait_url" => AccessMethod::PortraitUrl(at()),
            "token_url" => token(TokenSource::Url(at()), None),
            "cloud_function" => {
                let (env, name) = ("prod-1a2b".to_owned(), "portrait".to_owned());
                token(secret(), Some(CloudFunction { env, name }))
            }
            "cloud_hosting" => AccessMethod::CloudHosting,
            _ => token(secret(), None),
        };
        let appid = "wx0123456789abcdef".parse().unwrap();
        let name = "shop".to_owned();
        Caller {
            appid,
            name,
            method,
        }
    }

    /// Failures without an errcode, and their access.
    async fn other_failures() -> Vec<(&'static str, Error)> {
        const PORTRAIT: Endpoint = Endpoint::Portrait;
        const TOKEN: Endpoint = Endpoint::Token;
        let failed = Error::failed;
        let caller = caller_by("token_command");
        let run = async |program: &str| {
            let words = [program.to_owned()];
            let token = tokens::by_command(&caller, &words, &[], &mut String::new()).await;
            token.err().unwrap()
        };
        let file = |text: &[u8]| {
            let token = tokens::given_by("token_file /run/tokens/shop", text);
            token.err().unwrap()
        };
        let missing = |name: &str| read_text(name.as_ref()).unwrap_err();
        let unusable = |reason, name| Error::Unusable(PORTRAIT, reason, missing(name));
        let unreadable = |body| response(body, Endpoint::Function);
        vec![
            ("", DecodeError::Empty.into()),
            ("", failed(PORTRAIT, Failure::Unreachable)),
            ("", failed(PORTRAIT, Failure::Disconnected)),
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
            ("", tokens::missing_file(&missing("/run/tokens/shop"))),
            ("", file(b"")),
            ("", file(b"<html>")),
            (
                "",
                file(br#"{"errcode":40125,"errmsg":"invalid appsecret"}"#),
            ),
            ("", run("true").await),
            ("", run("false").await),
            ("", run("wx-token").await),
            ("token_url", failed(TOKEN, Failure::Unreachable)),
            ("token_url", failed(TOKEN, Failure::Timeout)),
            ("token_url", failed(TOKEN, Failure::Status(403))),
            ("token_url", given(b"<html>")),
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

    /// Writes the messages about failures as the table of docs/access.md.
    async fn troubleshooting() -> String {
        let mut table =
            "| errcode | the exporter says | reason | retry | where |\n|---|---|---|---|---|\n"
                .to_owned();
        let retry = |retry| match retry {
            Retry::NextPoll => "at the next poll".to_owned(),
            Retry::Soon => "in a moment, three times".to_owned(),
            Retry::NewToken => "once with a new token".to_owned(),
            Retry::OtherDay => "never for that day".to_owned(),
            Retry::After(pause) => format!("after {}", humantime::format_duration(pause)),
            Retry::Tomorrow => "after midnight in Beijing".to_owned(),
        };
        let rules = errcodes::RULES.iter();
        let rules = rules.map(|rule| (rule.errcodes, "", "secret_file"));
        let of_secret = errcodes::APP_SECRET_REFUSED.errcodes;
        let exceptions = errcodes::EXCEPTIONS.iter().map(|exception| {
            let (kind, key) = match exception.credential {
                Credential::GivenToken => (
                    " with `token_file`, `token_url`, `token_command`",
                    "token_url",
                ),
                Credential::CloudHosting => (" with `cloud_hosting`", "cloud_hosting"),
                Credential::PortraitUrl => (" with `portrait_url`", "portrait_url"),
                other => panic!("{other:?}"),
            };
            (exception.errcodes, kind, key)
        });
        let of_secret = std::iter::once((of_secret, " for the AppSecret", "secret_file"));
        for (errcodes, kind, key) in rules.chain(of_secret).chain(exceptions) {
            let caller = caller_by(key);
            let endpoint = match kind {
                " for the AppSecret" => Endpoint::Token,
                _ => Endpoint::Portrait,
            };
            let advice = errcodes::rule(caller.credential(endpoint), errcodes[0]).advice;
            let refusal = Refusal {
                endpoint,
                errcode: errcodes[0],
                errmsg: String::new(),
            };
            let diagnosis = refusal.diagnose(&caller);
            let errcodes: Vec<String> = errcodes.iter().map(ToString::to_string).collect();
            let _ = writeln!(
                table,
                "| {}{kind} | {} | `{}` | {} | {} |",
                errcodes.join(", "),
                advice.text.replace("{ip}", "203.0.113.7"),
                diagnosis.reason,
                retry(diagnosis.retry),
                advice.page.map_or("", errcodes::ConsolePage::breadcrumb),
            );
        }
        for (key, error) in other_failures().await {
            let diagnosis = error.diagnose(&caller_by(key));
            let _ = writeln!(
                table,
                "| | {} | `{}` | {} | |",
                diagnosis.message.trim_start_matches(""),
                diagnosis.reason,
                retry(diagnosis.retry),
            );
        }
        table
    }

    #[tokio::test]
    async fn the_documentation_lists_the_messages_of_the_program() {
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
            let refusal = Refusal {
                endpoint: Endpoint::Portrait,
                errcode,
                errmsg: String::new(),
            };
            diagnose(&DecodeError::Refused(refusal).into())
        };
        let failed = |failure| diagnose(&Error::failed(Endpoint::Portrait, failure));
        assert!(diagnose(&DecodeError::Empty.into()).is_not_ready());
        assert!(refused(61503).is_not_ready());
        for diagnosis in [
            refused(-1),
            refused(61501),
            failed(Failure::Timeout),
            diagnose(&unreadable("")),
        ] {
            assert!(!diagnosis.is_not_ready(), "{diagnosis}");
        }
        let reason = |status| failed(Failure::Status(status)).reason;
        assert_eq!(reason(429), Reason::RateLimited);
        assert_eq!(reason(500), Reason::Transport);
    }

    #[test]
    fn a_failure_that_every_request_would_share_affects_the_app() {
        let failed = |endpoint, failure| diagnose(&Error::failed(endpoint, failure)).scope;
        for (failure, of_portrait) in [
            (Failure::Unreachable, Scope::App),
            (Failure::Disconnected, Scope::App),
            (Failure::Timeout, Scope::App),
            (Failure::Status(429), Scope::App),
            (Failure::Body, Scope::Day),
            (Failure::Status(502), Scope::Day),
        ] {
            assert_eq!(
                failed(Endpoint::Portrait, failure),
                of_portrait,
                "{failure}"
            );
            assert_eq!(failed(Endpoint::Token, failure), Scope::App, "{failure}");
        }
        for (errcode, scope) in [
            (61503, Scope::Day),
            (61501, Scope::Day),
            (-1, Scope::Day),
            (40001, Scope::App),
            (40164, Scope::App),
            (45009, Scope::App),
        ] {
            let refusal = Refusal {
                endpoint: Endpoint::Portrait,
                errcode,
                errmsg: String::new(),
            };
            let diagnosis = refusal.diagnose(&caller_by("secret_file"));
            assert_eq!(diagnosis.scope, scope, "{errcode}");
        }
    }

    #[test]
    fn unknown_codes_are_counted_as_one() {
        let label = |errcode| RequestFailure::Errcode(errcode).to_string();
        assert_eq!(label(40164), "40164");
        assert_eq!(label(-604_101), "-604101");
        assert_eq!([label(12345), label(i64::MIN)], ["other", "other"]);
    }
}
