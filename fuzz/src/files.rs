//! What operators write: the configuration, the web configuration, and files that are imported.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use wxapp_portrait_exporter::archive::Record;
use wxapp_portrait_exporter::calendar;
use wxapp_portrait_exporter::config::{self, Config, web};
use wxapp_portrait_exporter::export::Writer;
use wxapp_portrait_exporter::import::{self, ImportDefaults, Item};
use wxapp_portrait_exporter::portrait::Dimension;
use wxapp_portrait_exporter::web::check_web_config;
use wxapp_portrait_exporter::wechat::{decode, install_crypto_provider};

/// Secrets beside the configuration, by the name of their file; not one of them is ever shown.
const SECRETS: [(&str, &str); 4] = [
    ("shop", "5ecret0fthefile5ecret0fthefile00"),
    ("token", "80_the-token-of-the-file"),
    ("headers", "Authorization: Bearer of-the-headers"),
    (
        "database",
        "postgres://user:of-the-database@db.example/portraits",
    ),
];

/// The secret in the variable `A`.
const OF_VARIABLE: &str = "5ecret0fthevariable5ecret0ftheva";

/// The URL in the variable `URL`.
const URL_OF_VARIABLE: &str = "postgres://user:of-the-url@db.example/portraits";

/// What of them is secret.
const PARTS: [&str; 6] = [
    SECRETS[0].1,
    SECRETS[1].1,
    "of-the-headers",
    "of-the-database",
    OF_VARIABLE,
    "of-the-url",
];

/// An AppSecret that may be in the file itself by mistake.
const PLANTED: &str = "0123456789abcdef0123456789abcdef";

/// The end of the hash in the corpus of the web configuration.
const HASH: &str = "lpSVdE6WxYGjUMHjCFeNRueCbyD";

/// A directory with files that a configuration can name.
static DIRECTORY: LazyLock<TempDir> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    for (name, secret) in SECRETS {
        fs::write(directory.path().join(name), secret).unwrap();
    }
    let more = "- {appid: wx7777777777777777, secret_file: shop}\n";
    fs::write(directory.path().join("more.yml"), more).unwrap();
    directory
});

/// A directory with a certificate and its key, and that key.
static CERTIFICATES: LazyLock<(TempDir, String)> = LazyLock::new(|| {
    install_crypto_provider();
    let directory = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap().pem();
    let key = key.serialize_pem();
    for (name, text) in [("cert.pem", &certificate), ("key.pem", &key)] {
        fs::write(directory.path().join(name), text).unwrap();
    }
    let key = key.lines().nth(1).unwrap().to_owned();
    (directory, key)
});

/// Whether the planted secret is only a part of a value, such as the name of a file.
fn is_part_of_a_value(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let is_end = |c: Option<char>| c.is_none_or(|c| c.is_whitespace() || ",:[]{}\"'#".contains(c));
    text.match_indices(PLANTED).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + PLANTED.len()..].chars().next();
        !is_end(before) || !is_end(after)
    })
}

/// The configuration: neither a problem nor what `/config` shows has a secret, and what it shows reads as
/// the same configuration.
pub fn configuration(text: &[u8]) {
    let path = DIRECTORY.path().join("wxapp-portrait.yml");
    let load = |text: &[u8]| -> Result<Config, config::Error> {
        fs::write(&path, text).unwrap();
        config::load(&path, |name| match name {
            "A" => Some(OF_VARIABLE.to_owned()),
            "URL" => Some(URL_OF_VARIABLE.to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        })
    };
    let is_public = |text: &str| !PARTS.iter().any(|secret| text.contains(secret));
    let has_secret = !is_public(&String::from_utf8_lossy(text));
    let is_part = is_part_of_a_value(text);
    let config = match load(text) {
        Ok(config) => config,
        Err(error) => {
            let problems = error.to_string();
            assert!(has_secret || is_public(&problems), "{problems}");
            assert!(is_part || !problems.contains(PLANTED), "{problems}");
            assert!(!problems.is_empty());
            return;
        }
    };
    let shown = config.redacted();
    let problems = [&config.warnings[..], &config.app_problems]
        .concat()
        .join("\n");
    for text in [&shown, &problems, &format!("{config:?}")] {
        assert!(has_secret || is_public(text), "{text}");
    }
    assert!(is_part || !problems.contains(PLANTED), "{problems}");
    let again = load(shown.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{shown}"));
    assert_eq!(again.redacted(), shown);
    let apps = |config: &Config| {
        config
            .apps
            .iter()
            .map(|app| app.appid.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(apps(&again), apps(&config));
}

/// The web configuration: what is accepted can be served, and no problem has a key or a hash.
pub fn web_configuration(text: &[u8]) {
    let (directory, key) = &*CERTIFICATES;
    let path = directory.path().join("web.yml");
    fs::write(&path, text).unwrap();
    // Names of files are repeated.
    let has_files = String::from_utf8_lossy(text).contains("_file");
    let is_public = |text: &str| (has_files || !text.contains(HASH)) && !text.contains(key);
    match web::load(&path) {
        Ok(config) => {
            assert_eq!(web::is_tls(&path).unwrap(), config.tls.is_some());
            let debug = format!("{config:?}");
            assert!(config.files.contains(&path) && is_public(&debug), "{debug}");
            assert!(
                config
                    .rate_limit
                    .is_none_or(|limit| !limit.interval.is_zero())
            );
            if let Err(error) = check_web_config(&path) {
                assert!(config.tls.is_some(), "{error}");
            }
        }
        Err(error) => {
            let problems = error.to_string();
            assert!(!problems.is_empty() && is_public(&problems), "{problems}");
            assert!(check_web_config(&path).is_err());
        }
    }
}

/// A file that is imported: every day of it can be read from the archive, and is the same day if it is
/// exported and imported again.
pub fn import(file: &[u8]) {
    let now: DateTime<Utc> = "2026-11-22T01:00:00Z".parse().unwrap();
    let given = ImportDefaults {
        appid: Some("wx0123456789abcdef".parse().unwrap()),
        covers: None,
    };
    let days = days_of(file, &given, now);
    days_of(file, &ImportDefaults::default(), now);
    let mut writer = Writer::json_lines(Vec::new());
    for record in &days {
        let portrait =
            decode::archived(&record.answer, record.key.window, record.key.reference_date);
        writer
            .add(record, portrait.unwrap(), &Dimension::ALL)
            .unwrap();
    }
    // A file may have a day twice, of which an archive has the last one.
    let distinct = |days: Vec<Record>| -> BTreeMap<_, _> {
        days.into_iter().map(|day| (day.key.clone(), day)).collect()
    };
    let before = days.len();
    let days = distinct(days);
    if days.len() < before {
        return;
    }
    let exported = writer.finish().unwrap();
    let again = distinct(days_of(&exported, &ImportDefaults::default(), now));
    assert_eq!(
        again.keys().collect::<Vec<_>>(),
        days.keys().collect::<Vec<_>>()
    );
    for (one, other) in days.values().zip(again.values()) {
        assert_eq!(figures(one), figures(other));
        let state = |record: &Record| {
            let state = record.state;
            (state.first_answered_at, state.answered_at, state.revisions)
        };
        assert_eq!(state(one), state(other));
    }
}

/// Returns the days of a file that are imported.
fn days_of(file: &[u8], given: &ImportDefaults, now: DateTime<Utc>) -> Vec<Record> {
    let mut days = Vec::new();
    // That a file is empty is noticed after its last line.
    let lines = file.split(|byte| *byte == b'\n').count() + 1;
    import::read(file, given, now, |line, item| {
        assert!((1..=lines).contains(&line), "line {line} of {lines}");
        match item {
            Ok(Item::Day(record)) => days.push(record),
            Ok(Item::NoPortrait(problem)) | Err(problem) => assert!(!problem.is_empty()),
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    for Record { key, state, .. } in &days {
        assert!(key.reference_date <= calendar::yesterday(now), "{key:?}");
        assert!(
            key.reference_date.to_string().as_str() >= "2017-01-09",
            "{key:?}"
        );
        assert!(state.first_answered_at <= state.answered_at && state.answered_at <= now);
    }
    days
}

/// Returns all figures of a day.
fn figures(record: &Record) -> Vec<String> {
    let key = &record.key;
    let portrait = decode::archived(&record.answer, key.window, key.reference_date).unwrap();
    let rows = portrait.rows(&Dimension::ALL);
    rows.map(|row| format!("{row:?}")).collect()
}
