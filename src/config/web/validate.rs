//! Validates raw values: turns them into settings, or reports their problems.
//!
//! Reports what exporters of Prometheus report, and what they ignore although it can't be meant. No
//! message contains a key or a hash.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bcrypt::HashParts;
use http::{HeaderName, HeaderValue, header};

use super::super::read::{Located, Text};
use super::super::validate::{Error, Problem};
use super::super::{document, files};
use super::duration;
use super::raw::{RawHttp, RawRateLimit, RawWeb, Scalar};
use super::settings::{RateLimit, WebConfig};

/// The headers that may be set, and their values where only some are valid.
const HEADERS: [(&str, HeaderName, &[&str]); 5] = [
    (
        "Strict-Transport-Security",
        header::STRICT_TRANSPORT_SECURITY,
        &[],
    ),
    (
        "X-Content-Type-Options",
        header::X_CONTENT_TYPE_OPTIONS,
        &["nosniff"],
    ),
    (
        "X-Frame-Options",
        header::X_FRAME_OPTIONS,
        &["deny", "sameorigin"],
    ),
    ("X-XSS-Protection", header::X_XSS_PROTECTION, &[]),
    (
        "Content-Security-Policy",
        header::CONTENT_SECURITY_POLICY,
        &[],
    ),
];

/// From this cost on a login takes seconds.
const SLOW_COST: u32 = 15;

/// How a hash is made.
const MAKE_A_HASH: &str = "make one with `htpasswd -nBC 10 \"\"`";

/// Reads and checks the web configuration at `path` and all files that it names.
///
/// Paths are relative to the directory of the file that contains them.
///
/// # Errors
///
/// Every problem, with its file and line.
pub fn load(path: &Path) -> Result<WebConfig, Error> {
    let (file, problems) = document::read::<Option<RawWeb>>(path, "--web.config.file");
    let mut check = Check {
        file: path.to_owned(),
        files: vec![path.to_owned()],
        problems: Vec::new(),
        warnings: Vec::new(),
    };
    for (line, text) in problems {
        check.problems.push(check.at(line, text));
    }
    let file = file.flatten().unwrap_or_default();
    let config = WebConfig {
        tls: check.tls(file.tls_server_config),
        users: check.users(file.basic_auth_users.unwrap_or_default()),
        rate_limit: check.rate_limit(file.rate_limit.unwrap_or_default()),
        ..check.http(file.http_server_config.unwrap_or_default())
    };
    let sentences = |mut problems: Vec<Problem>| {
        problems.sort_by_key(|problem| problem.line);
        let sentences = problems.iter().map(Problem::to_string);
        sentences.collect::<Vec<_>>()
    };
    if !check.problems.is_empty() {
        return Err(Error(sentences(check.problems)));
    }
    Ok(WebConfig {
        warnings: sentences(check.warnings),
        files: check.files,
        ..config
    })
}

/// Returns whether connections are encrypted by the web configuration at `path`; nothing else of it is checked.
///
/// # Errors
///
/// It can't be read.
pub fn is_tls(path: &Path) -> Result<bool, Error> {
    let (file, problems) = document::read::<Option<RawWeb>>(path, "--web.config.file");
    let Some(file) = file.flatten() else {
        let problem = problems.first().map(|(_, problem)| error(path, problem));
        return problem.map_or(Ok(false), Err);
    };
    let tls = file.tls_server_config.and_then(|tls| tls.value.value);
    Ok(tls.is_some_and(|tls| tls.is_on()))
}

/// Returns an error about the whole file.
#[must_use]
pub fn error(path: &Path, problem: &str) -> Error {
    Error(vec![format!("{}: {problem}", path.display())])
}

/// Collects problems and warnings while raw values become settings.
pub(super) struct Check {
    /// The web configuration.
    pub(super) file: PathBuf,
    /// It and what it names.
    pub(super) files: Vec<PathBuf>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Check {
    fn at(&self, line: Option<u64>, text: String) -> Problem {
        Problem {
            file: self.file.clone(),
            line,
            text,
        }
    }

    pub(super) fn problem(
        &mut self,
        line: u64,
        key: impl fmt::Display,
        problem: impl fmt::Display,
    ) {
        let problem = self.at(Some(line), format!("{key}: {problem}"));
        self.problems.push(problem);
    }

    pub(super) fn warn(&mut self, line: u64, key: impl fmt::Display, warning: impl fmt::Display) {
        let warning = self.at(Some(line), format!("{key}: {warning}"));
        self.warnings.push(warning);
    }

    /// Warns of a file with a secret that is open to all.
    pub(super) fn warn_if_world_readable(&mut self, line: u64, key: &str, path: &Path) {
        if files::is_world_readable(path) {
            let warning = format!(
                "every user of this host can read {}: `chmod o-r` takes that away",
                path.display()
            );
            self.warn(line, key, warning);
        }
    }

    /// Reads a boolean of YAML 1.1.
    pub(super) fn switch(&mut self, key: &str, scalar: Option<Located<Scalar>>) -> bool {
        let Some(Located { line, value }) = scalar else {
            return true;
        };
        match value.value.as_str() {
            "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON"
                if value.is_plain =>
            {
                true
            }
            "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off"
            | "OFF"
                if value.is_plain =>
            {
                false
            }
            _ => {
                self.problem(
                    line,
                    key,
                    "not a boolean: expected true or false, without quotes",
                );
                true
            }
        }
    }

    fn http(&mut self, http: RawHttp) -> WebConfig {
        let http2 = self.switch("http_server_config.http2", http.http2);
        let mut headers = Vec::new();
        for (name, value) in http.headers.unwrap_or_default() {
            match header(&name, &value.value) {
                Ok(header) => headers.push(header),
                Err(problem) => self.problem(value.line, "http_server_config.headers", problem),
            }
        }
        WebConfig {
            http2,
            headers,
            ..WebConfig::default()
        }
    }

    fn users(&mut self, users: BTreeMap<String, Text>) -> BTreeMap<String, String> {
        let mut hashes = BTreeMap::new();
        for (number, (user, Text { line, value })) in users.into_iter().enumerate() {
            // A name may be a hash in the wrong place.
            let key = if user.len() < 30 {
                format!("basic_auth_users.{user}")
            } else {
                format!("basic_auth_users[{number}]")
            };
            match value.parse::<HashParts>() {
                Ok(parts) if (4..=31).contains(&parts.get_cost()) => {
                    if parts.get_cost() >= SLOW_COST {
                        let warning = format!(
                            "the cost {} makes a login take seconds, while others wait: 10 to 12 is usual",
                            parts.get_cost()
                        );
                        self.warn(line, &key, warning);
                    }
                }
                Ok(parts) => {
                    let problem = format!(
                        "the cost {} of the bcrypt hash is not one from 4 to 31: {MAKE_A_HASH}",
                        parts.get_cost()
                    );
                    self.problem(line, &key, problem);
                }
                Err(_) => self.problem(line, &key, not_a_hash(&value)),
            }
            if user.contains(':') {
                let warning =
                    "nobody can log in under a name with a colon, which ends the name in a request";
                self.warn(line, &key, warning);
            }
            hashes.insert(user, value);
        }
        hashes
    }

    fn rate_limit(&mut self, limit: RawRateLimit) -> Option<RateLimit> {
        let burst_line = limit.burst.as_ref().map(|burst| burst.line);
        let burst = self.burst(limit.burst);
        let (line, interval) = match limit.interval {
            Some(interval) => (interval.line, self.interval(&interval)?),
            None => (0, 0),
        };
        let key = "rate_limit.interval";
        match u64::try_from(interval) {
            Ok(0) => {
                if let Some(line) = burst_line {
                    let warning = "has no effect without `interval`, such as `interval: 1s`";
                    self.warn(line, "rate_limit.burst", warning);
                }
                None
            }
            Ok(nanoseconds) => {
                if burst == 0 {
                    let warning =
                        "without a `burst` every request is refused: add one, such as `burst: 20`";
                    self.warn(line, key, warning);
                }
                let interval = Duration::from_nanos(nanoseconds);
                Some(RateLimit { interval, burst })
            }
            Err(_) => {
                self.warn(line, key, "a negative interval is no limit");
                None
            }
        }
    }

    fn burst(&mut self, burst: Option<Located<Scalar>>) -> u32 {
        let Some(Located { line, value }) = burst else {
            return 0;
        };
        let number = value.value.parse().ok().filter(|_| value.is_plain);
        number.unwrap_or_else(|| {
            let problem = format!(
                "not a whole number from 0 to {}, without quotes: expected one such as 20",
                u32::MAX
            );
            self.problem(line, "rate_limit.burst", problem);
            0
        })
    }

    fn interval(&mut self, interval: &Located<Scalar>) -> Option<i64> {
        let Located { line, value } = interval;
        let key = "rate_limit.interval";
        if let Ok(nanoseconds) = value.value.parse()
            && value.is_plain
        {
            if nanoseconds != 0 {
                let warning = "a number without a unit is of nanoseconds: add one, such as `1s`";
                self.warn(*line, key, warning);
            }
            return Some(nanoseconds);
        }
        let parsed = duration::parse(&value.value);
        if parsed.is_none() {
            let problem =
                "not a duration: expected one such as 1s, 100ms or 1h30m (ns, us, ms, s, m, h)";
            self.problem(*line, key, problem);
        }
        parsed
    }
}

/// Returns a header as it is sent, or why it can't be.
fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let known = HEADERS.into_iter().find(|(known, ..)| *known == name);
    let Some((_, header, values)) = known else {
        let names = HEADERS.map(|(name, ..)| name).join(", ");
        return Err(format!(
            "one of the headers cannot be set here: expected {names}, in this spelling"
        ));
    };
    if !values.is_empty() && !values.contains(&value) {
        return Err(format!(
            "invalid value for {name}: expected {}",
            values.join(" or ")
        ));
    }
    // Go sends line breaks, which end a folded text of YAML, as spaces.
    let value = value.replace(['\r', '\n'], " ");
    match HeaderValue::from_bytes(value.trim().as_bytes()) {
        Ok(value) => Ok((header, value)),
        Err(_) => Err(format!(
            "the value for {name} contains a control character: remove it"
        )),
    }
}

/// Returns why a value is not a bcrypt hash.
fn not_a_hash(value: &str) -> String {
    let problem = if !value.starts_with('$') {
        "not a bcrypt hash, which begins with $2"
    } else if !["$2a$", "$2b$", "$2x$", "$2y$"]
        .iter()
        .any(|start| value.starts_with(start))
    {
        "a hash of another kind: expected bcrypt, which begins with $2a$, $2b$, $2x$ or $2y$"
    } else if value.len() != 60 {
        "not a whole bcrypt hash: expected 60 characters"
    } else {
        "not a valid bcrypt hash"
    };
    format!("{problem}; {MAKE_A_HASH}")
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use rcgen::{CertificateParams, KeyPair};
    use rustls::{CipherSuite, NamedGroup, ProtocolVersion};
    use tempfile::TempDir;

    use super::super::settings::ClientAuth;
    use super::*;

    const HASH: &str = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";

    /// A directory with a certificate, its key and the key of another.
    struct Directory(TempDir);

    impl Directory {
        fn new() -> Self {
            let directory = Self(tempfile::tempdir().unwrap());
            directory.open("", 0o700);
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
            let certificate = params.self_signed(&key).unwrap();
            directory.write("server.crt", &certificate.pem());
            directory.write("server.key", &key.serialize_pem());
            let other = KeyPair::generate().unwrap();
            directory.write("other.key", &other.serialize_pem());
            directory
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.0.path().join(name), text).unwrap();
        }

        fn open(&self, name: &str, mode: u32) {
            let path = self.0.path().join(name);
            std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }

        fn load(&self, text: &str) -> Result<WebConfig, Error> {
            self.write("web.yml", text);
            load(&self.0.path().join("web.yml"))
        }

        fn without_directory(&self, text: &str) -> String {
            text.replace(&format!("{}/", self.0.path().display()), "")
        }

        fn problems(&self, text: &str) -> String {
            self.without_directory(&self.load(text).unwrap_err().to_string())
        }

        fn warnings(&self, text: &str) -> String {
            self.without_directory(&self.load(text).unwrap().warnings.join("\n"))
        }

        /// Checks that each section of TLS has exactly this problem.
        #[track_caller]
        fn assert_tls_problems(&self, cases: &[(&str, &str)]) {
            for (keys, expected) in cases {
                let problems = self.problems(&format!("tls_server_config: {{{keys}}}"));
                assert_eq!(problems, format!("web.yml:1: {expected}"), "{keys}");
            }
        }
    }

    const PAIR: &str = "cert_file: server.crt, key_file: server.key";

    #[test]
    fn an_empty_file_protects_nothing() {
        let directory = Directory::new();
        for text in [
            "",
            "# nothing",
            "tls_server_config:\nhttp_server_config:\nbasic_auth_users:\nrate_limit:\n",
            "http_server_config: {http2: , headers: }",
        ] {
            let config = directory.load(text).unwrap();
            assert!(config.tls.is_none() && config.users.is_empty() && config.headers.is_empty());
            assert!(config.http2 && config.rate_limit.is_none());
            assert_eq!(config.warnings, [""; 0], "{text}");
            assert_eq!(config.files, [directory.0.path().join("web.yml")]);
        }
    }

    #[test]
    fn every_key_is_read() {
        let directory = Directory::new();
        let config = directory
            .load(&format!(
                "
tls_server_config:
  cert_file: server.crt
  key_file: server.key
  client_ca_file: server.crt
  client_auth_type: VerifyClientCertIfGiven
  client_allowed_sans: [a]
  min_version: TLS12
  max_version: TLS12
  cipher_suites: [TLS_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]
  prefer_server_cipher_suites: off
  curve_preferences: [CurveP384, X25519]
http_server_config:
  http2: no
  headers: {{Content-Security-Policy: \"a\\n b\\n\", X-Frame-Options: deny}}
basic_auth_users: {{alice: '{HASH}'}}
rate_limit: {{interval: 1.5s, burst: 20}}
"
            ))
            .unwrap();
        let tls = config.tls.as_ref().unwrap();
        assert_eq!(tls.certified_key.cert.len(), 1);
        assert_eq!(tls.client_ca, tls.certified_key.cert);
        assert_eq!(tls.client_auth, ClientAuth::VerifyIfGiven);
        assert_eq!(tls.client_allowed_sans, Some(vec!["a".to_owned()]));
        assert_eq!(tls.versions, [ProtocolVersion::TLSv1_2]);
        assert_eq!(tls.cipher_suites.len(), 4);
        assert!(
            tls.cipher_suites
                .contains(&CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384)
        );
        assert_eq!(tls.curves, [NamedGroup::secp384r1, NamedGroup::X25519]);
        let headers: Vec<_> = config
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value))
            .collect();
        assert_eq!(
            headers,
            [
                ("content-security-policy", &HeaderValue::from_static("a  b")),
                ("x-frame-options", &HeaderValue::from_static("deny"))
            ]
        );
        assert!(!config.http2);
        let limit = RateLimit {
            interval: Duration::from_millis(1500),
            burst: 20,
        };
        assert_eq!(config.rate_limit, Some(limit));
        assert_eq!(config.files.len(), 4);
        let debug = format!("{config:?}");
        assert!(debug.contains("alice") && !debug.contains("$2"), "{debug}");
    }

    #[test]
    fn every_problem_is_reported_at_once_with_its_line() {
        let directory = Directory::new();
        let text = "
tls_server_config:
  cert_file: gone.crt
  key_file: gone.key
  client_auth_type: foo
  min_version: TLS14
  cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]
  curve_preferences: [CurveP257]
  cert_filse: x
http_server_config:
  http2: \"false\"
  headers: {x-frame-options: deny, X-Content-Type-Options: x}
basic_auth_users: {alice: x, bob: '$2y$10$short', carol: }
rate_limit: {interval: 1d, burst: \"3\"}
other: x
";
        let problems = directory.problems(text);
        let expected = [
            "3: tls_server_config.cert_file: cannot read gone.crt: No such file or directory (os error 2)",
            "4: tls_server_config.key_file: cannot read gone.key: No such file or directory (os error 2)",
            "5: tls_server_config.client_auth_type: no such type: expected one of NoClientCert, RequestClientCert, RequireClientCert, RequireAnyClientCert, VerifyClientCertIfGiven, RequireAndVerifyClientCert",
            "6: tls_server_config.min_version: no such version: expected TLS12 or TLS13",
            "7: tls_server_config.cipher_suites[0]: unknown name: expected one of TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, ",
            "8: tls_server_config.curve_preferences[0]: unknown name: expected one of X25519, CurveP256, CurveP384, CurveP521",
            "9: tls_server_config.cert_filse: unknown key, did you mean `cert_file`: expected one of cert, ",
            "11: http_server_config.http2: not a boolean: expected true or false, without quotes",
            "12: http_server_config.headers: invalid value for X-Content-Type-Options: expected nosniff",
            "12: http_server_config.headers: one of the headers cannot be set here: expected Strict-Transport-Security, ",
            "13: basic_auth_users.carol: the value is missing",
            "13: basic_auth_users.alice: not a bcrypt hash, which begins with $2; make one with `htpasswd -nBC 10 \"\"`",
            "13: basic_auth_users.bob: not a whole bcrypt hash: expected 60 characters; make one with `htpasswd -nBC 10 \"\"`",
            "14: rate_limit.burst: not a whole number from 0 to 4294967295, without quotes: expected one such as 20",
            "14: rate_limit.interval: not a duration: expected one such as 1s, 100ms or 1h30m (ns, us, ms, s, m, h)",
            "15: other: unknown key: expected one of tls_server_config, http_server_config, basic_auth_users, rate_limit",
        ];
        let lines: Vec<_> = problems.lines().collect();
        assert_eq!(lines.len(), expected.len(), "{problems}");
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.starts_with(&format!("web.yml:{expected}")), "{line}");
        }
    }

    #[test]
    fn certificates_and_keys_that_cannot_be_used_are_reported() {
        let directory = Directory::new();
        directory.write("junk", "junk");
        directory.write(
            "broken",
            "-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n",
        );
        directory.write(
            "not-one",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        );
        directory.write(
            "encrypted",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        );
        directory.write(
            "strange",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        );
        let (cert, key) = ("tls_server_config.cert_file", "tls_server_config.key_file");
        directory.assert_tls_problems(&[
            ("cert_file: server.crt", "tls_server_config: TLS needs `key_file` or `key`: add one, or leave the section out"),
            ("key_file: server.key, cert_file: ''", "tls_server_config: TLS needs `cert_file` or `cert`: add one, or leave the section out"),
            ("cert_file: server.crt, key_file: other.key", &format!("{key}: is not the key of the certificate of `{cert}`")),
            ("cert_file: junk, key_file: server.key", &format!("{cert}: contains no certificate: expected PEM, from -----BEGIN CERTIFICATE----- on")),
            ("cert_file: broken, key_file: server.key", &format!("{cert}: is not valid PEM: write the file again")),
            ("cert_file: not-one, key_file: server.key", &format!("{cert}: certificate 1 cannot be read: make it again")),
            ("cert_file: server.crt, key_file: junk", &format!("{key}: contains no private key: expected PEM, from -----BEGIN PRIVATE KEY----- on")),
            ("cert_file: server.crt, key_file: encrypted", &format!("{key}: the key is encrypted: decrypt it with `openssl pkey`")),
            ("cert_file: server.crt, key_file: strange", &format!("{key}: a key of this kind is not supported: expected RSA of 2048 to 4096 bits, ECDSA with P-256 or P-384, or Ed25519")),
            ("cert_file: server.crt, key_file: .", &format!("{key}: cannot read .: not a regular file")),
            (&format!("{PAIR}, client_auth_type: RequireAnyClientCert, client_ca_file: junk"), "tls_server_config.client_ca_file: contains no certificate: expected PEM, from -----BEGIN CERTIFICATE----- on"),
        ]);
        let swapped =
            directory.problems("tls_server_config: {cert_file: server.key, key_file: server.crt}");
        assert_eq!(
            swapped,
            "web.yml:1: tls_server_config.cert_file: contains a private key and no certificate: swap the certificate and the key\nweb.yml:1: tls_server_config.key_file: contains a certificate and no private key: swap the certificate and the key"
        );
    }

    #[test]
    fn what_would_let_anyone_in_or_nobody_is_refused() {
        let directory = Directory::new();
        let no_ca = "tls_server_config: clients are to be verified, but against what: add `client_ca_file` with the certificates of their authorities";
        directory.assert_tls_problems(&[
            (&format!("{PAIR}, client_auth_type: RequireAndVerifyClientCert"), no_ca),
            (&format!("{PAIR}, client_auth_type: VerifyClientCertIfGiven"), no_ca),
            (&format!("{PAIR}, client_ca_file: server.crt"), "tls_server_config: has authorities for clients, and no client is verified: add `client_auth_type: RequireAndVerifyClientCert`"),
            (&format!("{PAIR}, client_allowed_sans: [a]"), "tls_server_config.client_allowed_sans: no certificate of a client is requested, so that anyone may connect: add `client_auth_type: RequireAndVerifyClientCert`"),
            (&format!("{PAIR}, min_version: TLS13, max_version: TLS12"), "tls_server_config.max_version: is below min_version, so that nobody could connect: swap them"),
            (&format!("{PAIR}, max_version: TLS11"), "tls_server_config.max_version: TLS 1.0 and 1.1 are not supported: expected TLS12 or TLS13"),
            (&format!("{PAIR}, curve_preferences: [CurveP521]"), "tls_server_config.curve_preferences: has no curve that is supported: add X25519, CurveP256 or CurveP384"),
        ]);
        let problem = directory.problems(&format!("tls_server_config: {{{PAIR}, max_version: TLS12, cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA]}}"));
        assert!(problem.contains("has no suite for TLS 1.2 that is supported, so that nobody could connect: add one of TLS_ECDHE_ECDSA"), "{problem}");
    }

    #[test]
    fn what_is_valid_and_hardly_meant_causes_a_warning() {
        let directory = Directory::new();
        let tls =
            |keys: &str| directory.warnings(&format!("tls_server_config: {{{PAIR}, {keys}}}"));
        for (warnings, expected) in [
            (
                directory.warnings("tls_server_config: {min_version: TLS13}"),
                "1: tls_server_config: has no certificate, so that HTTP is served unencrypted: add `cert_file` and `key_file`",
            ),
            (
                tls("min_version: TLS10"),
                "1: tls_server_config.min_version: TLS 1.0 and 1.1 are not supported: TLS 1.2 is the oldest version",
            ),
            (
                tls("curve_preferences: [CurveP521, X25519]"),
                "1: tls_server_config.curve_preferences[0]: CurveP521 is not supported, and left out",
            ),
            (
                tls("cipher_suites: [TLS_AES_128_GCM_SHA256]"),
                "1: tls_server_config.cipher_suites: has no suite for TLS 1.2 that is supported, so that clients need TLS 1.3",
            ),
            (
                tls("client_auth_type: RequestClientCert, client_ca_file: server.crt"),
                "1: tls_server_config: this client_auth_type accepts certificates of anyone, not only those of client_ca: `RequireAndVerifyClientCert` verifies them",
            ),
            (
                tls("client_auth_type: RequireAnyClientCert, client_allowed_sans: [a]"),
                "1: tls_server_config.client_allowed_sans: this client_auth_type verifies no certificate, so that anyone can make one with such a name: `RequireAndVerifyClientCert` verifies them",
            ),
            (
                tls("cert: x"),
                "1: tls_server_config.cert: has no effect beside `tls_server_config.cert_file`: remove one",
            ),
            (
                directory.warnings("rate_limit: {interval: 5, burst: 1}"),
                "1: rate_limit.interval: a number without a unit is of nanoseconds: add one, such as `1s`",
            ),
            (
                directory.warnings("rate_limit: {interval: 1s}"),
                "1: rate_limit.interval: without a `burst` every request is refused: add one, such as `burst: 20`",
            ),
            (
                directory.warnings("rate_limit: {interval: -1s, burst: 1}"),
                "1: rate_limit.interval: a negative interval is no limit",
            ),
            (
                directory.warnings("rate_limit: {burst: 1}"),
                "1: rate_limit.burst: has no effect without `interval`, such as `interval: 1s`",
            ),
            (
                directory.warnings(&format!("basic_auth_users: {{'a:b': '{HASH}'}}")),
                "1: basic_auth_users.a:b: nobody can log in under a name with a colon, which ends the name in a request",
            ),
            (
                directory.warnings(&format!(
                    "basic_auth_users: {{bob: '{}'}}",
                    HASH.replace("$10$", "$18$")
                )),
                "1: basic_auth_users.bob: the cost 18 makes a login take seconds, while others wait: 10 to 12 is usual",
            ),
        ] {
            assert_eq!(warnings, format!("web.yml:{expected}"));
        }
        assert_eq!(
            directory
                .load("rate_limit: {interval: -1s, burst: 1}")
                .unwrap()
                .rate_limit,
            None
        );
    }

    #[test]
    fn no_message_repeats_a_key_a_hash_or_a_password() {
        let directory = Directory::new();
        let secrets = [
            HASH,
            "a-password-that-is-long-enough-1",
            "$2y$99$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi",
        ];
        for secret in secrets {
            for text in [
                "tls_server_config: {cert_file: server.crt, key: SECRET}",
                "tls_server_config: {cert: SECRET, key_file: server.key}",
                "tls_server_config: {client_auth_type: SECRET, min_version: SECRET, cipher_suites: [SECRET]}",
                "tls_server_config: {curve_preferences: [SECRET], http2: SECRET, SECRET: SECRET}",
                "tls_server_config: {prefer_server_cipher_suites: SECRET, max_version: SECRET}",
                "http_server_config: {http2: SECRET, headers: {SECRET: x}}",
                "http_server_config: {headers: {X-Frame-Options: SECRET}}",
                "basic_auth_users: {SECRET: x, y: [SECRET]}",
                "basic_auth_users: {alice: SECRETx}",
                "basic_auth_users: SECRET",
                "rate_limit: {interval: SECRET, burst: SECRET}",
                "SECRET",
                "SECRET: x",
            ] {
                let problems = directory.problems(&text.replace("SECRET", secret));
                assert!(!problems.contains(secret), "{text}: {problems}");
            }
        }
    }

    #[test]
    fn a_key_that_every_user_can_read_causes_a_warning() {
        let directory = Directory::new();
        let text = format!("tls_server_config: {{{PAIR}}}");
        directory.open("server.key", 0o644);
        assert_eq!(directory.warnings(&text), "");
        directory.open("", 0o755);
        assert_eq!(
            directory.warnings(&text),
            "web.yml:1: tls_server_config.key_file: every user of this host can read server.key: `chmod o-r` takes that away"
        );
        directory.open("server.key", 0o640);
        assert_eq!(directory.warnings(&text), "");
    }

    #[test]
    fn a_missing_file_is_reported_with_its_flag() {
        let directory = Directory::new();
        let path = directory.0.path().join("gone.yml");
        assert_eq!(
            directory.without_directory(&load(&path).unwrap_err().to_string()),
            "gone.yml: cannot read it: No such file or directory (os error 2); write it, or name another with --web.config.file"
        );
    }
}
