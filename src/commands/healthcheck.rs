//! `healthcheck`: checks that a running exporter is healthy, in containers that have neither a shell
//! nor curl. Speaks just enough HTTP for that.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Error, ProcessContext};
use crate::cli;

/// How long the exporter may take, which responds without waiting.
const TIMEOUT: Duration = Duration::from_secs(3);

/// At most this much of a response is read; an exporter's is shorter.
const MAX_RESPONSE_BYTES: u64 = 4 << 10;

/// Checks the exporter that listens on the given address.
///
/// # Errors
///
/// Nothing listens there, or what responds is not a healthy exporter.
pub(super) async fn run(flags: &cli::Healthcheck, context: ProcessContext) -> Result<(), Error> {
    let response = tokio::select! {
        response = tokio::time::timeout(TIMEOUT, status_line(&flags.listen_address, &flags.route_prefix)) => response,
        () = context.shutdown => return Err(Error::Interrupted),
    };
    let problem = match response {
        Ok(Ok(status)) if status.split(' ').nth(1) == Some("200") => return Ok(()),
        Ok(Ok(status)) => format!("responded with `{status}`"),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no response within {}", humantime::format_duration(TIMEOUT)),
    };
    Err(Error::Unhealthy {
        address: flags.listen_address.clone(),
        problem,
    })
}

/// Returns the status line of the response.
///
/// Without an HTTP library: the client for WeChat needs certificates and proxies, on which this must
/// not depend.
async fn status_line(listen_address: &str, prefix: &str) -> io::Result<String> {
    let port = listen_address.strip_prefix(':');
    let mut stream = match port.and_then(|port| port.parse::<u16>().ok()) {
        // Not every container can resolve `localhost`.
        Some(port) => {
            let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
            TcpStream::connect([v4, v6].as_slice()).await?
        }
        None => TcpStream::connect(listen_address).await?,
    };
    let request = format!("GET {prefix}/-/healthy HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut response = Vec::new();
    stream
        .take(MAX_RESPONSE_BYTES)
        .read_to_end(&mut response)
        .await?;
    let response = String::from_utf8_lossy(&response);
    Ok(response.lines().next().unwrap_or_default().to_owned())
}
