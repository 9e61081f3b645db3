//! Verifies the certificate of a database's server as libpq does for each `sslmode`.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use rustls_platform_verifier::Verifier as SystemVerifier;
use tokio_postgres::config::SslNegotiation;

use super::database::{Database, Verification};

/// Returns how to encrypt a connection; files of certificates are read now.
///
/// # Errors
///
/// The certificates that are to be trusted can't be read.
pub(super) fn config(database: &Database) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier::new(database, &provider)?;
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = config
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    if database.config.get_ssl_negotiation() == SslNegotiation::Direct {
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(config)
}

#[derive(Debug)]
struct Verifier {
    verification: Verification,
    /// Those of `sslrootcert`.
    trusted: Vec<CertificateDer<'static>>,
    /// Verifies both authority and host; `None` if nothing is verified.
    authorities: Option<Arc<dyn ServerCertVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn new(database: &Database, provider: &Arc<CryptoProvider>) -> Result<Self, String> {
        let mut trusted = Vec::new();
        let authorities: Option<Arc<dyn ServerCertVerifier>> = match database.root_certificates() {
            _ if database.verification == Verification::None => None,
            None => {
                let verifier = SystemVerifier::new(Arc::clone(provider));
                let verifier = verifier
                    .map_err(|error| format!("cannot read the system's certificates: {error}"))?;
                Some(Arc::new(verifier))
            }
            Some(file) => {
                let failed = |problem: String| format!("sslrootcert {}: {problem}", file.display());
                trusted = CertificateDer::pem_file_iter(file)
                    .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                    .map_err(|error| failed(error.to_string()))?;
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(trusted.iter().cloned());
                let provider = Arc::clone(provider);
                let verifier =
                    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
                Some(
                    verifier
                        .build()
                        .map_err(|error| failed(error.to_string()))?,
                )
            }
        };
        Ok(Self {
            verification: database.verification,
            trusted,
            authorities,
            algorithms: provider.signature_verification_algorithms,
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authorities) = &self.authorities else {
            return Ok(ServerCertVerified::assertion());
        };
        // The manual of PostgreSQL has servers with a self-signed certificate, which names itself an authority: the
        // library never accepts that of a server, but libpq does. Unlike there its expiry is not checked.
        let verified = if self.trusted.contains(end_entity) {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            rustls::client::verify_server_name(&certificate, server_name)
                .map(|()| ServerCertVerified::assertion())
        } else {
            authorities.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            )
        };
        match verified {
            // The name is verified last.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.verification == Verification::Authority => {
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
