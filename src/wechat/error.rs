//! The failures between a request and its portrait, before their meaning is decided.
//!
//! [`DecodeError`] is about the contents of an answer; the module's own [`Error`] adds what happens
//! before there is an answer. `diagnosis` turns either into one value for callers.

use std::fmt;

use url::Url;

use super::errcodes::{self, Reason};
use super::requests::Endpoint;

/// Why an answer holds no portrait or no token.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// WeChat answered with an error code.
    #[error("WeChat returned errcode {}", .0.errcode)]
    Refused(Refusal),
    /// WeChat answered a portrait without any figure: the day is not computed yet.
    #[error("WeChat returned an empty portrait")]
    Empty,
    /// The answer has another form than expected; the text describes the difference.
    #[error("unreadable response: {1}")]
    Unreadable(Endpoint, String),
}

/// A refusal in WeChat's own terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The part of the API that refused.
    pub endpoint: Endpoint,
    /// WeChat's error code.
    pub errcode: i64,
    /// WeChat's message, without anything that could be a secret or a token.
    pub errmsg: String,
}

/// Why there is no portrait, by what happened.
#[derive(Debug)]
pub(super) enum Error {
    /// There is an answer, and this is its content.
    Decode(DecodeError),
    /// There is no answer, or only part of one.
    Transport {
        endpoint: Endpoint,
        failure: Failure,
        /// Host and port of the URL, if the request got that far.
        host: Option<String>,
        /// Free of URLs, which hold tokens.
        source: Option<reqwest::Error>,
    },
    /// A file or a program that is configured can't be used; the text names it and the reason.
    Unusable(Endpoint, Reason, String),
    /// The request failed like this, and cloud hosting did not relay it.
    NotRelayed(Box<Error>),
}

/// How a request failed before there was an answer to decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No connection could be made, so the request was not received.
    #[error("connect")]
    Unreachable,
    /// No connection could be made in time; another host may be tried as well.
    #[error("timeout")]
    ConnectTimeout,
    /// The connection ended before an answer, or what came was not HTTP.
    #[error("connect")]
    Disconnected,
    /// The whole request took too long.
    #[error("timeout")]
    Timeout,
    /// The answer ended early.
    #[error("body")]
    Body,
    /// There was an answer, but with this HTTP status.
    #[error("http_{0}")]
    Status(u16),
}

/// How a request is counted that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestFailure {
    /// WeChat's error code.
    Errcode(i64),
    /// No response, or only part of one.
    Transport(Failure),
    /// A response that could not be parsed.
    Unreadable,
}

impl fmt::Display for RequestFailure {
    /// Writes the value of the label `errcode`, of which there must be few: the server of a
    /// `portrait_url` may invent any number of codes.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errcode(errcode) if errcodes::is_known(*errcode) => errcode.fmt(formatter),
            Self::Errcode(_) => formatter.write_str("other"),
            Self::Transport(failure) => failure.fmt(formatter),
            Self::Unreadable => Failure::Body.fmt(formatter),
        }
    }
}

impl Failure {
    /// Returns `true` if the request was not received, so that it can be sent to another host.
    pub(super) fn is_unreachable(self) -> bool {
        matches!(self, Self::Unreachable | Self::ConnectTimeout)
    }
}

impl Error {
    pub(super) fn failed(endpoint: Endpoint, failure: Failure) -> Self {
        Self::Transport {
            endpoint,
            failure,
            host: None,
            source: None,
        }
    }

    /// Removes the URL, as the token is in it.
    pub(super) fn from_reqwest(endpoint: Endpoint, error: reqwest::Error) -> Self {
        let failure = match (error.is_connect(), error.is_timeout()) {
            (true, true) => Failure::ConnectTimeout,
            (true, false) => Failure::Unreachable,
            (false, true) => Failure::Timeout,
            (false, false) if error.is_request() => Failure::Disconnected,
            (false, false) => Failure::Body,
        };
        Self::Transport {
            endpoint,
            failure,
            host: error.url().map(host_of),
            source: Some(error.without_url()),
        }
    }
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

/// Returns the part of a URL that may be logged.
pub(super) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port_or_known_default()
        .map_or(host.to_owned(), |port| format!("{host}:{port}"))
}
