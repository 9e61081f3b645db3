//! How connections are encrypted, and which certificates of clients are accepted.
//!
//! The web configuration becomes what the library for TLS wants. Clients are verified as exporters of
//! Prometheus do it: a certificate that is one of the configured authorities itself is accepted, and the
//! list of names is compared as text. Knows no sockets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;
use x509_parser::time::ASN1Time;

use crate::config::web::{ClientAuth, TlsConfig};

/// Returns what connections are accepted with; HTTP/1.1 is offered, and HTTP/2 is not.
///
/// # Errors
///
/// The settings don't fit the library, which a checked configuration does.
pub fn server_config(tls: &TlsConfig) -> Result<Arc<ServerConfig>, String> {
    let mut provider = ring::default_provider();
    let suites = &tls.cipher_suites;
    provider
        .cipher_suites
        .retain(|suite| suites.contains(&suite.suite()));
    provider
        .kx_groups
        .retain(|group| tls.curves.contains(&group.name()));
    let provider = Arc::new(provider);
    let versions = [&TLS12, &TLS13].into_iter();
    let versions: Vec<_> = versions
        .filter(|version| tls.versions.contains(&version.version))
        .collect();
    let failed = |error: &dyn std::fmt::Display| {
        format!("TLS cannot be set up, correct tls_server_config: {error}")
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(|error| failed(&error))?;
    let builder = match tls.client_auth {
        ClientAuth::None => builder.with_no_client_auth(),
        _ => builder.with_client_cert_verifier(Arc::new(
            Verifier::new(tls, &provider).map_err(|error| failed(&error))?,
        )),
    };
    let certificate = SingleCertAndKey::from(Arc::clone(&tls.certified_key));
    let mut config = builder.with_cert_resolver(Arc::new(certificate));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if tls.client_auth != ClientAuth::None {
        // A resumed session would not verify the certificate again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(Arc::new(config))
}

/// Accepts certificates of clients.
#[derive(Debug)]
struct Verifier {
    /// Nothing if certificates of anyone are accepted.
    authorities: Option<Arc<dyn ClientCertVerifier>>,
    client_ca: Vec<CertificateDer<'static>>,
    names_of_authorities: Vec<DistinguishedName>,
    allowed_sans: Option<Vec<String>>,
    is_mandatory: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn new(tls: &TlsConfig, provider: &Arc<CryptoProvider>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in &tls.client_ca {
            let added = roots.add(certificate.clone());
            added.map_err(|error| error.to_string())?;
        }
        let names_of_authorities = roots.subjects();
        let verifies = matches!(
            tls.client_auth,
            ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify
        );
        let authorities = verifies.then(|| {
            let provider = Arc::clone(provider);
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()
        });
        Ok(Self {
            authorities: authorities.transpose().map_err(|error| error.to_string())?,
            client_ca: tls.client_ca.clone(),
            names_of_authorities,
            allowed_sans: tls.client_allowed_sans.clone(),
            // Who must have one of the names must have a certificate.
            is_mandatory: tls.client_allowed_sans.is_some()
                || matches!(
                    tls.client_auth,
                    ClientAuth::RequireAny | ClientAuth::RequireAndVerify
                ),
            algorithms: provider.signature_verification_algorithms,
        })
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.is_mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.names_of_authorities
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(authorities) = &self.authorities {
            // The library never accepts the certificate of an authority, but Go does.
            if self.client_ca.contains(end_entity) {
                check_usable(&parsed(end_entity)?, now)?;
            } else {
                authorities.verify_client_cert(end_entity, intermediates, now)?;
            }
        }
        if let Some(allowed) = &self.allowed_sans {
            let names = names(&parsed(end_entity)?);
            if !names.iter().any(|name| allowed.contains(name)) {
                return Err(CertificateError::ApplicationVerificationFailure.into());
            }
        }
        Ok(ClientCertVerified::assertion())
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

fn parsed<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    match parse_x509_certificate(certificate) {
        Ok((_, parsed)) => Ok(parsed),
        Err(_) => Err(CertificateError::BadEncoding.into()),
    }
}

/// Checks the dates of a certificate, and that it is for clients.
fn check_usable(certificate: &X509Certificate<'_>, now: UnixTime) -> Result<(), Error> {
    let now = i64::try_from(now.as_secs()).ok();
    let now = now.and_then(|now| ASN1Time::from_timestamp(now).ok());
    let now = now.ok_or(Error::FailedToGetCurrentTime)?;
    let validity = certificate.validity();
    if now < validity.not_before {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > validity.not_after {
        return Err(CertificateError::Expired.into());
    }
    match certificate.extended_key_usage() {
        Ok(None) => Ok(()),
        Ok(Some(usage)) if usage.value.any || usage.value.client_auth => Ok(()),
        Ok(Some(_)) => Err(CertificateError::InvalidPurpose.into()),
        Err(_) => Err(CertificateError::BadEncoding.into()),
    }
}

/// Returns the alternative names of a certificate, as Go writes them.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let names = names.value.general_names.iter();
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
            Some((*name).to_owned())
        }
        GeneralName::IPAddress(bytes) => address(bytes),
        _ => None,
    });
    names.collect()
}

fn address(bytes: &[u8]) -> Option<String> {
    let address = match bytes.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        _ => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
    };
    Some(address.to_canonical().to_string())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose,
        IsCa, KeyPair, SanType, date_time_ymd,
    };
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, ProtocolVersion, ServerConnection};
    use tempfile::TempDir;

    use super::*;
    use crate::config::web;

    /// A certificate and its key.
    type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

    /// A certificate authority, and a directory with a server's certificate from it.
    struct World {
        directory: TempDir,
        authority: CertifiedIssuer<'static, KeyPair>,
    }

    impl World {
        fn new() -> Self {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, "CA");
            let key = KeyPair::generate().unwrap();
            let authority = CertifiedIssuer::self_signed(params, key).unwrap();
            let directory = tempfile::tempdir().unwrap();
            let world = Self {
                directory,
                authority,
            };
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
            let server = params.signed_by(&key, &world.authority).unwrap();
            world.write("server.crt", &server.pem());
            world.write("server.key", &key.serialize_pem());
            world.write("ca.crt", &world.authority.pem());
            world
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.path().join(name), text).unwrap();
        }

        fn path(&self) -> &Path {
            self.directory.path()
        }

        /// Returns the settings of a section with these keys, too.
        fn server(&self, keys: &str) -> Arc<ServerConfig> {
            let text =
                format!("tls_server_config: {{cert_file: server.crt, key_file: server.key{keys}}}");
            self.write("web.yml", &text);
            let config = web::load(&self.path().join("web.yml")).unwrap();
            server_config(&config.tls.unwrap()).unwrap()
        }

        /// Returns a client's certificate from the authority.
        fn client(&self, change: impl FnOnce(&mut CertificateParams)) -> Identity {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::default();
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            change(&mut params);
            let certificate = params.signed_by(&key, &self.authority).unwrap();
            (certificate.der().clone(), key.into())
        }

        /// Returns a client that trusts the authority.
        fn config(&self, identity: Option<&Identity>) -> ClientConfig {
            let mut roots = RootCertStore::empty();
            roots.add(self.authority.der().clone()).unwrap();
            let provider = Arc::new(ring::default_provider());
            let builder = ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&[&TLS12, &TLS13])
                .unwrap()
                .with_root_certificates(roots);
            match identity {
                None => builder.with_no_client_auth(),
                Some((certificate, key)) => builder
                    .with_client_auth_cert(vec![certificate.clone()], key.clone_key())
                    .unwrap(),
            }
        }

        /// Returns why a connection with this certificate fails.
        fn connects(
            &self,
            server: &Arc<ServerConfig>,
            identity: Option<&Identity>,
        ) -> Result<(), Error> {
            handshake(server, self.config(identity)).map(drop)
        }
    }

    /// Makes a certificate that signs itself, like `openssl req -x509`.
    fn self_signed(change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        let certificate = params.self_signed(&key).unwrap();
        (certificate.der().clone(), key.into())
    }

    fn pem((certificate, _): &Identity) -> String {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(certificate);
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    }

    /// Connects in memory; returns the server's side.
    fn handshake(
        server: &Arc<ServerConfig>,
        client: ClientConfig,
    ) -> Result<ServerConnection, Error> {
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
        let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
        for _ in 0..10 {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            let mut bytes = &bytes[..];
            while !bytes.is_empty() {
                server.read_tls(&mut bytes).unwrap();
                server.process_new_packets()?;
            }
            let mut bytes = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            let mut bytes = &bytes[..];
            while !bytes.is_empty() {
                client.read_tls(&mut bytes).unwrap();
                client.process_new_packets()?;
            }
        }
        assert!(!server.is_handshaking() && !client.is_handshaking());
        Ok(server)
    }

    #[test]
    fn http_1_1_is_offered_and_http_2_is_not() {
        let world = World::new();
        let server = world.server("");
        let mut client = world.config(None);
        client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let connection = handshake(&server, client).unwrap();
        assert_eq!(connection.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(
            connection.protocol_version(),
            Some(ProtocolVersion::TLSv1_3)
        );
        let without = handshake(&server, world.config(None)).unwrap();
        assert_eq!(without.alpn_protocol(), None);
    }

    #[test]
    fn only_the_configured_versions_suites_and_curves_are_spoken() {
        let world = World::new();
        let spoken = |keys: &str| {
            let connection = handshake(&world.server(keys), world.config(None)).unwrap();
            (
                connection.protocol_version().unwrap(),
                connection.negotiated_cipher_suite().unwrap().suite(),
                connection.negotiated_key_exchange_group().unwrap().name(),
            )
        };
        let (version, suite, curve) = spoken(
            ", max_version: TLS12, cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384], curve_preferences: [CurveP384]",
        );
        assert_eq!(version, ProtocolVersion::TLSv1_2);
        assert_eq!(
            suite,
            rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
        );
        assert_eq!(curve, rustls::NamedGroup::secp384r1);
        // The list is not for TLS 1.3.
        let (version, suite, curve) = spoken(
            ", cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256], curve_preferences: [CurveP256]",
        );
        assert_eq!(version, ProtocolVersion::TLSv1_3);
        assert_eq!(suite, rustls::CipherSuite::TLS13_AES_256_GCM_SHA384);
        assert_eq!(curve, rustls::NamedGroup::secp256r1);
        let server = world.server(", min_version: TLS13");
        let mut client = world.config(None);
        client.alpn_protocols.clear();
        let provider = Arc::clone(client.crypto_provider());
        let only_12 = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS12])
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        assert!(handshake(&server, only_12).is_err());
    }

    #[test]
    fn every_type_of_client_authentication_accepts_what_it_says() {
        let world = World::new();
        let known = world.client(|_| {});
        let stranger = self_signed(|_| {});
        for (keys, without, with_stranger, with_known) in [
            ("", true, true, true),
            (", client_auth_type: RequestClientCert", true, true, true),
            (
                ", client_auth_type: RequireAnyClientCert",
                false,
                true,
                true,
            ),
            (", client_auth_type: RequireClientCert", false, true, true),
            (
                ", client_auth_type: VerifyClientCertIfGiven, client_ca_file: ca.crt",
                true,
                false,
                true,
            ),
            (
                ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.crt",
                false,
                false,
                true,
            ),
        ] {
            let server = world.server(keys);
            for (identity, expected) in [
                (None, without),
                (Some(&stranger), with_stranger),
                (Some(&known), with_known),
            ] {
                let result = world.connects(&server, identity);
                assert_eq!(result.is_ok(), expected, "{keys} {result:?}");
            }
        }
    }

    #[test]
    fn a_certificate_that_is_a_configured_authority_itself_is_accepted_while_valid() {
        let world = World::new();
        let keys = ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: clients.crt";
        let connects = |change: fn(&mut CertificateParams)| {
            let identity = self_signed(change);
            world.write("clients.crt", &pem(&identity));
            world.connects(&world.server(keys), Some(&identity))
        };
        assert_eq!(connects(|_| {}), Ok(()));
        let purposes = [
            (ExtendedKeyUsagePurpose::Any, true),
            (ExtendedKeyUsagePurpose::ClientAuth, true),
            (ExtendedKeyUsagePurpose::ServerAuth, false),
        ];
        assert_eq!(
            connects(|params| params.not_after = date_time_ymd(2020, 1, 1)),
            Err(CertificateError::Expired.into())
        );
        assert_eq!(
            connects(|params| params.not_before = date_time_ymd(2990, 1, 1)),
            Err(CertificateError::NotValidYet.into())
        );
        for (purpose, is_accepted) in purposes {
            let identity = self_signed(|params| params.extended_key_usages = vec![purpose.clone()]);
            world.write("clients.crt", &pem(&identity));
            let result = world.connects(&world.server(keys), Some(&identity));
            assert_eq!(result.is_ok(), is_accepted, "{purpose:?} {result:?}");
        }
        // Another one of the same name, but not the same certificate.
        world.write("clients.crt", &pem(&self_signed(|_| {})));
        let other = self_signed(|_| {});
        assert!(world.connects(&world.server(keys), Some(&other)).is_err());
    }

    #[test]
    fn a_client_needs_one_of_the_allowed_names() {
        let world = World::new();
        let name = |name: &str| name.to_owned().try_into().unwrap();
        let client = world.client(|params| {
            params.subject_alt_names = vec![
                SanType::DnsName(name("prometheus.internal")),
                SanType::Rfc822Name(name("someone@example.com")),
                SanType::URI(name("spiffe://example.com/prometheus")),
                SanType::IpAddress("192.0.2.1".parse().unwrap()),
                SanType::IpAddress("2001:db8::1".parse().unwrap()),
                SanType::IpAddress("::ffff:192.0.2.7".parse().unwrap()),
            ];
        });
        let connects = |allowed: &str| {
            let server = world.server(&format!(
                ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.crt, client_allowed_sans: {allowed}"
            ));
            world.connects(&server, Some(&client))
        };
        for allowed in [
            "[prometheus.internal]",
            "[someone@example.com]",
            "['spiffe://example.com/prometheus']",
            "[192.0.2.1]",
            "['2001:db8::1']",
            "[192.0.2.7]",
            "[other, prometheus.internal]",
            "~",
        ] {
            assert_eq!(connects(allowed), Ok(()), "{allowed}");
        }
        let refused = Err(CertificateError::ApplicationVerificationFailure.into());
        for allowed in [
            "[]",
            "[internal]",
            "['*.internal']",
            "[Prometheus.internal]",
            "['2001:0db8::1']",
        ] {
            assert_eq!(connects(allowed), refused, "{allowed}");
        }
    }

    #[test]
    fn where_names_are_required_a_certificate_is_required_too() {
        let world = World::new();
        let named = world.client(|params| {
            params.subject_alt_names = vec![SanType::DnsName("a".to_owned().try_into().unwrap())];
        });
        for policy in [
            "VerifyClientCertIfGiven, client_ca_file: ca.crt",
            "RequestClientCert",
        ] {
            let keys = format!(", client_auth_type: {policy}, client_allowed_sans: [a]");
            let server = world.server(&keys);
            assert_eq!(
                world.connects(&server, None),
                Err(Error::NoCertificatesPresented),
                "{policy}"
            );
            assert_eq!(world.connects(&server, Some(&named)), Ok(()), "{policy}");
            let nameless = world.client(|_| {});
            assert!(
                world.connects(&server, Some(&nameless)).is_err(),
                "{policy}"
            );
        }
    }

    #[test]
    fn a_verified_client_is_verified_again_in_every_connection() {
        let world = World::new();
        let server =
            world.server(", client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.crt");
        let client = world.config(Some(&world.client(|_| {})));
        for _ in 0..2 {
            let connection = handshake(&server, client.clone()).unwrap();
            assert_eq!(
                connection.handshake_kind(),
                Some(rustls::HandshakeKind::Full)
            );
        }
    }
}
