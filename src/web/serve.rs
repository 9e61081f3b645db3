//! Serves HTTP/1.1 on a listener, in bounded time and number of connections.
//!
//! No client can keep a connection without using it, and none can keep others out. Does not depend on what is
//! served.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::connections::{Connection, Connections, Observed};
use super::guard::Guard;

/// How long a client may take for the head of a request, from the answer before on, and how long no byte of an
/// answer may move. Unlike the usual scrape intervals, so that no connection is closed just when the
/// next scrape arrives.
const TIMEOUT: Duration = Duration::from_secs(25);

/// How many bytes of a head or an answer are buffered.
const BUFFER_BYTES: usize = 16 << 10;

/// The pauses after a connection could not be accepted.
const BACKOFF: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];

/// File descriptors that are kept for everything else: the archive, files, WeChat, the log.
const RESERVED_DESCRIPTORS: u64 = 32;

/// A limit on open files that leaves fewer is ignored: with fewer nothing could be scraped reliably.
const FEWEST_CONNECTIONS: usize = 8;

/// Returns how many connections there may be: `configured`, or what the limit on open files leaves beside as
/// many requests to WeChat as `concurrency`.
#[must_use]
pub fn most_connections(configured: usize, concurrency: usize) -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let left = limit.map_or(u64::MAX, |limit| {
        limit.saturating_sub(RESERVED_DESCRIPTORS + concurrency as u64)
    });
    let left = usize::try_from(left).unwrap_or(usize::MAX);
    configured.min(left.max(FEWEST_CONNECTIONS))
}

/// Serves until `ending`, and then until the requests in flight are answered; encrypted if the guard says so.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    guard: Option<Arc<Guard>>,
    connections: Arc<Connections>,
    ending: CancellationToken,
) {
    let guard = guard.filter(|guard| guard.is_tls());
    let mut tasks = JoinSet::new();
    let mut failures = Failures::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ending.cancelled() => break,
            Some(_) = tasks.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer)) => {
                failures.end();
                let connection = tokio::select! {
                    connection = connections.add() => connection,
                    () = ending.cancelled() => break,
                };
                let (app, guard) = (app.clone(), guard.clone());
                tasks.spawn(handle(stream, peer, app, guard, connection, ending.clone()));
            }
            // The client is gone already.
            Err(error) if is_of_client(&error) => {}
            Err(error) => {
                connections.evict_one();
                tokio::select! {
                    () = tokio::time::sleep(failures.next(&error)) => {}
                    () = ending.cancelled() => break,
                }
            }
        }
    }
    drop(listener);
    while tasks.join_next().await.is_some() {}
}

fn is_of_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// Connections that could not be accepted one after the other.
#[derive(Default)]
struct Failures {
    pause: Option<Duration>,
}

impl Failures {
    /// Logs the first one; returns how long to wait.
    fn next(&mut self, error: &io::Error) -> Duration {
        let [first, last] = BACKOFF;
        if self.pause.is_none() {
            let hint = "raise the limit on open files (ulimit -n), or lower --web.max-connections";
            tracing::error!(problem = %error, hint, "cannot accept connections");
        }
        let pause = self.pause.map_or(first, |pause| last.min(pause * 2));
        *self.pause.insert(pause)
    }

    fn end(&mut self) {
        if self.pause.take().is_some() {
            tracing::info!("connections are accepted again");
        }
    }
}

/// Serves a connection until it is closed, by either side.
async fn handle(
    stream: TcpStream,
    peer: SocketAddr,
    app: Router,
    guard: Option<Arc<Guard>>,
    connection: Connection,
    ending: CancellationToken,
) {
    // Answers are sent as a whole; without it their last bytes could wait.
    let _ = stream.set_nodelay(true);
    let stream = Observed::new(stream, connection.reporter());
    let serving = async {
        let Some(guard) = guard else {
            return http(stream, app, &connection, ending).await;
        };
        let accepted = tokio::select! {
            accepted = tokio::time::timeout(TIMEOUT, encrypted(stream, &guard)) => accepted,
            () = ending.cancelled() => return,
        };
        match accepted {
            Ok(Ok(stream)) => http(stream, app, &connection, ending).await,
            Ok(Err(problem)) => tracing::debug!(%peer, %problem, "TLS handshake failed"),
            Err(_) => tracing::debug!(%peer, problem = "time-out", "TLS handshake failed"),
        }
    };
    tokio::select! {
        () = serving => {}
        () = connection.evicted() => {}
        () = connection.idle_for(TIMEOUT) => {}
    }
}

/// The response to a client that speaks HTTP where TLS is expected.
const NOT_ENCRYPTED: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// The first byte of a connection with TLS.
const HANDSHAKE: u8 = 0x16;

/// Accepts an encrypted connection.
async fn encrypted(
    mut stream: Observed<TcpStream>,
    guard: &Arc<Guard>,
) -> io::Result<TlsStream<Observed<TcpStream>>> {
    let mut first = [0];
    stream.get_ref().peek(&mut first).await?;
    if first != [HANDSHAKE] {
        // What it has sent must be read, or closing the connection would take back the answer.
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(NOT_ENCRYPTED).await;
        let _ = stream.shutdown().await;
        return Err(io::Error::other("the client does not speak TLS"));
    }
    let handshake = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let config = guard.tls().await;
    let config = config.ok_or_else(|| io::Error::other("the web configuration is invalid"))?;
    handshake.into_stream(config).await
}

async fn http(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    app: Router,
    connection: &Connection,
    ending: CancellationToken,
) {
    let app = TowerToHyperService::new(app);
    let reporter = connection.reporter();
    let service = service_fn(|mut request: hyper::Request<Incoming>| {
        // Until its password is checked, a request does not keep the connection from being closed.
        request.extensions_mut().insert(reporter.clone());
        let answer = app.call(request);
        let reporter = reporter.clone();
        async move {
            let answer = answer.await;
            reporter.answered();
            answer
        }
    });
    let mut server = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(TIMEOUT)
            .max_buf_size(BUFFER_BYTES)
            .serve_connection(TokioIo::new(stream), service)
    );
    tokio::select! {
        // Whatever ended it is the client's.
        _ = server.as_mut() => return,
        () = ending.cancelled() => {}
    }
    server.as_mut().graceful_shutdown();
    let _ = server.await;
}
