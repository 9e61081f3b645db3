//! Validates the keys of TLS, and reads the certificates and keys that they name.
//!
//! What the library for TLS lacks in comparison with Go is reported by its name: as a problem where
//! connections would fail or be less safe than configured, otherwise as a warning.

use std::sync::Arc;

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{CipherSuite, NamedGroup, ProtocolVersion, RootCertStore};
use x509_parser::parse_x509_certificate;
use x509_parser::prelude::X509Version;

use super::super::access;
use super::super::read::{Located, Partial, Text, Texts};
use super::super::validate::beside;
use super::raw::RawTls;
use super::settings::{ClientAuth, TlsConfig};
use super::validate::Check;

/// The section, in messages.
const SECTION: &str = "tls_server_config";

/// The types of client authentication; the second is an old name of the third.
const CLIENT_AUTH: [(&str, ClientAuth); 6] = [
    ("NoClientCert", ClientAuth::None),
    ("RequestClientCert", ClientAuth::Request),
    ("RequireClientCert", ClientAuth::RequireAny),
    ("RequireAnyClientCert", ClientAuth::RequireAny),
    ("VerifyClientCertIfGiven", ClientAuth::VerifyIfGiven),
    ("RequireAndVerifyClientCert", ClientAuth::RequireAndVerify),
];

/// The versions by their names; the first two are not implemented.
const VERSIONS: [(&str, ProtocolVersion); 4] = [
    ("TLS10", ProtocolVersion::TLSv1_0),
    ("TLS11", ProtocolVersion::TLSv1_1),
    ("TLS12", ProtocolVersion::TLSv1_2),
    ("TLS13", ProtocolVersion::TLSv1_3),
];

/// The cipher suites of TLS 1.3, by their names in Go.
const SUITES_OF_TLS13: [(&str, CipherSuite); 3] = [
    (
        "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_128_GCM_SHA256,
    ),
    (
        "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_AES_256_GCM_SHA384,
    ),
    (
        "TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    ),
];

/// Those of TLS 1.2, with those that are not implemented.
const SUITES_OF_TLS12: [(&str, Option<CipherSuite>); 10] = [
    (
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        Some(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        Some(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        Some(CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        Some(CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        Some(CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        Some(CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    ),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", None),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", None),
    ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", None),
    ("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", None),
];

/// The groups for the key exchange by Go's names, with the one that is not implemented.
const CURVES: [(&str, Option<NamedGroup>); 4] = [
    ("X25519", Some(NamedGroup::X25519)),
    ("CurveP256", Some(NamedGroup::secp256r1)),
    ("CurveP384", Some(NamedGroup::secp384r1)),
    ("CurveP521", None),
];

/// Of the first certificate.
const UNREADABLE: &str = "certificate 1 cannot be read: make it again";

/// Certificates or a key in PEM, and where they are from.
struct Pem {
    line: u64,
    /// The path of the key that names them.
    key: String,
    text: String,
}

impl RawTls {
    /// Returns whether connections are to be encrypted.
    pub(super) fn is_on(&self) -> bool {
        let is_set = |text: &Option<Text>| text.as_ref().is_some_and(|text| !text.value.is_empty());
        [
            &self.cert,
            &self.cert_file,
            &self.key,
            &self.key_file,
            &self.client_ca,
            &self.client_ca_file,
            &self.client_auth_type,
        ]
        .into_iter()
        .any(is_set)
    }
}

impl Check {
    /// Checks the section of TLS; without a certificate, a key and a policy for clients, TLS is off.
    pub(super) fn tls(&mut self, section: Option<Located<Partial<RawTls>>>) -> Option<TlsConfig> {
        let Located { line, value } = section?;
        let Partial { value, is_complete } = value;
        let mut raw = value?;
        let is_on = raw.is_on();

        let client_auth = self.client_auth(raw.client_auth_type.take());
        self.switch(
            "tls_server_config.prefer_server_cipher_suites",
            raw.prefer_server_cipher_suites.take(),
        );
        let versions = self.versions(raw.min_version.take(), raw.max_version.take());
        let suites = self.cipher_suites(raw.cipher_suites.take(), versions);
        let curves = self.curves(raw.curve_preferences.take());
        let client_allowed_sans = self.allowed_sans(raw.client_allowed_sans.take(), client_auth);
        if !is_on {
            if is_complete {
                let warning = "has no certificate, so that HTTP is served unencrypted: add `cert_file` and `key_file`";
                self.warn(line, SECTION, warning);
            }
            return None;
        }

        let certificate = self.pem("cert", raw.cert, "cert_file", raw.cert_file);
        let key = self.pem("key", raw.key, "key_file", raw.key_file);
        let client_ca = self.pem(
            "client_ca",
            raw.client_ca,
            "client_ca_file",
            raw.client_ca_file,
        );
        if is_complete {
            for (pem, name) in [(&certificate, "cert"), (&key, "key")] {
                if matches!(pem, Ok(None)) {
                    let problem = format!(
                        "TLS needs `{name}_file` or `{name}`: add one, or leave the section out"
                    );
                    self.problem(line, SECTION, problem);
                }
            }
            if let Ok(client_ca) = &client_ca {
                self.check_policy(line, client_auth, client_ca.as_ref());
            }
        }
        let certificate = certificate.ok().flatten();
        let key = key.ok().flatten();
        let certified_key = self.certified_key(certificate.as_ref(), key.as_ref());
        let client_ca = match client_ca.ok()? {
            Some(pem) => self.client_ca(&pem)?,
            None => Vec::new(),
        };
        let (versions, cipher_suites) = suites?;
        Some(TlsConfig {
            certified_key: certified_key?,
            client_ca,
            client_auth: client_auth?,
            client_allowed_sans,
            versions,
            cipher_suites,
            curves: curves?,
        })
    }

    /// Returns a PEM text, if one of its keys is set.
    ///
    /// # Errors
    ///
    /// It can't be read, which is reported.
    fn pem(
        &mut self,
        key: &str,
        text: Option<Text>,
        file_key: &str,
        file: Option<Text>,
    ) -> Result<Option<Pem>, ()> {
        let key_of_text = format!("{SECTION}.{key}");
        let text = text.filter(|text| !text.value.is_empty());
        let Some(Text { line, value }) = file.filter(|file| !file.value.is_empty()) else {
            return Ok(text.map(|Text { line, value }| Pem {
                line,
                key: key_of_text,
                text: value,
            }));
        };
        let file_key = format!("{SECTION}.{file_key}");
        if let Some(text) = text {
            let warning = format!("has no effect beside `{file_key}`: remove one");
            self.warn(text.line, key_of_text, warning);
        }
        let path = beside(&self.file, &value);
        if key == "key" {
            self.warn_if_world_readable(line, &file_key, &path);
        }
        let text = access::read_text(&path);
        self.files.push(path);
        let text = text.map_err(|problem| self.problem(line, &file_key, problem))?;
        Ok(Some(Pem {
            line,
            key: file_key,
            text,
        }))
    }

    fn certified_key(
        &mut self,
        certificate: Option<&Pem>,
        key: Option<&Pem>,
    ) -> Option<Arc<CertifiedKey>> {
        let certificates = certificate.and_then(|pem| self.certificates_of_server(pem));
        let signing_key = key.and_then(|pem| self.signing_key(pem));
        let certified_key = CertifiedKey::new(certificates?, signing_key?);
        let (certificate, key) = (certificate?, key?);
        match certified_key.keys_match() {
            Ok(()) => return Some(Arc::new(certified_key)),
            Err(rustls::Error::InconsistentKeys(_)) => {
                let problem = format!("is not the key of the certificate of `{}`", certificate.key);
                self.problem(key.line, &key.key, problem);
            }
            Err(_) => self.problem(certificate.line, &certificate.key, UNREADABLE),
        }
        None
    }

    fn certificates_of_server(&mut self, pem: &Pem) -> Option<Vec<CertificateDer<'static>>> {
        let certificates = self.certificates(pem)?;
        let problem = match parse_x509_certificate(certificates.first()?) {
            Ok((_, parsed)) if parsed.version == X509Version::V3 => return Some(certificates),
            Ok(_) => {
                "the certificate is of an old version of X.509: make one of version 3, as `openssl req -x509` does"
            }
            Err(_) => UNREADABLE,
        };
        self.problem(pem.line, &pem.key, problem);
        None
    }

    fn signing_key(&mut self, pem: &Pem) -> Option<Arc<dyn SigningKey>> {
        let found = match PrivateKeyDer::from_pem_slice(pem.text.as_bytes()) {
            Ok(der) => any_supported_type(&der).map_err(|_| {
                "a key of this kind is not supported: expected RSA of 2048 to 4096 bits, ECDSA with P-256 or P-384, or Ed25519"
            }),
            Err(_) if pem.text.contains("ENCRYPTED") => {
                Err("the key is encrypted: decrypt it with `openssl pkey`")
            }
            Err(_) if pem.text.contains("-----BEGIN CERTIFICATE-----") => {
                Err("contains a certificate and no private key: swap the certificate and the key")
            }
            Err(_) => {
                Err("contains no private key: expected PEM, from -----BEGIN PRIVATE KEY----- on")
            }
        };
        found
            .map_err(|problem| self.problem(pem.line, &pem.key, problem))
            .ok()
    }

    /// Returns the certificates of a text, at least one.
    fn certificates(&mut self, pem: &Pem) -> Option<Vec<CertificateDer<'static>>> {
        let certificates: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(pem.text.as_bytes()).collect();
        let problem = match certificates {
            Ok(certificates) if !certificates.is_empty() => return Some(certificates),
            Ok(_) if pem.text.contains("PRIVATE KEY-----") => {
                "contains a private key and no certificate: swap the certificate and the key"
            }
            Ok(_) => "contains no certificate: expected PEM, from -----BEGIN CERTIFICATE----- on",
            Err(_) => "is not valid PEM: write the file again",
        };
        self.problem(pem.line, &pem.key, problem);
        None
    }

    fn client_ca(&mut self, pem: &Pem) -> Option<Vec<CertificateDer<'static>>> {
        let certificates = self.certificates(pem)?;
        let mut store = RootCertStore::empty();
        for (index, certificate) in certificates.iter().enumerate() {
            if store.add(certificate.clone()).is_err() {
                let problem = format!("certificate {} cannot be read: make it again", index + 1);
                self.problem(pem.line, &pem.key, problem);
                return None;
            }
        }
        Some(certificates)
    }

    fn client_auth(&mut self, text: Option<Text>) -> Option<ClientAuth> {
        let Some(Text { line, value }) = text.filter(|text| !text.value.is_empty()) else {
            return Some(ClientAuth::None);
        };
        let found = CLIENT_AUTH.iter().find(|(name, _)| *name == value);
        if found.is_none() {
            let names = CLIENT_AUTH.map(|(name, _)| name).join(", ");
            let problem = format!("no such type: expected one of {names}");
            self.problem(line, "tls_server_config.client_auth_type", problem);
        }
        found.map(|(_, client_auth)| *client_auth)
    }

    /// Checks that clients are verified against the configured authorities, and no others.
    fn check_policy(
        &mut self,
        line: u64,
        client_auth: Option<ClientAuth>,
        client_ca: Option<&Pem>,
    ) {
        let line = client_ca.map_or(line, |pem| pem.line);
        match client_auth {
            Some(ClientAuth::None) if client_ca.is_some() => self.problem(
                line,
                SECTION,
                "has authorities for clients, and no client is verified: add `client_auth_type: RequireAndVerifyClientCert`",
            ),
            Some(ClientAuth::Request | ClientAuth::RequireAny) if client_ca.is_some() => self.warn(
                line,
                SECTION,
                "this client_auth_type accepts certificates of anyone, not only those of client_ca: `RequireAndVerifyClientCert` verifies them",
            ),
            Some(ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify)
                if client_ca.is_none() =>
            {
                self.problem(
                    line,
                    SECTION,
                    "clients are to be verified, but against what: add `client_ca_file` with the certificates of their authorities",
                );
            }
            _ => {}
        }
    }

    fn allowed_sans(
        &mut self,
        sans: Option<Texts>,
        client_auth: Option<ClientAuth>,
    ) -> Option<Vec<String>> {
        let Located { line, value } = sans?;
        let key = "tls_server_config.client_allowed_sans";
        match client_auth {
            Some(ClientAuth::None) => self.problem(
                line,
                key,
                "no certificate of a client is requested, so that anyone may connect: add `client_auth_type: RequireAndVerifyClientCert`",
            ),
            Some(ClientAuth::Request | ClientAuth::RequireAny) => self.warn(
                line,
                key,
                "this client_auth_type verifies no certificate, so that anyone can make one with such a name: `RequireAndVerifyClientCert` verifies them",
            ),
            _ => {}
        }
        Some(value.into_iter().map(|text| text.value).collect())
    }

    /// Returns the versions that are spoken, unless there is none.
    fn versions(&mut self, min: Option<Text>, max: Option<Text>) -> Option<Vec<ProtocolVersion>> {
        let line = |text: &Option<Text>| text.as_ref().map(|text| text.line);
        let (min_line, max_line) = (line(&min).unwrap_or(0), line(&max));
        let oldest = u16::from(ProtocolVersion::TLSv1_2);
        let (min_key, max_key) = (
            "tls_server_config.min_version",
            "tls_server_config.max_version",
        );
        let min = self.version(min_key, min, ProtocolVersion::TLSv1_2);
        let max = self.version(max_key, max, ProtocolVersion::TLSv1_3);
        let (min, max) = (u16::from(min?), u16::from(max?));
        if max < oldest {
            let problem = "TLS 1.0 and 1.1 are not supported: expected TLS12 or TLS13";
            self.problem(max_line.unwrap_or(min_line), max_key, problem);
            return None;
        }
        if min < oldest {
            let warning = "TLS 1.0 and 1.1 are not supported: TLS 1.2 is the oldest version";
            self.warn(min_line, min_key, warning);
        }
        let versions: Vec<_> = [ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3]
            .into_iter()
            .filter(|version| (min..=max).contains(&u16::from(*version)))
            .collect();
        if versions.is_empty() {
            let problem = "is below min_version, so that nobody could connect: swap them";
            self.problem(max_line.unwrap_or(min_line), max_key, problem);
            return None;
        }
        Some(versions)
    }

    fn version(
        &mut self,
        key: &str,
        text: Option<Text>,
        default: ProtocolVersion,
    ) -> Option<ProtocolVersion> {
        let Some(Text { line, value }) = text else {
            return Some(default);
        };
        let found = VERSIONS.iter().find(|(name, _)| *name == value);
        if found.is_none() {
            self.problem(line, key, "no such version: expected TLS12 or TLS13");
        }
        found.map(|(_, version)| *version)
    }

    /// Returns the cipher suites, and the versions of which there are any.
    fn cipher_suites(
        &mut self,
        texts: Option<Texts>,
        versions: Option<Vec<ProtocolVersion>>,
    ) -> Option<(Vec<ProtocolVersion>, Vec<CipherSuite>)> {
        let mut suites: Vec<_> = SUITES_OF_TLS13.iter().map(|(_, suite)| *suite).collect();
        let all = SUITES_OF_TLS12.iter().filter_map(|(_, suite)| *suite);
        let Some(Located { line, value }) = texts.filter(|texts| !texts.value.is_empty()) else {
            suites.extend(all);
            return Some((versions?, suites));
        };
        let key = "tls_server_config.cipher_suites";
        let named = self.named(key, &value, &SUITES_OF_TLS12, |name| {
            SUITES_OF_TLS13.iter().any(|(known, _)| *known == name)
        })?;
        let mut versions = versions?;
        if named.is_empty() && versions.contains(&ProtocolVersion::TLSv1_2) {
            versions.retain(|version| *version != ProtocolVersion::TLSv1_2);
            let none = "has no suite for TLS 1.2 that is supported";
            if versions.is_empty() {
                let supported = SUITES_OF_TLS12.iter().filter(|(_, suite)| suite.is_some());
                let supported: Vec<_> = supported.map(|(name, _)| *name).collect();
                let problem = format!(
                    "{none}, so that nobody could connect: add one of {}",
                    supported.join(", ")
                );
                self.problem(line, key, problem);
                return None;
            }
            self.warn(line, key, format!("{none}, so that clients need TLS 1.3"));
        }
        suites.extend(named);
        Some((versions, suites))
    }

    fn curves(&mut self, texts: Option<Texts>) -> Option<Vec<NamedGroup>> {
        let Some(Located { line, value }) = texts.filter(|texts| !texts.value.is_empty()) else {
            return Some(CURVES.iter().filter_map(|(_, group)| *group).collect());
        };
        let key = "tls_server_config.curve_preferences";
        let named = self.named(key, &value, &CURVES, |_| false)?;
        if named.is_empty() {
            let problem = "has no curve that is supported: add X25519, CurveP256 or CurveP384";
            self.problem(line, key, problem);
            return None;
        }
        Some(named)
    }

    /// Returns what is named and implemented, and warns of what is not implemented.
    fn named<T: Copy>(
        &mut self,
        key: &str,
        texts: &[Text],
        known: &[(&str, Option<T>)],
        is_ignored: impl Fn(&str) -> bool,
    ) -> Option<Vec<T>> {
        let mut named = Vec::new();
        let mut is_valid = true;
        for (index, Text { line, value }) in texts.iter().enumerate() {
            match known.iter().find(|(name, _)| name == value) {
                Some((_, Some(value))) => named.push(*value),
                Some((name, None)) => {
                    let warning = format!("{name} is not supported, and left out");
                    self.warn(*line, format!("{key}[{index}]"), warning);
                }
                None if is_ignored(value) => {}
                None => {
                    let expected: Vec<_> = known.iter().map(|(name, _)| *name).collect();
                    let problem = format!("unknown name: expected one of {}", expected.join(", "));
                    self.problem(*line, format!("{key}[{index}]"), problem);
                    is_valid = false;
                }
            }
        }
        is_valid.then_some(named)
    }
}
