//! `healthcheck`: checks that a running exporter is healthy, in containers that have neither a shell
//! nor curl. Speaks just enough HTTP for that.
//!
//! Needs no password and no certificate: who is asked for one has found an exporter that is alive.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{AlertDescription, ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Error, ProcessContext, without_blocking};
use crate::{cli, config};

/// How long the exporter may take, which responds without waiting.
const TIMEOUT: Duration = Duration::from_secs(3);

/// At most this much of a response is read; an exporter's is shorter.
const MAX_RESPONSE_BYTES: u64 = 4 << 10;

/// The exporter answers, asks for a password, or has answered very often.
const ALIVE: [&str; 3] = ["200", "401", "429"];

/// Checks the exporter that listens on the given address.
///
/// # Errors
///
/// Nothing listens there, or what responds is not a healthy exporter.
pub(super) async fn run(flags: &cli::Healthcheck, context: ProcessContext) -> Result<(), Error> {
    let check = async {
        let is_tls = match flags.web_config_file.clone() {
            Some(path) => without_blocking(move || config::web::is_tls(&path)).await?,
            None => false,
        };
        Ok::<_, config::Error>(status_line(flags, is_tls).await)
    };
    let response = tokio::select! {
        response = tokio::time::timeout(TIMEOUT, check) => response,
        () = context.shutdown => return Err(Error::Interrupted),
    };
    let response = match response {
        Ok(response) => Ok(response?),
        Err(elapsed) => Err(elapsed),
    };
    let is_alive = |status: &str| {
        let code = status.split(' ').nth(1);
        code.is_some_and(|code| ALIVE.contains(&code))
    };
    let problem = match response {
        Ok(Ok(status)) if is_alive(&status) => return Ok(()),
        Ok(Err(error)) if asks_for_certificate(&error) => return Ok(()),
        Ok(Ok(status)) if flags.web_config_file.is_none() && status.contains(" 400 ") => {
            format!("responded with `{status}`; if it speaks TLS, name its --web.config.file")
        }
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
async fn status_line(flags: &cli::Healthcheck, is_tls: bool) -> io::Result<String> {
    let address = &flags.listen_address;
    let port = address.strip_prefix(':');
    let stream = match port.and_then(|port| port.parse::<u16>().ok()) {
        // Not every container can resolve `localhost`.
        Some(port) => {
            let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
            TcpStream::connect([v4, v6].as_slice()).await?
        }
        None => TcpStream::connect(address).await?,
    };
    if !is_tls {
        return ask(stream, &flags.route_prefix).await;
    }
    let config = ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    let name = ServerName::from(Ipv4Addr::LOCALHOST);
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream);
    ask(stream.await?, &flags.route_prefix).await
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, prefix: &str) -> io::Result<String> {
    let request = format!("GET {prefix}/-/healthy HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut response = Vec::new();
    let end = stream
        .take(MAX_RESPONSE_BYTES)
        .read_to_end(&mut response)
        .await;
    if response.is_empty() {
        end?;
    }
    let response = String::from_utf8_lossy(&response);
    Ok(response.lines().next().unwrap_or_default().to_owned())
}

/// Returns whether the exporter ended the connection because the client has no certificate.
fn asks_for_certificate(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref());
    matches!(
        error,
        Some(rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
                | AlertDescription::BadCertificate
                | AlertDescription::HandshakeFailure
        ))
    )
}

/// Accepts every certificate: nothing secret is sent, and the exporter is on this host.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
