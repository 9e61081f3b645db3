//! The addresses that commands listen on.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::TcpListener;

use super::Error;

/// Listens on `HOST:PORT`, or on all addresses with `:PORT`.
pub(super) async fn listen(address: &str) -> Result<TcpListener, Error> {
    let listener = match address
        .strip_prefix(':')
        .and_then(|port| port.parse::<u16>().ok())
    {
        // Both address families where the system has both.
        Some(port) => {
            match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
                Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                    TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await
                }
                result => result,
            }
        }
        None => TcpListener::bind(address).await,
    };
    listener.map_err(|source| Error::Listen {
        address: address.to_owned(),
        source,
    })
}

/// Returns the address to open in a browser on this host.
pub(super) fn local_url(listener: &TcpListener) -> String {
    match listener.local_addr() {
        Ok(address) if address.ip().is_unspecified() => {
            format!("http://localhost:{}", address.port())
        }
        Ok(address) => format!("http://{address}"),
        Err(_) => String::new(),
    }
}
