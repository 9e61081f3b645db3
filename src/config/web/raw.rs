//! The raw shape of the web configuration.
//!
//! Every value keeps its line, and nothing but its shape is checked. A test reads this file for the table
//! of keys in docs/web.md: the comments of the fields are for operators.

use std::collections::BTreeMap;

use super::super::raw::mappings;
use super::super::read::{Located, Partial, Problems, Read, Text, Texts, report_shape};
use super::super::tree::{Content, Node};

/// A single value of which quotes change the type.
pub(super) struct Scalar {
    pub(super) value: String,
    pub(super) is_plain: bool,
}

impl Read for Scalar {
    fn read(node: Node, key: &str, problems: &mut Problems) -> Option<Self> {
        if let Content::Text { value, is_plain } = node.content {
            return Some(Self { value, is_plain });
        }
        report_shape(&node, "expected a single value", key, problems);
        None
    }
}

mappings! {
    /// The whole file.
    #[derive(Default)]
    pub(super) struct RawWeb {
        pub(super) tls_server_config: Option<Located<Partial<RawTls>>>,
        pub(super) http_server_config: Option<RawHttp>,
        /// Users who may log in, with the bcrypt hashes of their passwords; without users everybody may
        /// read.
        pub(super) basic_auth_users: Option<BTreeMap<String, Text>>,
        pub(super) rate_limit: Option<RawRateLimit>,
    }

    pub(super) struct RawTls {
        /// The certificate and those that lead to its authority (PEM), in this file.
        pub(super) cert: Option<Text>,
        /// The same in a file of its own, which is used if both are set.
        pub(super) cert_file: Option<Text>,
        /// The private key of the certificate (PEM), in this file.
        pub(super) key: Option<Text>,
        /// The same in a file of its own, which is used if both are set.
        pub(super) key_file: Option<Text>,
        /// The certificates of the authorities that clients' certificates come from (PEM), in this file.
        pub(super) client_ca: Option<Text>,
        /// The same in a file of its own, which is used if both are set.
        pub(super) client_ca_file: Option<Text>,
        /// Whether clients need a certificate: `NoClientCert`, `RequestClientCert`, `RequireAnyClientCert`
        /// (formerly `RequireClientCert`), `VerifyClientCertIfGiven` or `RequireAndVerifyClientCert`.
        pub(super) client_auth_type: Option<Text>,
        /// The names of which a client's certificate must have one: host names, e-mail addresses, IP
        /// addresses or URIs, compared as they are; `[]` for none, so that nobody may connect.
        pub(super) client_allowed_sans: Option<Texts>,
        /// The oldest version of TLS: `TLS12` or `TLS13`.
        pub(super) min_version: Option<Text>,
        /// The newest version of TLS: `TLS12` or `TLS13`.
        pub(super) max_version: Option<Text>,
        /// The cipher suites of TLS 1.2, by their names in Go; those of TLS 1.3 are always offered.
        pub(super) cipher_suites: Option<Texts>,
        /// Has no effect, as in Go since 1.18.
        pub(super) prefer_server_cipher_suites: Option<Located<Scalar>>,
        /// The groups for the key exchange: `X25519`, `CurveP256`, `CurveP384`.
        pub(super) curve_preferences: Option<Texts>,
    }

    #[derive(Default)]
    pub(super) struct RawHttp {
        /// Has no effect: HTTP/1.1 is spoken, which Prometheus accepts.
        pub(super) http2: Option<Located<Scalar>>,
        /// Headers of every response: `Strict-Transport-Security`, `Content-Security-Policy`,
        /// `X-XSS-Protection` with any value, `X-Content-Type-Options` with `nosniff`, `X-Frame-Options` with
        /// `deny` or `sameorigin`.
        pub(super) headers: Option<BTreeMap<String, Text>>,
    }

    #[derive(Default)]
    pub(super) struct RawRateLimit {
        /// The time after which one more request is answered, such as `1s` or `100ms`; the others get 429. A
        /// number without a unit is of nanoseconds, 0 is no limit. It is read at the start only.
        pub(super) interval: Option<Located<Scalar>>,
        /// How many requests may come at once; with 0, all are refused.
        pub(super) burst: Option<Located<Scalar>>,
    }
}
