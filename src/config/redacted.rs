//! The settings that are in use, as YAML without secrets: what `/config` shows.
//!
//! The keys are those of the configuration file, and the loader reads them back. Every default is filled
//! in, and every app has what holds for it, whichever file it is from. URLs are shown up to their path, as
//! userinfo and query may be secret, and of a command only its program.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};
use serde_saphyr::{FlowMap, FlowSeq};
use url::{Position, Url};

use super::access::{AccessMethod, HttpEndpoint, TokenAccess, TokenEndpoint, TokenSource};
use super::settings::{App, Archive, Config, UrlSource};
use super::validate::in_one_unit;
use crate::calendar::Holidays;
use crate::portrait::{Dimension, Window};

/// What is shown for arguments of a command.
const SECRET: &str = "<secret>";

impl Config {
    /// Returns these settings as YAML without secrets; file names are relative to the main file where they are below
    /// its directory.
    #[must_use]
    pub fn redacted(&self) -> String {
        let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
        serde_saphyr::to_string_with_options(&File::new(self), options)
            .unwrap_or_else(|error| format!("# cannot be shown: {error}\n"))
    }
}

/// The keys of the main file.
#[derive(Serialize)]
struct File<'a> {
    wechat: WeChatKeys,
    poll: FlowMap<PollKeys>,
    archive: FlowMap<BTreeMap<&'static str, String>>,
    stale_after: String,
    apps: Vec<AppKeys<'a>>,
}

#[derive(Serialize)]
struct WeChatKeys {
    base_url: OneOrMore,
    timeout: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<String>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(Serialize)]
struct PollKeys {
    interval: String,
    concurrency: usize,
}

#[derive(Serialize)]
struct AppKeys<'a> {
    appid: &'a str,
    name: &'a str,
    labels: FlowMap<&'a BTreeMap<String, String>>,
    #[serde(flatten)]
    access: BTreeMap<&'static str, Value>,
    #[serde(flatten)]
    figures: FigureKeys<'a>,
}

/// The keys of an app that the top of the file may have as well.
#[derive(Serialize)]
struct FigureKeys<'a> {
    windows: FlowSeq<&'a [Window]>,
    dimensions: FlowSeq<&'a [Dimension]>,
    top_names: FlowMap<&'a BTreeMap<Dimension, usize>>,
    past: PastKeys<'a>,
    swing: FlowMap<SwingKeys>,
    holidays: HolidayKeys,
}

#[derive(Serialize)]
struct PastKeys<'a> {
    dimensions: FlowSeq<&'a [Dimension]>,
    days_ago: FlowSeq<&'a [u32]>,
}

#[derive(Serialize)]
struct SwingKeys {
    threshold_ratio: f64,
    min_users: u64,
}

#[derive(Serialize)]
struct HolidayKeys {
    calendar: &'static str,
    files: Vec<String>,
}

impl<'a> File<'a> {
    fn new(config: &'a Config) -> Self {
        let directory = &*config.directory;
        let wechat = &config.wechat;
        // The loader adds a slash where there is none.
        let base_url = |base_url| url(base_url).trim_end_matches('/').to_owned();
        let mut base_urls: Vec<_> = wechat.base_urls.iter().map(base_url).collect();
        let ca_file = wechat.ca_file.as_ref();
        Self {
            wechat: WeChatKeys {
                base_url: match base_urls.len() {
                    1 => OneOrMore::One(base_urls.remove(0)),
                    _ => OneOrMore::More(base_urls),
                },
                timeout: in_one_unit(wechat.timeout),
                proxy_url: wechat.proxy_url.as_ref().map(|proxy| url(proxy.expose())),
                ca_file: ca_file.map(|file| relative(file, directory)),
            },
            poll: FlowMap(PollKeys {
                interval: in_one_unit(config.poll.interval),
                concurrency: config.poll.concurrency,
            }),
            archive: FlowMap(archive_keys(&config.archive, directory)),
            stale_after: in_one_unit(config.stale_after),
            apps: config
                .apps
                .iter()
                .map(|app| AppKeys::new(app, directory))
                .collect(),
        }
    }
}

impl<'a> AppKeys<'a> {
    fn new(app: &'a App, directory: &Path) -> Self {
        let files = app.holiday_files.iter();
        Self {
            appid: app.appid.as_str(),
            name: &app.name,
            labels: FlowMap(&app.labels),
            access: access_keys(&app.access, directory),
            figures: FigureKeys {
                windows: FlowSeq(&app.windows),
                dimensions: FlowSeq(&app.dimensions),
                top_names: FlowMap(&app.top_names),
                past: PastKeys {
                    dimensions: FlowSeq(&app.past.dimensions),
                    days_ago: FlowSeq(&app.past.days_ago),
                },
                swing: FlowMap(SwingKeys {
                    threshold_ratio: app.swing.threshold_ratio,
                    min_users: app.swing.min_users,
                }),
                holidays: HolidayKeys {
                    calendar: if app.holidays == Holidays::none() {
                        "none"
                    } else {
                        "cn"
                    },
                    files: files.map(|file| relative(file, directory)).collect(),
                },
            },
        }
    }
}

fn archive_keys(archive: &Archive, directory: &Path) -> BTreeMap<&'static str, String> {
    let mut keys = BTreeMap::from([("retention", in_one_unit(archive.retention))]);
    let source = archive.postgres.as_ref().map(|postgres| &postgres.source);
    keys.extend(source.map(|source| match source {
        UrlSource::File(file) => ("postgres_url_file", relative(file, directory)),
        UrlSource::Variable(name) => ("postgres_url_env", name.clone()),
    }));
    keys
}

fn access_keys(access: &AccessMethod, directory: &Path) -> BTreeMap<&'static str, Value> {
    let mut keys = BTreeMap::new();
    let path = |file: &Path| json!(relative(file, directory));
    let endpoint = |[of_url, of_file]: [&'static str; 2], endpoint: &HttpEndpoint| {
        let file = endpoint.headers_file.as_ref();
        let url = (of_url, json!(url(endpoint.url.expose())));
        [Some(url), file.map(|file| (of_file, path(file)))]
    };
    let TokenAccess {
        source,
        parameter,
        function,
    } = match access {
        AccessMethod::CloudHosting => return [("access", json!("cloud_hosting"))].into(),
        AccessMethod::PortraitUrl(url) => {
            let keys = endpoint(["portrait_url", "portrait_url_headers_file"], url);
            return keys.into_iter().flatten().collect();
        }
        AccessMethod::Token(access) => access,
    };
    match source {
        TokenSource::Secret(secret, endpoint) => {
            keys.extend(secret.file.as_ref().map(|file| ("secret_file", path(file))));
            let variable = secret.variable.as_ref();
            keys.extend(variable.map(|variable| ("secret_env", json!(variable))));
            keys.insert(
                "token_endpoint",
                match endpoint {
                    TokenEndpoint::Stable => json!("stable_token"),
                    TokenEndpoint::Legacy => json!("token"),
                },
            );
        }
        TokenSource::File(file) => {
            keys.insert("token_file", path(file));
        }
        TokenSource::Url(url) => {
            let of_url = endpoint(["token_url", "token_url_headers_file"], url);
            keys.extend(of_url.into_iter().flatten());
        }
        TokenSource::Command(words) => {
            let program = words
                .first()
                .map(|program| self::program(program, directory));
            let arguments = (words.len() > 1).then(|| SECRET.to_owned());
            let words: Vec<_> = program.into_iter().chain(arguments).collect();
            keys.insert("token_command", json!(words));
        }
    }
    if !matches!(source, TokenSource::Secret(..)) {
        keys.insert("token_parameter", json!(parameter));
    }
    if let Some(function) = function {
        let function = json!({"env": function.env, "name": function.name});
        keys.insert("cloud_function", function);
    }
    keys
}

/// Returns a URL up to its path, without userinfo.
fn url(url: &Url) -> String {
    let shown = &url[Position::BeforeHost..Position::AfterPath];
    format!("{}://{}", url.scheme(), shown)
}

/// Returns a path as the main file, in this directory, would have it.
fn relative(path: &Path, directory: &Path) -> String {
    let shown = path.strip_prefix(directory).unwrap_or(path);
    shown.to_string_lossy().into_owned()
}

/// Returns a program as the main file would have it: without a slash it is one in `PATH`.
fn program(program: &str, directory: &Path) -> String {
    let shown = relative(Path::new(program), directory);
    if program.contains('/') && !shown.contains('/') {
        format!("./{shown}")
    } else {
        shown
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write as _;

    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair};

    use super::super::tests::{Directory, MAIN};
    use super::*;

    /// Every key but those of access.
    const SETTINGS: &str = "
wechat: {base_url: [https://one.example/wx, http://127.0.0.1:8080], timeout: 2500ms, ca_file: ./certificates/ca.pem}
poll: {interval: 1h 30m, concurrency: 3}
windows: [7d, 1d]
dimensions: [platform, city]
top_names: {city: 100}
past: {dimensions: [city], days_ago: []}
swing: {threshold_ratio: 0.2, min_users: 20}
holidays: {files: ['holidays/*.json']}
archive: {retention: 2years, postgres_url_file: secrets/database}
stale_after: 5d
apps_files: [apps.d/*.yml]
";

    /// Apps of every access without anything to redact.
    const APPS: &str = "
apps:
  - {appid: wx0000000000000000, name: \"'商城': #1\", secret_file: secrets/shop, token_endpoint: token, labels: {team: 零售, tier: '01', On: 'no', _a: '\"b\": #\\'}}
  - {appid: wx1111111111111111, name: '0123', secret_env: A, cloud_function: {env: prod-1a2b, name: 'null'}}
  - {appid: wx2222222222222222, token_file: /gone/token, token_parameter: cloudbase_access_token}
  - {appid: wx3333333333333333, token_command: [./wx-token], holidays: {calendar: none}}
  - {appid: wx4444444444444444, token_command: [wx-token], windows: [30d]}
  - {appid: wx5555555555555555, access: cloud_hosting, top_names: {}}
  - {appid: wx6666666666666666, token_url: 'https://tokens.example:8443/a%20b', token_url_headers_file: headers}
";

    /// A file of apps, with paths of its own.
    const OTHERS: &str = "
- {appid: wx7777777777777777, secret_file: ../secrets/shop}
- {appid: wx8888888888888888, portrait_url: 'https://[::1]/p', portrait_url_headers_file: own, holidays: {files: []}}
- {appid: wx9999999999999999, secret_file: own, holidays: {files: [2099.json]}, past: {days_ago: [3]}}
";

    fn directory() -> Directory {
        let year =
            r#"{"year": 2099, "days": [{"name": "元旦", "date": "2099-01-01", "isOffDay": true}]}"#;
        let key = KeyPair::generate().unwrap();
        let ca = CertificateParams::default().self_signed(&key).unwrap();
        Directory::new(&[
            (MAIN, &format!("{SETTINGS}{APPS}")),
            ("certificates/ca.pem", &ca.pem()),
            ("secrets/shop", "of-the-file"),
            (
                "secrets/database",
                "postgres://PLANTED:PLANTED@h/of-the-file?options=PLANTED\n",
            ),
            ("headers", "Authorization: of-the-headers"),
            ("holidays/2099.json", year),
            ("apps.d/2099.json", year),
            ("apps.d/own", "of-the-file"),
            ("apps.d/x.yml", OTHERS),
        ])
    }

    #[track_caller]
    fn assert_same(one: &Config, other: &Config) {
        assert_eq!(one.wechat, other.wechat);
        assert_eq!(one.poll, other.poll);
        assert_eq!(one.archive, other.archive);
        assert_eq!(one.stale_after, other.stale_after);
        assert_eq!(one.apps, other.apps);
        assert_eq!(one.secret_variables, other.secret_variables);
    }

    #[test]
    fn what_is_shown_is_read_back_as_the_same_configuration() {
        let directory = directory();
        let config = directory.load().unwrap();
        assert_eq!(config.apps.len(), 10);
        let shown = config.redacted();
        assert_eq!(
            directory.without_directory(&shown),
            shown,
            "paths are relative"
        );
        directory.write(MAIN, &shown);
        let again = directory.load().unwrap();
        assert_same(&again, &config);
        assert_eq!(again.redacted(), shown);
    }

    #[test]
    fn every_documented_key_is_shown() {
        let config = directory().load().unwrap();
        let mut shown = config.redacted();
        let proxy = SETTINGS.replace("timeout", "proxy_url: 'socks5://proxy:1080', timeout");
        let main = format!("{proxy}{APPS}");
        let with_proxy = directory();
        with_proxy.write(MAIN, main);
        shown += &with_proxy.load().unwrap().redacted();
        with_proxy.write(MAIN, format!("archive: {{postgres_url_env: URL}}\n{APPS}"));
        shown += &with_proxy.load().unwrap().redacted();
        let documented = include_str!("../../docs/configuration.md").lines();
        // Rows of the tables of keys; those of flags begin with a dash.
        let keys = documented.filter_map(|line| {
            let (key, _) = line.strip_prefix("| `")?.split_once('`')?;
            let is_key = key.starts_with(|first: char| first.is_ascii_lowercase());
            is_key.then(|| key.rsplit('.').next()).flatten()
        });
        let missing = keys.filter(|key| !shown.contains(&format!("{key}:")));
        // All apps are listed, whichever file they are from.
        assert_eq!(missing.collect::<BTreeSet<_>>(), ["apps_files"].into());
    }

    #[test]
    fn no_secret_is_shown() {
        let directory = directory();
        directory.write(
            MAIN,
            "
archive: {postgres_url_file: secrets/database}
wechat: {proxy_url: 'http://PLANTED:PLANTED@proxy:3128/?PLANTED#PLANTED'}
apps:
  - {appid: wx0000000000000000, secret_file: secrets/shop}
  - {appid: wx1111111111111111, secret_env: A}
  - {appid: wx2222222222222222, token_command: [/bin/echo, PLANTED, --key=PLANTED]}
  - {appid: wx3333333333333333, token_url: 'https://PLANTED@tokens.example/t?key=PLANTED', token_url_headers_file: headers}
  - {appid: wx4444444444444444, portrait_url: 'https://:PLANTED@example.com?a=PLANTED#PLANTED'}
",
        );
        let config = directory.load().unwrap();
        let shown = config.redacted();
        for secret in [
            "PLANTED",
            "of-the-file",
            "of-the-headers",
            super::super::tests::SECRET,
        ] {
            assert!(!shown.contains(secret), "{secret}: {shown}");
        }
        for kept in [
            "postgres_url_file: secrets/database",
            "proxy_url: http://proxy:3128/\n",
            "secret_file: secrets/shop\n",
            "secret_env: A\n",
            "- <secret>\n",
            "token_url: https://tokens.example/t\n",
            "token_url_headers_file: headers\n",
            "portrait_url: https://example.com/\n",
        ] {
            assert!(shown.contains(kept), "{kept}: {shown}");
        }
    }

    proptest! {
        #[test]
        fn names_and_labels_of_any_characters_are_read_back(name in "\\PC{1,40}") {
            prop_assume!(!name.trim().is_empty());
            let quoted = serde_json::to_string(&name).unwrap();
            let text = format!("apps: [{{appid: wx0000000000000000, secret_env: A, name: {quoted}, labels: {{team: {quoted}}}}}]");
            let directory = Directory::new(&[(MAIN, &text)]);
            let config = directory.load().unwrap();
            directory.write(MAIN, config.redacted());
            assert_same(&directory.load().unwrap(), &config);
        }
    }

    #[test]
    fn a_thousand_apps_are_read_back() {
        let mut text = "apps:\n".to_owned();
        for number in 0..1000 {
            let _ = writeln!(text, "- {{appid: wx{number:016x}, secret_env: A}}");
        }
        let directory = Directory::new(&[(MAIN, &text)]);
        let config = directory.load().unwrap();
        directory.write(MAIN, config.redacted());
        assert_same(&directory.load().unwrap(), &config);
    }
}
