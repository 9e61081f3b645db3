//! The settings that a web configuration becomes: checked, and with the contents of the files it names.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, NamedGroup, ProtocolVersion};

/// How the web server protects what it serves.
#[derive(Clone)]
pub struct WebConfig {
    /// Without it, HTTP is served unencrypted.
    pub tls: Option<TlsConfig>,
    /// What the key says; HTTP/2 is not implemented.
    pub http2: bool,
    /// Sent with every response.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The bcrypt hashes of passwords by user; empty if no login is needed.
    pub users: BTreeMap<String, String>,
    /// How many requests are answered.
    pub rate_limit: Option<RateLimit>,
    /// What is valid and probably not meant, a sentence each.
    pub warnings: Vec<String>,
    /// Every file that was read: while none changes, reading again returns the same.
    pub files: Vec<PathBuf>,
}

impl Default for WebConfig {
    /// Returns the settings of an empty file.
    fn default() -> Self {
        Self {
            tls: None,
            http2: true,
            headers: Vec::new(),
            users: BTreeMap::new(),
            rate_limit: None,
            warnings: Vec::new(),
            files: Vec::new(),
        }
    }
}

impl fmt::Debug for WebConfig {
    /// Writes everything but the hashes.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("WebConfig")
            .field("tls", &self.tls)
            .field("http2", &self.http2)
            .field("headers", &self.headers)
            .field("users", &self.users.keys())
            .field("rate_limit", &self.rate_limit)
            .field("warnings", &self.warnings)
            .field("files", &self.files)
            .finish()
    }
}

/// A token bucket, full at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// The time after which a token is added; not zero.
    pub interval: Duration,
    /// How many tokens there can be; with none, every request is refused.
    pub burst: u32,
}

/// How connections are encrypted.
#[derive(Clone)]
pub struct TlsConfig {
    /// The server's certificate with its private key.
    pub certified_key: Arc<CertifiedKey>,
    /// The certificates of authorities for clients; not empty if they are verified.
    pub client_ca: Vec<CertificateDer<'static>>,
    /// Whether clients need a certificate.
    pub client_auth: ClientAuth,
    /// The names of which a client's certificate must have one, if that is checked.
    pub client_allowed_sans: Option<Vec<String>>,
    /// The versions that are spoken, at least one.
    pub versions: Vec<ProtocolVersion>,
    /// The cipher suites that are offered, at least one for every version.
    pub cipher_suites: Vec<CipherSuite>,
    /// The groups for the key exchange, at least one.
    pub curves: Vec<NamedGroup>,
}

impl fmt::Debug for TlsConfig {
    /// Writes everything but the key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TlsConfig")
            .field("certificates", &self.certified_key.cert.len())
            .field("client_ca", &self.client_ca.len())
            .field("client_auth", &self.client_auth)
            .field("client_allowed_sans", &self.client_allowed_sans)
            .field("versions", &self.versions)
            .field("cipher_suites", &self.cipher_suites)
            .field("curves", &self.curves)
            .finish()
    }
}

/// Whether clients need a certificate, and what is checked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// `NoClientCert`: none is requested.
    None,
    /// `RequestClientCert`: one is requested; there may be none, or any.
    Request,
    /// `RequireAnyClientCert`: any.
    RequireAny,
    /// `VerifyClientCertIfGiven`: there may be none; one that is given is verified.
    VerifyIfGiven,
    /// `RequireAndVerifyClientCert`: one of an authority in `client_ca`.
    RequireAndVerify,
}
