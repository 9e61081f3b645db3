//! The web configuration, compared with what `promtool check web-config` says of the same file.
//!
//! promtool contains the implementation that other exporters of Prometheus have. Where ours differs, a
//! case says why, and `docs/web.md` repeats it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use rcgen::{CertificateParams, KeyPair};
use syn::{Item, Type};
use tempfile::TempDir;
use wxapp_portrait_exporter::config::web;

use crate::harness::{assert_fresh, newer, with_parts};
use crate::source;

/// A file, and why its verdict is another one here, if it is.
struct Case {
    text: &'static str,
    difference: Option<&'static str>,
}

const fn same(text: &'static str) -> Case {
    let difference = None;
    Case { text, difference }
}

const fn differs(text: &'static str, why: &'static str) -> Case {
    let difference = Some(why);
    Case { text, difference }
}

/// Stands for a section of TLS with a certificate and its key, and for a bcrypt hash.
const ABBREVIATIONS: [(&str, &str); 2] = [
    ("PAIR", "cert_file: server.crt, key_file: server.key"),
    (
        "HASH",
        "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi",
    ),
];

const OLD_TLS: &str = "TLS 1.0 and 1.1 are not implemented, and insecure";
const NO_SANS: &str = "the list would not be checked, so that anyone could connect";
const NO_CA: &str = "clients would be verified against the authorities of the system, from which anyone gets a certificate";
const EMPTY_CA: &str = "no client could be verified";
const NUMBERS: &str =
    "numbers are whole and decimal: what else YAML takes for a number is hardly meant";
const HASHES: &str =
    "the hash is not one of bcrypt as it is made today, or nobody could log in with it";

const CASES: &[Case] = &[
    // The fixtures of its tests.
    same(""),
    same("junk"),
    same("tls_server_config: {cert_filse: server.crt}"),
    same("tls_server_config: {PAIR}"),
    same("tls_server_config: {PAIR, min_version: TLS13, max_version: TLS13}"),
    same("tls_server_config: {cert_file: '', key_file: server.key}"),
    same("tls_server_config: {cert_file: server.crt, key_file: ''}"),
    same("tls_server_config: {cert: '', key_file: server.key}"),
    same("tls_server_config: {cert_file: '', key_file: '', client_auth_type: x}"),
    same("tls_server_config: {cert_file: gone, key_file: server.key}"),
    same("tls_server_config: {cert_file: server.crt, key_file: gone}"),
    same("tls_server_config: {cert_file: gone, key_file: gone}"),
    same("tls_server_config: {cert: INLINE_CERT, key: INLINE_KEY}"),
    same(
        "tls_server_config: {PAIR, client_ca_file: gone, client_auth_type: RequireAndVerifyClientCert}",
    ),
    same("tls_server_config: {PAIR, client_ca_file: server.crt}"),
    differs(
        "tls_server_config: {PAIR, client_ca_file: empty, client_auth_type: RequireAndVerifyClientCert}",
        EMPTY_CA,
    ),
    same(
        "tls_server_config: {PAIR, client_ca_file: server.crt, client_auth_type: RequireAndVerifyClientCert}",
    ),
    same(
        "tls_server_config: {PAIR, client_ca_file: server.crt, client_auth_type: RequireAnyClientCert}",
    ),
    same(
        "tls_server_config: {PAIR, client_ca: INLINE_CERT, client_auth_type: VerifyClientCertIfGiven}",
    ),
    same(
        "tls_server_config: {PAIR, client_ca_file: server.crt, client_auth_type: RequireAndVerifyClientCert, client_allowed_sans: [a]}",
    ),
    same("tls_server_config: {PAIR, cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA2048]}"),
    same(
        "tls_server_config: {PAIR, cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256]}",
    ),
    same(
        "tls_server_config: {PAIR, cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384], prefer_server_cipher_suites: false}",
    ),
    same(
        "tls_server_config: {PAIR, cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA], max_version: TLS13}",
    ),
    same("tls_server_config: {PAIR, curve_preferences: [CurveP256, CurveP384, CurveP521, X25519]}"),
    differs(
        "tls_server_config: {PAIR, min_version: TLS13, curve_preferences: [CurveP521]}",
        "CurveP521 is not implemented: beside others it is left out, alone it leaves nothing",
    ),
    same("tls_server_config: {PAIR, curve_preferences: [CurveP257]}"),
    same("tls_server_config: {PAIR, min_version: TLS111}"),
    same("tls_server_config: {PAIR}\nhttp_server_config: {http2: false}"),
    same(
        "http_server_config: {headers: {Strict-Transport-Security: max-age=1, X-Content-Type-Options: nosniff, X-Frame-Options: deny, X-XSS-Protection: '1', Content-Security-Policy: x}}",
    ),
    same("http_server_config: {headers: {Content-Type: text/plain}}"),
    same("http_server_config: {headers: {X-Content-Type-Options: foo}}"),
    same("http_server_config: {headers: {X-Frame-Options: foo}}"),
    same("basic_auth_users: {alice: 'HASH', dave: 'HASH'}"),
    same("tls_server_config: {PAIR}\nbasic_auth_users: {alice: 'HASH'}"),
    same("basic_auth_users: {john: doe}"),
    same("rate_limit: {interval: 1s}"),
    same("rate_limit: {interval: 1ms, burst: 10}"),
    // Further cases.
    same("rate_limit: {interval: 5}"),
    same("rate_limit: {interval: -1s}"),
    same("rate_limit: {interval: 1.5h}"),
    same("rate_limit: {interval: 0}"),
    same("rate_limit: {interval: '5'}"),
    same("rate_limit: {burst: 3}"),
    same("rate_limit: {interval: 1d}"),
    same("rate_limit: {interval: 1s, burst: '3'}"),
    same("rate_limit: {interval: 1s, burst: few}"),
    differs("rate_limit: {interval: 1.5}", NUMBERS),
    differs("rate_limit: {interval: 1s, burst: 1e1}", NUMBERS),
    differs("rate_limit: {interval: 1s, burst: 0x10}", NUMBERS),
    differs(
        "rate_limit: {interval: 1s, burst: -1}",
        "every request would be refused",
    ),
    differs(
        "tls_server_config: {PAIR, min_version: TLS13, max_version: TLS12}",
        "nobody could connect",
    ),
    differs(
        "tls_server_config: {PAIR, min_version: TLS10, max_version: TLS11}",
        OLD_TLS,
    ),
    same("tls_server_config: {PAIR, min_version: TLS10}"),
    same("tls_server_config: {min_version: TLS13}"),
    differs("tls_server_config: {client_allowed_sans: [a]}", NO_SANS),
    differs(
        "tls_server_config: {PAIR, client_allowed_sans: [a]}",
        NO_SANS,
    ),
    same("tls_server_config: {PAIR, client_auth_type: RequireClientCert}"),
    differs(
        "tls_server_config: {PAIR, client_auth_type: RequireAndVerifyClientCert}",
        NO_CA,
    ),
    differs(
        "tls_server_config: {PAIR, client_auth_type: VerifyClientCertIfGiven}",
        NO_CA,
    ),
    differs(
        "tls_server_config: {PAIR, client_ca_file: server.key, client_auth_type: RequireAndVerifyClientCert}",
        EMPTY_CA,
    ),
    same(
        "tls_server_config: {PAIR, client_ca_file: server.crt, client_ca: junk, client_auth_type: RequireAndVerifyClientCert}",
    ),
    same("tls_server_config: {PAIR, cert: junk}"),
    same(
        "tls_server_config: {PAIR, client_ca_file: server.crt, client_auth_type: RequestClientCert}",
    ),
    same(
        "tls_server_config: {PAIR, client_ca_file: server.crt, client_auth_type: RequireAndVerifyClientCert, client_allowed_sans: []}",
    ),
    same("http_server_config: {http2: no}"),
    same("http_server_config: {http2: on}"),
    same("http_server_config: {http2: }"),
    same("http_server_config: {http2: \"false\"}"),
    same("http_server_config: {http2: 0}"),
    same("http_server_config: {headers: {Content-Security-Policy: ''}}"),
    same("http_server_config: {headers: {Content-Security-Policy: \"a\\nb\"}}"),
    differs(
        "http_server_config: {headers: {Content-Security-Policy: \"a\\u0001b\"}}",
        "control characters are not valid in a header",
    ),
    same("http_server_config: {headers: {X-XSS-Protection: 1.50}}"),
    same("http_server_config: {headers: {x-frame-options: deny}}"),
    same("http_server_config: {headers: {X-Frame-Options: ''}}"),
    same("http_server_config: {headers: {X-Frame-Options: DENY}}"),
    same("basic_auth_users: {a: '$2x$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi'}"),
    differs(
        "basic_auth_users: {a: '$2$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi'}",
        HASHES,
    ),
    differs(
        "basic_auth_users: {a: '$1$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi'}",
        HASHES,
    ),
    differs("basic_auth_users: {a: 'HASHx'}", HASHES),
    differs(
        "basic_auth_users: {a: '$2y$10$QOauhQNbBCuQDKes6eFzPfMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSj'}",
        "the last bits of salt and hash are padding, and not zero as usual",
    ),
    same("basic_auth_users: {'a:b': 'HASH'}"),
    same("basic_auth_users: {'': 'HASH'}"),
    same("basic_auth_users: {a: ''}"),
    same("basic_auth_users: {a: }"),
    same("basic_auth_users: {a: 'HASH', a: 'HASH'}"),
    same("basic_auth_users: {a: '$2y$03$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi'}"),
    same("basic_auth_users: {a: '$2y$99$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi'}"),
    same("basic_auth_users: {a: '$3y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi'}"),
    same("tls_server_config: {PAIR, cipher_suites: [TLS_AES_128_GCM_SHA256]}"),
    differs(
        "tls_server_config: {PAIR, cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA], max_version: TLS12}",
        "suites with CBC are not implemented: beside others they are left out, alone they leave nothing",
    ),
    same("tls_server_config: {PAIR, cipher_suites: []}"),
    same("tls_server_config: {PAIR, curve_preferences: []}"),
    differs(
        "rate_limit: {burst: 1}\n---\nrate_limit: {burst: 2}",
        "a second document would be ignored",
    ),
    same("tls_server_config:\nhttp_server_config:\nbasic_auth_users:\nrate_limit:"),
    same("\u{feff}rate_limit: {burst: 1}"),
    same("tls_server_config: {prefer_server_cipher_suites: false}"),
    same("tls_server_config: {client_auth_type: NoClientCert}"),
    same("tls_server_config: {PAIR, client_auth_type: foo}"),
    same("tls_server_config: {PAIR, client_auth_type: requireAnyClientCert}"),
    same("tls_server_config: {PAIR, client_ca_file: server.crt, client_auth_type: NoClientCert}"),
    same("tls_server_config: {cert_file: server.crt, key_file: other.key}"),
    same("tls_server_config: {cert_file: server.key, key_file: server.crt}"),
    same("tls_server_config: {cert_file: server.crt, key_file: empty}"),
    same("tls_server_config: {cert_file: server.crt, key: junk}"),
    same("http_server_config: {http2: true, http2: false}"),
    same("tls_server_config: {PAIR, cipher_suites: [TLS_RSA_WITH_AES_128_GCM_SHA256]}"),
    same("tls_server_config: {PAIR, cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256]}"),
    same("tls_server_config: {PAIR, cipher_suites: [TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305]}"),
    same("tls_server_config: {PAIR, curve_preferences: [X25519MLKEM768]}"),
    same("tls_server_config: {PAIR, min_version: ''}"),
    same("- a"),
    same("web: {}"),
    same("rate_limit:\n\tburst: 1"),
];

/// Every key: its default, what the toolkit does otherwise, and a test of what it does here.
const KEYS: &[(&str, &str, &str, &str)] = &[
    (
        "tls_server_config.cert",
        "",
        "",
        "every_verdict_is_that_of_promtool_or_says_why_not",
    ),
    (
        "tls_server_config.cert_file",
        "",
        "Certificates of X.509 version 1 are accepted.",
        "certificates_and_keys_that_cannot_be_used_are_reported",
    ),
    (
        "tls_server_config.key",
        "",
        "",
        "every_verdict_is_that_of_promtool_or_says_why_not",
    ),
    (
        "tls_server_config.key_file",
        "",
        "ECDSA with P-521 and RSA of 1024 bits are accepted; a key that every user of the host can read causes no warning.",
        "a_key_that_every_user_can_read_causes_a_warning",
    ),
    (
        "tls_server_config.client_ca",
        "",
        "",
        "every_verdict_is_that_of_promtool_or_says_why_not",
    ),
    (
        "tls_server_config.client_ca_file",
        "",
        "A file without a certificate is accepted.",
        "a_certificate_that_is_a_configured_authority_itself_is_accepted_while_valid",
    ),
    (
        "tls_server_config.client_auth_type",
        "`NoClientCert`",
        "Without `client_ca_file`, clients are verified against the authorities of the system.",
        "every_type_of_client_authentication_accepts_what_it_says",
    ),
    (
        "tls_server_config.client_allowed_sans",
        "not checked",
        "A client without a certificate ends the connection by a crash in the code of the server; here it is refused.",
        "where_names_are_required_a_certificate_is_required_too",
    ),
    (
        "tls_server_config.min_version",
        "`TLS12`",
        "`TLS10` and `TLS11` are spoken; here they are read as `TLS12`, with a warning.",
        "only_the_configured_versions_suites_and_curves_are_spoken",
    ),
    (
        "tls_server_config.max_version",
        "`TLS13`",
        "`TLS10` and `TLS11` are spoken.",
        "only_the_configured_versions_suites_and_curves_are_spoken",
    ),
    (
        "tls_server_config.cipher_suites",
        "all",
        "The four suites with CBC are offered; here they are left out, with a warning.",
        "only_the_configured_versions_suites_and_curves_are_spoken",
    ),
    (
        "tls_server_config.prefer_server_cipher_suites",
        "`true`",
        "",
        "every_key_is_read",
    ),
    (
        "tls_server_config.curve_preferences",
        "all three",
        "`CurveP521` is offered; here it is left out, with a warning. Without the key, X25519MLKEM768 is offered first.",
        "only_the_configured_versions_suites_and_curves_are_spoken",
    ),
    (
        "http_server_config.http2",
        "`true`",
        "HTTP/2 is spoken over TLS.",
        "http_1_1_is_offered_and_http_2_is_not",
    ),
    (
        "http_server_config.headers",
        "none",
        "",
        "every_key_is_read",
    ),
    (
        "basic_auth_users",
        "none",
        "Hashes with the prefixes `$2$` and `$1$` are accepted.",
        "only_the_right_password_of_a_user_is_accepted_again_and_again",
    ),
    (
        "rate_limit.interval",
        "no limit",
        "",
        "a_bucket_is_full_at_the_start_and_gains_a_token_per_interval",
    ),
    (
        "rate_limit.burst",
        "`0`",
        "",
        "a_bucket_for_no_tokens_refuses_everything",
    ),
];

/// A directory with what the cases name.
struct Directory(TempDir, [(&'static str, String); 2]);

impl Directory {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        write("server.crt", &certificate.pem());
        write("server.key", &key.serialize_pem());
        write("other.key", &KeyPair::generate().unwrap().serialize_pem());
        write("empty", "");
        // JSON is YAML.
        let inline = |text: String| serde_json::to_string(&text).unwrap();
        let inline = [
            ("INLINE_CERT", inline(certificate.pem())),
            ("INLINE_KEY", inline(key.serialize_pem())),
        ];
        Self(directory, inline)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes the file of a case, and returns what promtool and what we say of it.
    fn verdicts(&self, case: &Case) -> (Result<(), String>, Result<(), String>) {
        let mut text = case.text.to_owned();
        for (name, value) in ABBREVIATIONS {
            text = text.replace(name, value);
        }
        for (name, value) in &self.1 {
            text = text.replace(name, value);
        }
        let file = self.path().join("web.yml");
        std::fs::write(&file, text).unwrap();
        let mut promtool = Command::new(newer("promtool"));
        let output = promtool.args(["check", "web-config"]).arg(&file).output();
        let output = output.unwrap();
        let theirs = if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let ours = web::load(&file).map(drop);
        (theirs, ours.map_err(|error| error.to_string()))
    }
}

#[test]
fn every_verdict_is_that_of_promtool_or_says_why_not() {
    let directory = Directory::new();
    let mut faults = Vec::new();
    for case in CASES {
        let (theirs, ours) = directory.verdicts(case);
        if (theirs.is_ok() == ours.is_ok()) == case.difference.is_some() {
            let expected = case.difference.unwrap_or("the same");
            faults.push(format!("{}: {expected}: {theirs:?} {ours:?}", case.text));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_document_of_the_web_configuration_describes_every_key_and_difference() {
    let parts = [("keys", keys()), ("differences", differences())];
    let text = with_parts("docs/web.md", &parts);
    assert_fresh("docs/web.md", &text);
}

/// Returns the keys of a raw struct and their meanings.
fn fields(name: &str) -> Vec<(String, String, Type)> {
    let items = source::file("src/config/web/raw.rs").items.into_iter();
    let mut structs = items.flat_map(|item| match item {
        Item::Macro(mappings) if mappings.mac.path.is_ident("mappings") => {
            mappings.mac.parse_body::<syn::File>().unwrap().items
        }
        item => vec![item],
    });
    let raw = structs.find_map(|item| match item {
        Item::Struct(raw) if raw.ident == name => Some(raw),
        _ => None,
    });
    let fields = raw.unwrap().fields.into_iter();
    let fields = fields.map(|field| {
        let name = field.ident.unwrap().to_string();
        (name, source::doc(&field.attrs), field.ty)
    });
    fields.collect()
}

fn keys() -> String {
    let mut meanings = Vec::new();
    for (section, meaning, _) in fields("RawWeb") {
        let raw = match section.as_str() {
            "tls_server_config" => "RawTls",
            "http_server_config" => "RawHttp",
            "rate_limit" => "RawRateLimit",
            _ => {
                meanings.push((section, meaning));
                continue;
            }
        };
        let keys = fields(raw).into_iter();
        meanings.extend(keys.map(|(key, meaning, _)| (format!("{section}.{key}"), meaning)));
    }
    let described: Vec<_> = KEYS.iter().map(|(key, ..)| (*key).to_owned()).collect();
    let named: Vec<_> = meanings.iter().map(|(key, _)| key.clone()).collect();
    assert_eq!(described, named);
    let sources = [
        "src/config/web/validate.rs",
        "src/web/auth.rs",
        "src/web/tls.rs",
        "tests/exporter/web_config.rs",
    ];
    let tests: String = sources.map(source::text).concat();
    let mut table =
        "| key | default | meaning | the toolkit differs | test |\n|---|---|---|---|---|\n"
            .to_owned();
    for ((key, default, difference, test), (_, meaning)) in KEYS.iter().zip(meanings) {
        assert!(tests.contains(&format!("fn {test}()")), "no test {test}");
        assert!(!meaning.is_empty(), "{key} has no comment");
        writeln!(
            table,
            "| `{key}` | {default} | {meaning} | {difference} | `{test}` |"
        )
        .unwrap();
    }
    table
}

/// Returns the cases that differ, none of which is valid here and invalid there.
fn differences() -> String {
    let directory = Directory::new();
    let mut table = "| file | toolkit | here | why |\n|---|---|---|---|\n".to_owned();
    let mut texts = BTreeSet::new();
    for case in CASES {
        assert!(texts.insert(case.text), "twice: {}", case.text);
        let Some(why) = case.difference else {
            continue;
        };
        let (theirs, ours) = directory.verdicts(case);
        let verdict =
            |result: &Result<(), String>| if result.is_ok() { "valid" } else { "invalid" };
        let (theirs, ours) = (verdict(&theirs), verdict(&ours));
        assert_eq!(
            ours,
            "invalid",
            "{text}: stricter is safe",
            text = case.text
        );
        let text = case.text.replace("PAIR", "...");
        let text = text.replace('\n', "` `");
        writeln!(table, "| `{text}` | {theirs} | {ours} | {why} |").unwrap();
    }
    table
}
