//! What apps of the test meet: the lists of faults and oddities, and the bytes that are sent.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::NaiveDate;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use super::Asked;
use crate::harness::TOKEN;

/// A part of the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// Connections, TLS and names of hosts.
    Connection,
    /// The form of an answer, as HTTP.
    Http,
    /// What an answer contains.
    Contents,
    /// Tokens from WeChat.
    Token,
    /// Secrets, files and programs on the host of the exporter.
    Host,
}

/// What one app meets, and what must be reported while it lasts.
pub(crate) struct Fault {
    pub(crate) part: Part,
    /// In words, for people.
    pub(crate) what: &'static str,
    /// The reason under which it is counted.
    pub(crate) reason: &'static str,
    /// Parts of the sentence that operators read, with `…` in between.
    pub(crate) words: &'static str,
    pub(super) cause: Cause,
}

/// Where an app meets its fault.
pub(super) enum Cause {
    /// WeChat answers requests for a token like this.
    Token(Wire),
    /// WeChat answers requests for a portrait like this.
    Portrait(Wire),
    /// The app has a `portrait_url` of its own, whose server does this.
    Server(Server),
    /// There is no host with the name in the `portrait_url`.
    Name,
    /// Something else is at the path of the `secret_file`.
    Secret(fn(&Path)),
    /// Something else is at the path of the `token_file`.
    TokenFile(fn(&Path)),
    /// The `token_command` is this script.
    Command(&'static str),
}

/// What is sent instead of an answer.
pub(super) enum Wire {
    /// These bytes, then the end of the connection.
    Bytes(Vec<u8>),
    /// The same, and a reset instead of the end.
    Reset(Vec<u8>),
    /// These bytes, then nothing, while the connection stays open.
    Stall(Vec<u8>),
    /// The first bytes, then the others again and again, with a pause in between.
    Endless(Vec<u8>, Vec<u8>, Duration),
    /// The bytes that follow from the request.
    Made(Make),
}

/// Makes an answer for a request.
type Make = Box<dyn Fn(&Asked) -> Vec<u8> + Send + Sync>;

/// What a server does that belongs to one app.
#[derive(Clone, Copy)]
pub(super) enum Server {
    /// Nothing listens at its port.
    Refuses,
    /// It accepts connections, and resets them.
    Resets,
    /// It accepts connections, and closes them.
    Closes,
    /// It accepts connections, and says nothing.
    Mute,
    /// It presents this certificate.
    Tls(Certificate),
    /// It speaks plain HTTP where TLS is expected.
    PlainInsteadOfTls,
    /// It speaks TLS where plain HTTP is expected.
    TlsInsteadOfPlain,
    /// It closes the connection during the handshake of TLS.
    ClosesHandshake,
    /// It says nothing during the handshake of TLS.
    MuteHandshake,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Certificate {
    Valid,
    WrongName,
    Expired,
    NotYetValid,
    SelfSigned,
}

impl Server {
    /// Returns the scheme of its URL.
    pub(super) fn scheme(self) -> &'static str {
        match self {
            Self::Refuses | Self::Resets | Self::Closes | Self::Mute | Self::TlsInsteadOfPlain => {
                "http"
            }
            _ => "https",
        }
    }
}

/// Returns an answer with this status, these headers and this body.
pub(super) fn http(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn bytes(text: &str) -> Wire {
    Wire::Bytes(text.as_bytes().to_vec())
}

fn status(status: &str) -> Wire {
    Wire::Bytes(http(status, "", b"<html>an error</html>"))
}

/// Redirects to a place that nobody may ask.
fn redirect(status: &str) -> Wire {
    let headers = format!("Location: {STOLEN}\r\n");
    Wire::Bytes(http(status, &headers, b"moved"))
}

fn body(text: impl AsRef<[u8]>) -> Wire {
    Wire::Bytes(http("200 OK", "", text.as_ref()))
}

pub(super) fn made(make: impl Fn(&Asked) -> String + Send + Sync + 'static) -> Wire {
    Wire::Made(Box::new(move |asked| {
        http("200 OK", "", make(asked).as_bytes())
    }))
}

fn endless(begin: &str, more: &str, pause: u64) -> Wire {
    let pause = Duration::from_millis(pause);
    Wire::Endless(begin.as_bytes().to_vec(), more.as_bytes().to_vec(), pause)
}

/// Returns a gzip file of zeros that is a thousand times as large when it is unpacked.
fn bomb() -> Wire {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..4096 {
        encoder.write_all(&[b' '; 16 << 10]).unwrap();
    }
    let packed = encoder.finish().unwrap();
    let headers = "Content-Encoding: gzip\r\nContent-Type: application/json\r\n";
    Wire::Bytes(http("200 OK", headers, &packed))
}

/// A path to which a redirect would carry a token.
pub(super) const STOLEN: &str = "/stolen";

/// The head of an answer whose body ends with the connection.
const HEAD: &str = "HTTP/1.1 200 OK\r\n\r\n";

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Words of the sentences.
const ENDED_EARLY: &str =
    "the response ended early; check the proxies and gateways on the way to WeChat";
const TOO_SLOW: &str = "WeChat did not respond in time; check the network, or raise wechat.timeout";
const NOT_JSON: &str = "bytes that are not JSON";
const OWN_URL: &str = "no connection to portrait_url (127.0.0.1); check network, DNS, proxy";
const CLOSED: &str =
    "no valid HTTP response from WeChat … connection closed before message completed";
const RESET: &str = "no valid HTTP response from WeChat … Connection reset by peer";

/// Returns every fault.
pub(crate) fn faults() -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut add = |part, of: Vec<(&'static str, Cause, &'static str, &'static str)>| {
        faults.extend(of.into_iter().map(|(what, cause, reason, words)| Fault {
            part,
            what,
            reason,
            words,
            cause,
        }));
    };
    add(Part::Connection, connections());
    add(Part::Http, answers());
    add(Part::Contents, contents());
    add(Part::Token, tokens());
    add(Part::Host, of_host());
    faults
}

type Rows = Vec<(&'static str, Cause, &'static str, &'static str)>;

#[expect(clippy::too_many_lines, reason = "it is a list")]
fn connections() -> Rows {
    use Cause::{Name, Portrait, Server as Of};
    let transport = |(what, cause, words)| (what, cause, "transport", words);
    let rows = vec![
        (
            "the name of the host is not found",
            Name,
            "portrait_url (no-such-host.invalid)",
        ),
        (
            "the connection is refused",
            Of(Server::Refuses),
            "no connection to portrait_url (127.0.0.1) … Connection refused",
        ),
        (
            "the connection is reset as soon as it is accepted",
            Of(Server::Resets),
            "no … portrait_url (127.0.0.1); check network … Connection reset by peer",
        ),
        (
            "the connection is closed as soon as it is accepted",
            Of(Server::Closes),
            "no … portrait_url (127.0.0.1); check network",
        ),
        (
            "the connection is accepted, and nothing is ever sent",
            Of(Server::Mute),
            "portrait_url (127.0.0.1) did not respond in time",
        ),
        (
            "the connection is closed after the request",
            Portrait(bytes("")),
            CLOSED,
        ),
        (
            "the connection is reset after the request",
            Portrait(Wire::Reset(Vec::new())),
            RESET,
        ),
        (
            "the connection is reset in the head of the response",
            Portrait(Wire::Reset(b"HTTP/1.1 200 OK\r\nContent-".to_vec())),
            RESET,
        ),
        (
            "the connection is reset in the body of the response",
            Portrait(Wire::Reset(
                b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{\"ref_date\"".to_vec(),
            )),
            "WeChat … Connection reset by peer",
        ),
        (
            "the connection is closed in the head of the response",
            Portrait(bytes("HTTP/1.1 200 OK\r\nContent-")),
            CLOSED,
        ),
        (
            "the connection is closed in the body of the response",
            Portrait(bytes(
                "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{\"ref_date\"",
            )),
            ENDED_EARLY,
        ),
        (
            "TLS: the certificate is for another name",
            Of(Server::Tls(Certificate::WrongName)),
            "no connection to portrait_url (127.0.0.1) … certificate not valid for name",
        ),
        (
            "TLS: the certificate has expired",
            Of(Server::Tls(Certificate::Expired)),
            "no connection to portrait_url (127.0.0.1) … certificate expired",
        ),
        (
            "TLS: the certificate is not valid yet",
            Of(Server::Tls(Certificate::NotYetValid)),
            "no connection to portrait_url (127.0.0.1) … certificate not valid yet",
        ),
        (
            "TLS: the certificate is self-signed",
            Of(Server::Tls(Certificate::SelfSigned)),
            "no connection to portrait_url (127.0.0.1) … UnknownIssuer",
        ),
        (
            "TLS: plain HTTP is spoken behind `https`",
            Of(Server::PlainInsteadOfTls),
            "no connection to portrait_url (127.0.0.1) … corrupt message",
        ),
        (
            "TLS is spoken behind `http`",
            Of(Server::TlsInsteadOfPlain),
            "no valid HTTP response from portrait_url (127.0.0.1) … invalid HTTP version",
        ),
        (
            "TLS: the connection is closed during the handshake",
            Of(Server::ClosesHandshake),
            OWN_URL,
        ),
        (
            "TLS: there is never a response to the handshake",
            Of(Server::MuteHandshake),
            "portrait_url (127.0.0.1) did not respond in time",
        ),
    ];
    rows.into_iter().map(transport).collect()
}

#[expect(clippy::too_many_lines, reason = "it is a list")]
fn answers() -> Rows {
    use Cause::Portrait;
    let of_status = |(line, what, words)| (what, Portrait(status(line)), "transport", words);
    let mut rows = vec![
        (
            "nothing is sent after the request",
            Portrait(Wire::Stall(Vec::new())),
            "transport",
            TOO_SLOW,
        ),
        (
            "the head comes byte by byte, without end",
            Portrait(endless("HTTP/1.1 200 OK\r\nX: ", "x", 50)),
            "transport",
            TOO_SLOW,
        ),
        (
            "the body comes byte by byte, without end",
            Portrait(endless(
                "HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n",
                " ",
                50,
            )),
            "transport",
            TOO_SLOW,
        ),
        (
            "the head has lines without end",
            Portrait(endless("HTTP/1.1 200 OK\r\n", LONG_HEADER, 0)),
            "transport",
            "no valid HTTP response from WeChat … message head is too large",
        ),
        (
            "the body has no end",
            Portrait(endless(HEAD, SPACES, 0)),
            "decode",
            "larger than 8 MiB",
        ),
        (
            "chunks come without end",
            Portrait(endless(CHUNKED, &format!("8000\r\n{SPACES}\r\n"), 0)),
            "decode",
            "larger than 8 MiB",
        ),
        (
            "interim responses (100) come without end",
            Portrait(endless("", "HTTP/1.1 100 Continue\r\n\r\n", 5)),
            "transport",
            TOO_SLOW,
        ),
        (
            "the size of a chunk is not a number",
            Portrait(Wire::Bytes([CHUNKED, "zz\r\n{}\r\n"].concat().into())),
            "transport",
            ENDED_EARLY,
        ),
        (
            "the size of a chunk is beyond any number",
            Portrait(Wire::Bytes(
                [CHUNKED, "ffffffffffffffffff\r\n{}\r\n"].concat().into(),
            )),
            "transport",
            ENDED_EARLY,
        ),
        (
            "the extension of a chunk has no end",
            Portrait(endless(&[CHUNKED, "1;"].concat(), SPACES, 0)),
            "transport",
            ENDED_EARLY,
        ),
        (
            "`Content-Length` is larger than the body",
            Portrait(bytes("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}")),
            "transport",
            ENDED_EARLY,
        ),
        (
            "`Content-Length` is smaller than the body",
            Portrait(bytes(
                "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"ref_date\":\"20261121\"}",
            )),
            "decode",
            NOT_JSON,
        ),
    ];
    rows.extend(
        [
            (
                "`Content-Length` is negative",
                "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}",
                "no valid HTTP response from WeChat … invalid content-length",
            ),
            (
                "`Content-Length` is beyond any number",
                "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
                "no valid HTTP response from WeChat … invalid content-length",
            ),
            (
                "`Content-Length` is there twice, with two values",
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
                "no valid HTTP response from WeChat … invalid content-length",
            ),
            (
                "the response is HTTP/0.9, a body alone",
                "{}",
                "no valid HTTP response from WeChat … invalid HTTP version",
            ),
            (
                "the response is HTTP/2",
                "\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64\0\x04\0\x10\0\0\0\x06\0\x01\0\0",
                "no valid HTTP response from WeChat … invalid HTTP version",
            ),
            (
                "another service responds",
                "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
                "no valid HTTP response from WeChat … invalid HTTP version",
            ),
            (
                "the status is not a number",
                "HTTP/1.1 OK 200\r\nContent-Length: 2\r\n\r\n{}",
                "no valid HTTP response from WeChat … invalid HTTP status-code",
            ),
            (
                "a header has a NUL",
                "HTTP/1.1 200 OK\r\nX: \0\r\nContent-Length: 2\r\n\r\n{}",
                "no valid HTTP response from WeChat … invalid HTTP header",
            ),
        ]
        .map(|(what, text, words)| (what, Portrait(bytes(text)), "transport", words)),
    );
    rows.extend(
        [
            ("400 Bad Request", "status 400", "HTTP status 400"),
            ("401 Unauthorized", "status 401", "HTTP status 401"),
            ("403 Forbidden", "status 403", "HTTP status 403"),
            ("404 Not Found", "status 404", "HTTP status 404"),
            (
                "407 Proxy Authentication Required",
                "status 407",
                "HTTP status 407",
            ),
            ("500 Internal Server Error", "status 500", "HTTP status 500"),
            ("502 Bad Gateway", "status 502", "HTTP status 502"),
            ("503 Service Unavailable", "status 503", "HTTP status 503"),
            ("504 Gateway Timeout", "status 504", "HTTP status 504"),
        ]
        .map(of_status),
    );
    rows.extend(
        [
            (
                "301 Moved Permanently",
                "a redirect (301)",
                "HTTP status 301",
            ),
            ("302 Found", "a redirect (302)", "HTTP status 302"),
            (
                "307 Temporary Redirect",
                "a redirect (307)",
                "HTTP status 307",
            ),
            (
                "308 Permanent Redirect",
                "a redirect (308)",
                "HTTP status 308",
            ),
        ]
        .map(|(line, what, words)| (what, Portrait(redirect(line)), "transport", words)),
    );
    rows
}

#[expect(clippy::too_many_lines, reason = "it is a list")]
fn contents() -> Rows {
    use Cause::Portrait;
    static ERRCODE: AtomicI64 = AtomicI64::new(1_000_000);
    let nested = "[".repeat(200_000);
    let decode = |(what, wire, words)| (what, Portrait(wire), "decode", words);
    let other = |(what, wire, words)| (what, Portrait(wire), "other", words);
    let mut rows: Rows = vec![(
        "the portrait has no figures",
        Portrait(made(|asked| portrait(asked.day, ""))),
        "empty",
        "not computed yet",
    )];
    rows.extend(
        [
            ("the body is empty", body(""), "0 bytes that are not JSON"),
            (
                "status 204, without a body",
                bytes("HTTP/1.1 204 No Content\r\n\r\n"),
                "0 bytes that are not JSON",
            ),
            ("a page of HTML", body("<html>log in</html>"), NOT_JSON),
            (
                "JSON that is cut off",
                body("{\"ref_date\":\"20261121\",\"visit_uv\":{\"city\":[{\"na"),
                NOT_JSON,
            ),
            ("a gzip bomb", bomb(), NOT_JSON),
            ("200,000 levels of nesting", body(nested), NOT_JSON),
            ("a list", body("[]"), "it is JSON, but not an object"),
            ("a text", body("\"ok\""), "it is JSON, but not an object"),
            ("`null`", body("null"), "it is JSON, but not an object"),
            (
                "no `ref_date`",
                made(|_| "{\"visit_uv\":{\"city\":[{\"name\":\"a\",\"value\":1}]}}".to_owned()),
                "ref_date is missing",
            ),
            (
                "the figures of another day",
                made(|asked| portrait(asked.day.pred_opt().unwrap(), ROW)),
                "its ref_date is ",
            ),
            (
                "a secret instead of the day",
                made(|asked| portrait(asked.day, ROW).replace(&asked.compact(), TOKEN)),
                "its ref_date is redacted",
            ),
            (
                "the response of another API of WeChat",
                made(|asked| {
                    let date = asked.compact();
                    json!({"ref_date": date, "visit_uv": [{"key": 0, "value": 3}]}).to_string()
                }),
                "getweanalysisappiddailyretaininfo",
            ),
            (
                "an errcode that is a word",
                body("{\"errcode\":\"none\"}"),
                "errcode is not a whole number",
            ),
            (
                "an errcode that is a fraction",
                body("{\"errcode\":0.5}"),
                "errcode is not a whole number",
            ),
        ]
        .map(decode),
    );
    rows.extend(
        [
            (
                "an errcode that is not documented",
                body("{\"errcode\":12345,\"errmsg\":\"no reason\"}"),
                "for a reason that this exporter does not know",
            ),
            (
                "the smallest errcode of all",
                body("{\"errcode\":-9223372036854775808}"),
                "errcode -9223372036854775808",
            ),
            (
                "another errcode in every response, thousands of them",
                made(|_| {
                    let errcode = ERRCODE.fetch_add(1, Ordering::Relaxed);
                    format!("{{\"errcode\":{errcode}}}")
                }),
                "for a reason that this exporter does not know",
            ),
            (
                "an errmsg that repeats the token",
                made(|asked| json!({"errcode": 7, "errmsg": format!("no {}", asked.token)}).to_string()),
                "it says: no [redacted]",
            ),
            (
                "an errmsg of 1 MiB",
                body(json!({"errcode": 7, "errmsg": "no ".repeat(350_000)}).to_string()),
                "it says: no no no",
            ),
            (
                "an errmsg with line breaks, terminal codes and markup",
                body(json!({"errcode": 7, "errmsg": "a\r\nlevel=error\u{1b}[31m<script>alert(1)</script>"}).to_string()),
                "it says: a  level=error [31m<script>",
            ),
        ]
        .map(other),
    );
    rows
}

fn tokens() -> Rows {
    use Cause::Token;
    let transport = |(what, wire, words)| (what, Token(wire), "transport", words);
    let decode = |(what, wire, words)| (what, Token(wire), "decode", words);
    let mut rows: Rows = [
        (
            "the connection is closed after the request for a token",
            bytes(""),
            CLOSED,
        ),
        (
            "the connection is reset after the request for a token",
            Wire::Reset(Vec::new()),
            RESET,
        ),
        (
            "nothing is sent after the request for a token",
            Wire::Stall(Vec::new()),
            TOO_SLOW,
        ),
        (
            "the response with the token breaks off",
            bytes("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"access"),
            ENDED_EARLY,
        ),
        (
            "a redirect instead of a token",
            redirect("302 Found"),
            "HTTP status 302",
        ),
        (
            "status 502 instead of a token",
            status("502 Bad Gateway"),
            "HTTP status 502",
        ),
    ]
    .map(transport)
    .into();
    let word = |token: &str| json!({"access_token": token, "expires_in": 7200}).to_string();
    let long = word(&"x".repeat(100_000));
    rows.extend(
        [
            ("HTML instead of a token", body("<html>"), NOT_JSON),
            (
                "a body without end instead of a token",
                endless(HEAD, SPACES, 0),
                "larger than 8 MiB",
            ),
            (
                "no `access_token`",
                body("{\"expires_in\":7200}"),
                "access_token is missing",
            ),
            (
                "an `access_token` that is `null`",
                body("{\"access_token\":null,\"expires_in\":7200}"),
                "access_token is missing",
            ),
            ("an empty token", body(word("")), "access_token is missing"),
            (
                "no `expires_in`",
                body("{\"access_token\":\"T\"}"),
                "expires_in is missing",
            ),
            (
                "an `expires_in` that is a word",
                body("{\"access_token\":\"T\",\"expires_in\":\"soon\"}"),
                "expires_in is not a number",
            ),
            (
                "a negative `expires_in`",
                body("{\"access_token\":\"T\",\"expires_in\":-1}"),
                "expires_in is not a number",
            ),
            (
                "a token of 100,000 bytes",
                body(long),
                "the token has 100000 bytes, and at most 16384 can be sent",
            ),
            (
                "a token with line breaks",
                body(word("a\r\nHost: b")),
                "the token has blanks, control characters or others that no token has",
            ),
        ]
        .map(decode),
    );
    rows
}

#[expect(clippy::too_many_lines, reason = "it is a list")]
fn of_host() -> Rows {
    use Cause::{Command, Secret, TokenFile};
    let secret = |(what, make, words)| (what, Secret(make), "configuration", words);
    let file = |(what, make, words)| (what, TokenFile(make), "configuration", words);
    let command = |(what, script, words)| (what, Command(script), "token", words);
    let mut rows: Rows = [
        (
            "`secret_file` is missing",
            (|_: &Path| ()) as fn(&Path),
            "No such file",
        ),
        (
            "`secret_file` is a named pipe",
            make_fifo,
            "not a regular file",
        ),
        (
            "`secret_file` is a directory",
            make_directory,
            "not a regular file",
        ),
        (
            "`secret_file` is a device without end",
            make_device,
            "not a regular file",
        ),
        (
            "`secret_file` is a socket",
            make_socket,
            "not a regular file",
        ),
        (
            "`secret_file` is a link to itself",
            make_loop,
            "symbolic links",
        ),
        (
            "`secret_file` has a terabyte",
            make_huge,
            "larger than 1 MiB",
        ),
        ("`secret_file` is binary", make_binary, "not valid UTF-8"),
    ]
    .map(secret)
    .into();
    rows.push((
        "`secret_file` is empty",
        Secret(make_empty),
        "credentials",
        "the AppSecret is empty",
    ));
    rows.extend(
        [
            (
                "`token_file` is missing",
                (|_: &Path| ()) as fn(&Path),
                "start the program that writes it",
            ),
            (
                "`token_file` is a named pipe",
                make_fifo,
                "not a regular file",
            ),
            (
                "`token_file` is a directory",
                make_directory,
                "not a regular file",
            ),
            (
                "`token_file` has a terabyte",
                make_huge,
                "larger than 1 MiB",
            ),
        ]
        .map(file),
    );
    rows.push((
        "`token_file` is empty",
        TokenFile(make_empty),
        "token",
        "gave no token: it is empty",
    ));
    rows.extend(
        [
            (
                "`token_command` hangs",
                "exec sleep 600",
                "took longer than 10 seconds and was ended",
            ),
            (
                "`token_command` ignores SIGTERM and hangs",
                "trap '' TERM INT HUP; while :; do sleep 600; done",
                "took longer than 10 seconds and was ended",
            ),
            (
                "`token_command` prints 30 MB",
                "head -c 30000000 /dev/zero | tr '\\0' x",
                "gave no token",
            ),
            (
                "`token_command` writes 30 MB to standard error",
                "head -c 30000000 /dev/zero | tr '\\0' x >&2; exit 1",
                "failed (exit status: 1)",
            ),
            (
                "`token_command` starts programs that do not end",
                "for i in 1 2 3; do sleep 600 & done; (sleep 600 &); exit 3",
                "failed (exit status: 3)",
            ),
            (
                "`token_command` is killed",
                "kill -9 $$",
                "failed (signal: 9 (SIGKILL))",
            ),
            (
                "`token_command` reads its standard input",
                "cat",
                "gave no token: it is empty",
            ),
            (
                "`token_command` prints a page of HTML",
                "echo '<html>'",
                "gave no token: it is neither one word nor",
            ),
        ]
        .map(command),
    );
    rows
}

fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn make_directory(path: &Path) {
    fs::create_dir(path).unwrap();
}

fn make_device(path: &Path) {
    symlink("/dev/zero", path).unwrap();
}

fn make_socket(path: &Path) {
    // It stays when nobody listens any more.
    drop(UnixListener::bind(path).unwrap());
}

fn make_loop(path: &Path) {
    symlink(path, path).unwrap();
}

fn make_huge(path: &Path) {
    // Without a block on the disk.
    fs::File::create(path).unwrap().set_len(1 << 40).unwrap();
}

fn make_binary(path: &Path) {
    fs::write(path, [0xff, 0xfe, 0, 0x80]).unwrap();
}

fn make_empty(path: &Path) {
    fs::write(path, "").unwrap();
}

const SPACES: &str = match std::str::from_utf8(&[b' '; 32 << 10]) {
    Ok(text) => text,
    Err(_) => "",
};

const LONG_HEADER: &str =
    "X-Long: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n";

/// A row of a portrait.
const ROW: &str = r#"{"name":"iPhone","value":7}"#;

/// Returns the portrait of a day with these rows of platforms.
pub(super) fn portrait(day: NaiveDate, rows: &str) -> String {
    let day = day.format("%Y%m%d");
    format!(r#"{{"ref_date":"{day}","visit_uv_new":{{}},"visit_uv":{{"platforms":[{rows}]}}}}"#)
}

/// A portrait with odd contents, which is shown nevertheless.
pub(crate) struct Oddity {
    /// In words, for people.
    pub(crate) what: &'static str,
    /// What becomes of it, in words.
    pub(crate) holds: &'static str,
    pub(super) rows: fn() -> String,
    /// The names and values of active users by platform.
    pub(super) users: fn() -> Vec<(String, f64)>,
}

/// Returns every oddity.
pub(crate) fn oddities() -> Vec<Oddity> {
    let with = |what, holds, rows, users| Oddity {
        what,
        holds,
        rows,
        users,
    };
    vec![
        with(
            "names with NUL, quotes, backslashes, line breaks and text of the page",
            "each is one series with the name as it is",
            || {
                let rows = ODD_NAMES.map(|name| json!({"name": name, "value": 1}).to_string());
                rows.join(",")
            },
            || ODD_NAMES.map(|name| (name.to_owned(), 1.0)).to_vec(),
        ),
        with(
            "a name of 100,000 characters",
            "it is cut to 256 bytes",
            || json!({"name": "x".repeat(100_000), "value": 5}).to_string(),
            || vec![("x".repeat(256), 5.0)],
        ),
        with(
            "50,000 names in one dimension",
            "the first 2,000 are shown, the others are added up as `(other)`",
            || {
                let rows = (0..50_000).map(|number| format!(r#"{{"name":"{number}","value":1}}"#));
                rows.collect::<Vec<_>>().join(",")
            },
            || {
                let names = (0..2_000).map(|number| (number.to_string(), 1.0));
                names.chain([("(other)".to_owned(), 48_000.0)]).collect()
            },
        ),
        with(
            "the same name three times",
            "its users are added up",
            || [ROW; 3].join(","),
            || vec![("iPhone".to_owned(), 21.0)],
        ),
        with(
            "the largest number twice under one name",
            "the sum is the largest number, without overflow",
            || [r#"{"name":"a","value":18446744073709551615}"#; 2].join(","),
            || vec![("a".to_owned(), 18_446_744_073_709_551_615.0)],
        ),
        with(
            "numbers that are negative, fractions, words or beyond any type",
            "those rows are left out and counted, the others are shown",
            || {
                let values = [
                    "-1",
                    "0.5",
                    "\"many\"",
                    "1e400",
                    "1e999999999",
                    "[]",
                    "null",
                ];
                let rows = values.map(|value| format!(r#"{{"name":"b","value":{value}}}"#));
                [&rows.join(","), ROW].join(",")
            },
            || vec![("iPhone".to_owned(), 7.0)],
        ),
        with(
            "half a surrogate pair, as of an emoji that was cut in two",
            "the half becomes U+FFFD",
            || r#"{"name":"OPPO \ud83d","value":3}"#.to_owned(),
            || vec![("OPPO \u{fffd}".to_owned(), 3.0)],
        ),
        with(
            "200,000 levels of nesting beside the figures",
            "they are skipped",
            || {
                let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
                format!(r#"{{"name":"iPhone","value":7,"x":{deep}}},{deep}"#)
            },
            || vec![("iPhone".to_owned(), 7.0)],
        ),
        with(
            "blank and missing names",
            "they are shown as `未知`",
            || r#"{"name":" ","value":1},{"value":2},{"name":null,"value":4}"#.to_owned(),
            || vec![("未知".to_owned(), 7.0)],
        ),
        with(
            "raw control characters in the JSON",
            "they belong to the name",
            || "{\"name\":\"a\u{1}\tb\",\"value\":2}".to_owned(),
            || vec![("a\u{1}\tb".to_owned(), 2.0)],
        ),
    ]
}

const ODD_NAMES: [&str; 7] = [
    "nothing\0at all",
    "say \"hi\"",
    "back\\slash\\",
    "line\nbreak",
    "return\r",
    "# HELP wxapp_portrait_users me",
    "手机📱 {a=\"b\"} 1",
];
