//! Connections: how long and how many the real program keeps, whatever clients do.

use std::process::Command;
use std::time::Duration;

use futures_util::future::join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{APP, Exporter, Home, WeChat, client, quoted};

/// No closed connection takes longer to be noticed, however busy this host is.
const PATIENCE: Duration = Duration::from_secs(90);

/// A request whose answer is longer than a client that does not read takes.
const SCRAPE: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";

/// Allows this process as many open files as it may have.
fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}

async fn connect(exporter: &Exporter, sent: &[u8]) -> TcpStream {
    let address = exporter.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    // It may be closed already.
    let _ = stream.write_all(sent).await;
    stream
}

/// Waits until the exporter closes a connection; returns what it has sent.
async fn closed(mut stream: TcpStream) -> String {
    let mut received = Vec::new();
    let read = stream.read_to_end(&mut received);
    let read = tokio::time::timeout(PATIENCE, read).await;
    assert!(read.is_ok(), "a connection is open for ever");
    String::from_utf8_lossy(&received).into_owned()
}

#[tokio::test]
async fn a_connection_that_is_not_used_is_closed() {
    let wechat = WeChat::of(&[APP]).await;
    let exporter = Home::of(&wechat, &[APP]).start().await;
    let healthy = b"GET /-/healthy HTTP/1.1\r\nHost: a\r\n\r\n";
    let silent = connect(&exporter, b"").await;
    let half_a_head = connect(&exporter, b"GET /metrics HTTP/1.1\r\nHost: a\r\n").await;
    let answered = connect(&exporter, healthy).await;
    let half_a_body = [healthy, b"POST /-/reload HTTP/1.1\r\n".as_slice()].concat();
    let half_a_body = connect(&exporter, &half_a_body).await;
    let slow_head = async {
        let mut stream = connect(&exporter, b"GET /metrics HTTP/1.1\r\nX: ").await;
        // Single bytes do not extend the time for a head.
        let dripping = async {
            while stream.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        };
        let dripping = tokio::time::timeout(PATIENCE, dripping).await;
        assert!(dripping.is_ok(), "a head may take for ever");
    };
    let (silent, half_a_head, answered, half_a_body, ()) = tokio::join!(
        closed(silent),
        closed(half_a_head),
        closed(answered),
        closed(half_a_body),
        slow_head
    );
    assert_eq!((silent.as_str(), half_a_head.as_str()), ("", ""));
    for answered in [answered, half_a_body] {
        assert!(answered.ends_with("healthy\n"), "{answered}");
    }
}

#[tokio::test]
async fn idle_connections_keep_nobody_out() {
    raise_limit();
    for (files, connections, fewer) in [(64, 2_000, true), (1024, 1_100, false)] {
        let wechat = WeChat::of(&[APP]).await;
        let home = Home::of(&wechat, &[APP]);
        let mut limited = Command::new("bash");
        let command = format!("ulimit -n {files}; exec {}", quoted(&home.command()));
        limited.args(["-c", &command]);
        limited
            .env("NO_PROXY", "127.0.0.1")
            .env_remove("http_proxy");
        let exporter = Exporter::start(limited, vec![], None).await;
        exporter.ready().await;
        let mut idle = Vec::new();
        for number in 0..connections {
            idle.push(connect(&exporter, b"").await);
            if number % 100 == 0 {
                let fresh = client();
                for path in ["/metrics", "/-/healthy"] {
                    let answer = fresh.get(format!("{}{path}", exporter.url)).send().await;
                    assert_eq!(answer.unwrap().status(), 200);
                }
            }
        }
        let log = exporter.running.output();
        assert!(!log.contains("cannot accept"), "{log}");
        let warning =
            "\"fewer connections than --web.max-connections\" connections=8 configured=512";
        assert_eq!(log.contains(warning), fewer, "{log}");
    }
}

#[tokio::test]
async fn hostile_connections_cost_little() {
    raise_limit();
    let wechat = WeChat::of(&[APP]).await;
    let exporter = Home::of(&wechat, &[APP]).start().await;
    exporter.ready().await;
    let before = exporter.running.peak_memory();
    let garbage = [0xff; 4096];
    let long_line = [b"GET /".as_slice(), &vec![b'a'; 200_000]].concat();
    let mut hostile = Vec::new();
    for _ in 0..10 {
        for _ in 0..20 {
            for sent in [b"".as_slice(), b"GET / HT", SCRAPE, &garbage, &long_line] {
                hostile.push(connect(&exporter, sent).await);
            }
        }
        let fresh = client();
        let page = fresh.get(format!("{}/metrics", exporter.url)).send().await;
        assert_eq!(page.unwrap().status(), 200);
    }
    let more = exporter.running.peak_memory().saturating_sub(before);
    assert!(
        more <= 32,
        "{more} MiB more for {} connections",
        hostile.len()
    );
}

/// Requests that no client sends by mistake, and the statuses that are possible; nothing of them may be repeated.
const MALFORMED: [(&[u8], &[u16]); 22] = [
    (b"GET /metrics HTTP/1.1\r\n\r\n", &[200, 400]),
    (b"GET /metrics HTTP/1.0\r\n\r\n", &[200, 400]),
    (b"GET /metrics\r\n", &[400]),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[400, 505]),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03<evil>", &[400]),
    (b"\r\n\r\n\0\0\0<evil>", &[400]),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: \0<evil>\r\n\r\n", &[400]),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n <evil>\r\n\r\n", &[400]),
    (b"GET / HTTP/1.1\r\nHost: a\r\n<evil>\r\n\r\n", &[400]),
    (b"GET /<evil> HTTP/1.1\r\nHost: a\r\n\r\n", &[400, 404]),
    (b"GET /?q=<evil>&lang=<evil> HTTP/1.1\r\nHost: a\r\n\r\n", &[200, 400]),
    (b"GET /%3Cevil%3E HTTP/1.1\r\nHost: a\r\n\r\n", &[404]),
    (b"GET /../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n", &[400, 404]),
    (b"GET /assets/..%2f..%2fetc/passwd HTTP/1.1\r\nHost: a\r\n\r\n", &[400, 404]),
    (b"GET /apps/..%2f%00<evil> HTTP/1.1\r\nHost: a\r\n\r\n", &[400, 404]),
    (b"GET /probe?target=<evil>%0d%0aX:y HTTP/1.1\r\nHost: a\r\n\r\n", &[400, 404]),
    (b"TRACE / HTTP/1.1\r\nHost: a\r\nX: <evil>\r\n\r\n", &[405]),
    (b"CONNECT evil:80 HTTP/1.1\r\nHost: a\r\n\r\n", &[400, 404, 405]),
    (b"GET http://evil/metrics HTTP/1.1\r\nHost: evil\r\n\r\n", &[200, 400, 404]),
    (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        &[400],
    ),
    (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /<evil>",
        &[400, 405],
    ),
    (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: <evil>\r\n\r\n",
        &[400, 405, 501],
    ),
];

#[tokio::test]
async fn malformed_requests_are_refused_and_nothing_of_them_is_repeated() {
    let wechat = WeChat::of(&[APP]).await;
    let exporter = Home::of(&wechat, &[APP]).start().await;
    exporter.ready().await;
    let headers = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
    let many = [headers, b"X: <evil>\r\n".repeat(5_000), b"\r\n".to_vec()].concat();
    let endless = [
        b"GET /".as_slice(),
        &vec![b'a'; 1 << 20],
        b" HTTP/1.1\r\nHost: a\r\n\r\n",
    ]
    .concat();
    let large: [(&[u8], &[u16]); 2] = [(&many, &[400, 431]), (&endless, &[400, 414, 431])];
    for (sent, statuses) in MALFORMED.into_iter().chain(large) {
        let mut stream = connect(&exporter, sent).await;
        // The end of what a client has to say.
        let _ = stream.shutdown().await;
        let answer = closed(stream).await;
        let start = String::from_utf8_lossy(&sent[..sent.len().min(100)]).into_owned();
        // A connection may be reset before the answer is read.
        if !answer.is_empty() {
            let status = answer
                .split(' ')
                .nth(1)
                .and_then(|status| status.parse().ok());
            assert!(
                statuses.contains(&status.unwrap_or_default()),
                "{start}: {answer}"
            );
        }
        assert!(!answer.contains("<evil>"), "{start}: {answer}");
        assert!(!answer.contains("root:"), "{start}: {answer}");
    }
    assert!(exporter.metrics().await.0.contains(APP));
    let log = exporter.running.output();
    assert!(!log.contains("panicked") && !log.contains("evil"), "{log}");
}

#[tokio::test]
async fn pages_are_all_answered_when_hundreds_are_loaded_at_once_and_scrapes_meanwhile() {
    let apps: Vec<_> = (100..200)
        .map(|app| format!("wx0123456789abc{app}"))
        .collect();
    let apps: Vec<_> = apps.iter().map(String::as_str).collect();
    let wechat = WeChat::of(&apps).await;
    let exporter = Home::of(&wechat, &apps).start().await;
    exporter.ready().await;
    let app = format!("/apps/{}", apps[0]);
    let paths = ["/", "/?lang=zh", "/api/v1/status", &app];
    let mut storm = Vec::new();
    for number in 0..200 {
        let path = paths[number % paths.len()];
        let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n");
        storm.push(connect(&exporter, head.as_bytes()).await);
    }
    // All at once.
    for stream in &mut storm {
        stream.write_all(b"\r\n").await.unwrap();
    }
    assert!(exporter.metrics().await.0.contains(apps[99]));
    let answers = join_all(storm.into_iter().map(closed)).await;
    for answer in answers {
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn unfinished_requests_do_not_delay_the_end() {
    let wechat = WeChat::of(&[APP]).await;
    let mut exporter = Home::of(&wechat, &[APP]).start().await;
    let mut open = Vec::new();
    for sent in [b"".as_slice(), b"GET / HT", SCRAPE] {
        open.push(connect(&exporter, sent).await);
    }
    exporter.running.signal("TERM");
    let (status, duration) = exporter.running.ended().await;
    assert!(status.success(), "{status}");
    assert!(duration < Duration::from_secs(20), "{duration:?}");
}
