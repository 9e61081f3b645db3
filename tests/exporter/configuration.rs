//! Checks that `docs/configuration.md` describes every key and flag as the program accepts them.
//!
//! Keys and their meanings are read from the raw structs of `src/config/raw.rs`; what a key takes, from
//! the program's message about an invalid value; defaults, from the settings of a file that sets nothing.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use clap::{Arg, Command, CommandFactory as _};
use serde_json::{Value, json};
use syn::{GenericArgument, Item, PathArguments, Type};
use tempfile::TempDir;
use wxapp_portrait_exporter::calendar::Holidays;
use wxapp_portrait_exporter::cli::Cli;
use wxapp_portrait_exporter::config::access::{AccessMethod, TokenSource};
use wxapp_portrait_exporter::config::{self, Config};

use crate::harness::{APP, assert_fresh, program, with_parts};
use crate::source;

/// Refused by every key but those that take any text.
const WRONG: [&str; 2] = ["0s", "0 s"];

/// A value that is valid for the keys that go with the key in question.
const ANY: &str = "http://a";

#[test]
fn the_document_of_the_configuration_describes_every_key_and_flag() {
    let text = with_parts(
        "docs/configuration.md",
        &[
            ("keys at the top", keys_at_the_top()),
            ("keys of an app", keys_of_an_app()),
            ("flags", flags()),
        ],
    );
    assert_fresh("docs/configuration.md", &text);
}

#[test]
fn the_sample_configuration_is_valid_and_has_every_key_with_its_default() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    for name in ["secrets", "apps.d"] {
        std::fs::create_dir(path(name)).unwrap();
    }
    std::fs::write(path("secrets/shop"), "a-secret").unwrap();
    std::fs::write(path("apps.d/none.yml"), "[]").unwrap();
    let ca = rcgen::generate_simple_self_signed(["wechat.example".to_owned()]).unwrap();
    std::fs::write(path("ca.pem"), ca.cert.pem()).unwrap();

    let url = "postgres://wxapp:a-secret@localhost/portraits";
    std::fs::write(path("secrets/postgres-url"), url).unwrap();

    let document = source::text("docs/configuration.md");
    let (_, sample) = document.split_once("```yaml\n").unwrap();
    let (sample, _) = sample.split_once("```").unwrap();
    let commented = regex::Regex::new(r"(?m)^( *)# (\w+: )").unwrap();
    let whole = commented.replace_all(sample, "$1$2");
    for text in [sample, &whole] {
        std::fs::write(path("wxapp-portrait.yml"), text).unwrap();
        let mut check = program();
        check.arg("--config.check").current_dir(directory.path());
        let output = check.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    let whole: Value = serde_saphyr::from_str(&whole).unwrap();
    for key in keys("RawFile") {
        let pointer = format!("/{}", key.path.replace('.', "/"));
        // Its alternative is there.
        let is_there = whole.pointer(&pointer).is_some() || key.path == "archive.postgres_url_env";
        assert!(is_there, "{} is missing", key.path);
    }
    let mut defaults: Value = serde_saphyr::from_str(sample).unwrap();
    defaults["apps"] = json!([app("secret_env")]);
    let trial = Trial::new();
    assert_eq!(trial.settings(&defaults), trial.settings(&minimal()));
}

/// One key of the configuration.
struct Key {
    /// With its parents, as in messages.
    path: String,
    shape: Shape,
    is_required: bool,
    meaning: String,
}

#[derive(Clone, PartialEq)]
enum Shape {
    One,
    List,
    OneOrList,
    ByName,
    /// Further keys, in this struct.
    Keys(String),
    /// The list of apps, which has a table of its own.
    Apps,
}

/// Returns the keys that a raw struct accepts, and those under them.
fn keys(name: &str) -> Vec<Key> {
    let source = source::file("src/config/raw.rs");
    let mut items = source.items.into_iter().flat_map(|item| match item {
        Item::Macro(mappings) if mappings.mac.path.is_ident("mappings") => {
            mappings.mac.parse_body::<syn::File>().unwrap().items
        }
        item => vec![item],
    });
    let raw = items.find_map(|item| match item {
        Item::Struct(raw) if raw.ident == name => Some(raw),
        _ => None,
    });
    let mut keys = Vec::new();
    for field in raw.unwrap().fields {
        let path = field.ident.unwrap().to_string();
        let meaning = source::doc(&field.attrs);
        match shape(&field.ty) {
            Shape::Keys(raw) => keys.extend(self::keys(&raw).into_iter().map(|key| Key {
                path: format!("{path}.{}", key.path),
                ..key
            })),
            Shape::Apps => {}
            shape => keys.push(Key {
                path,
                shape,
                is_required: generic(&field.ty).0 != "Option",
                meaning,
            }),
        }
    }
    keys
}

fn shape(of: &Type) -> Shape {
    match generic(of) {
        (name, _) if name == "Text" => Shape::One,
        (name, _) if name == "Texts" => Shape::List,
        (name, _) if name == "OneOrMore" => Shape::OneOrList,
        (name, _) if name == "BTreeMap" => Shape::ByName,
        (name, Some(of)) if ["Option", "Located", "Partial"].contains(&name.as_str()) => shape(of),
        (name, Some(of)) if name == "Vec" => match shape(of) {
            Shape::One => Shape::List,
            Shape::Keys(raw) if raw == "RawApp" => Shape::Apps,
            _ => panic!("a list of something new"),
        },
        (name, None) if name.starts_with("Raw") => Shape::Keys(name),
        (name, _) => panic!("what is a {name}?"),
    }
}

/// Returns the name of a type, and its last generic argument.
fn generic(of: &Type) -> (String, Option<&Type>) {
    let Type::Path(path) = of else {
        panic!("no plain type");
    };
    let last = path.path.segments.last().unwrap();
    let inner = match &last.arguments {
        PathArguments::AngleBracketed(arguments) => arguments.args.last(),
        _ => None,
    };
    let inner = inner.map(|argument| match argument {
        GenericArgument::Type(inner) => inner,
        _ => panic!("no type in {}", last.ident),
    });
    (last.ident.to_string(), inner)
}

/// A directory for trying out configurations.
struct Trial(TempDir);

impl Trial {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn load(&self, configuration: &Value) -> Result<Config, config::Error> {
        let file = self.0.path().join("wxapp-portrait.yml");
        // JSON is YAML.
        std::fs::write(&file, configuration.to_string()).unwrap();
        config::load(&file, |_| Some("a-secret".to_owned()))
    }

    /// Returns everything that a valid configuration sets.
    fn settings(&self, configuration: &Value) -> String {
        format!("{:?}", self.load(configuration).unwrap())
    }

    /// Returns the problem of a key, if there is one.
    fn problem(&self, configuration: &Value, key: &str) -> Option<String> {
        let problems = self.load(configuration).err()?.to_string();
        let mut problems = problems.lines().filter_map(|line| line.split_once(": "));
        let found = problems.find_map(|(_, problem)| problem.strip_prefix(&format!("{key}: ")));
        found.map(str::to_owned)
    }
}

/// An app with an access.
fn app(way: &str) -> Value {
    json!({"appid": APP, way: ANY})
}

fn minimal() -> Value {
    json!({"apps": [app("secret_env")]})
}

fn set(object: &mut Value, path: &str, value: Value) {
    let mut place = object;
    for name in path.split('.') {
        place = &mut place[name];
    }
    *place = value;
}

impl Key {
    fn first(&self) -> &str {
        self.path.split('.').next().unwrap()
    }

    /// Returns a name under the key.
    fn name(&self) -> &'static str {
        if self.path == "labels" {
            "team"
        } else {
            "city"
        }
    }

    /// Returns a value in the form that the key requires.
    fn value(&self, text: &str) -> Value {
        match self.shape {
            Shape::One | Shape::OneOrList => json!(text),
            Shape::List => json!([text]),
            Shape::ByName => json!({self.name(): text}),
            Shape::Keys(_) | Shape::Apps => panic!("{} has no value of its own", self.path),
        }
    }

    /// Returns what the key takes, from the program's message about an invalid value.
    ///
    /// `with` sets the key and returns the configuration, and the path of the key in it.
    fn takes(&self, trial: &Trial, with: impl Fn(Value) -> (Value, String)) -> String {
        let each = if self.path.ends_with("_file") {
            // Some may be missing at first, and only that is reported.
            "the name of a file".to_owned()
        } else if self.path.ends_with("_env") {
            "the name of a variable".to_owned()
        } else {
            let problem = WRONG.iter().find_map(|wrong| {
                let (configuration, mut key) = with(self.value(wrong));
                if self.shape == Shape::ByName {
                    key = format!("{key}.{}", self.name());
                }
                trial.problem(&configuration, &key)
            });
            problem.map_or("text".to_owned(), |problem| expected(&problem))
        };
        match self.shape {
            Shape::List => format!("a list: {each}"),
            Shape::OneOrList => format!("{each}, or a list"),
            Shape::ByName if self.path == "labels" => format!("for each label {each}"),
            Shape::ByName => format!("for each dimension {each}"),
            _ => each,
        }
    }
}

/// Extracts from a message what is valid.
fn expected(problem: &str) -> String {
    let after = |words| problem.split_once(words).map(|(_, rest)| rest);
    if let Some(bounds) = after("is out of range: expected ") {
        format!("a duration, {bounds}")
    } else if let Some(url) = after("not a URL: expected one ") {
        format!("a URL {url}")
    } else if let Some(choice) = after("expected one of ") {
        choice.to_owned()
    } else if let Some(example) = after("expected one such as ") {
        format!("a word such as {example}")
    } else if let Some(right) = after("expected ").or_else(|| after("is not ")) {
        right.to_owned()
    } else if problem.starts_with("no such file: ") {
        "the name of a file".to_owned()
    } else {
        panic!("the message does not say what is valid: {problem}")
    }
}

fn keys_at_the_top() -> String {
    let trial = Trial::new();
    let settings = trial.settings(&minimal());
    let defaults = trial.load(&minimal()).unwrap();
    let of_apps: BTreeSet<_> = keys("RawApp").into_iter().map(|key| key.path).collect();
    let mut table =
        "| key | takes | default | for one app | meaning |\n|---|---|---|---|---|\n".to_owned();
    for key in keys("RawFile") {
        let path = &key.path;
        let with = |value: Value| {
            let mut configuration = minimal();
            set(&mut configuration, path, value);
            (configuration, path.clone())
        };
        let takes = key.takes(&trial, with);
        let default = default_of(path, &defaults);
        if !default.is_null() {
            let (configuration, _) = with(default.clone());
            assert_eq!(
                trial.settings(&configuration),
                settings,
                "the default of {path}"
            );
        }
        let for_one = if of_apps.contains(path) { "yes" } else { "" };
        let default = written(&default);
        assert!(!key.meaning.is_empty(), "{path} has no comment");
        let meaning = &key.meaning;
        writeln!(
            table,
            "| `{path}` | {takes} | {default} | {for_one} | {meaning} |"
        )
        .unwrap();
    }
    table
}

fn keys_of_an_app() -> String {
    let trial = Trial::new();
    let keys_at_the_top: BTreeSet<_> = keys("RawFile").into_iter().map(|key| key.path).collect();
    let all = keys("RawApp");
    let mut table =
        "| key | takes | default | goes with | meaning |\n|---|---|---|---|---|\n".to_owned();
    for key in all
        .iter()
        .filter(|key| !keys_at_the_top.contains(&key.path))
    {
        let path = &key.path;
        let of_app = |mut app: Value, value: Value| {
            let is_sibling = |other: &&Key| other.is_required && other.first() == key.first();
            for sibling in all.iter().filter(is_sibling) {
                set(&mut app, &sibling.path, sibling.value(ANY));
            }
            set(&mut app, path, value);
            (json!({"apps": [app]}), format!("apps[0].{path}"))
        };
        let place = format!("apps[0].{}", key.first());

        // Cloud hosting has no key that goes with it.
        let (alone, _) = of_app(
            json!({"appid": APP, "access": "cloud_hosting"}),
            key.value(WRONG[0]),
        );
        let goes_with = trial.problem(&alone, &place).and_then(|problem| {
            let ways = problem
                .strip_prefix("goes with ")?
                .strip_suffix(" only: remove it")?;
            Some(ways.to_owned())
        });
        let (lonely, _) = of_app(json!({"appid": APP}), key.value(ANY));
        let needs_way = trial.problem(&lonely, "apps[0]").is_some();
        let base = match &goes_with {
            Some(ways) => app(ways.split(", ").next().unwrap()),
            None if needs_way => app("secret_env"),
            None => json!({"appid": APP}),
        };
        let takes = key.takes(&trial, |value| of_app(base.clone(), value));
        let default = if key.is_required {
            "required".to_owned()
        } else if !needs_way {
            "one of these".to_owned()
        } else {
            // A file need not be there for this.
            let base = match &goes_with {
                Some(ways) if ways.starts_with("secret_file") => app("secret_env"),
                _ => base,
            };
            let configuration = json!({"apps": [base]});
            let settings = trial.settings(&configuration);
            let default = default_of(path, &trial.load(&configuration).unwrap());
            if !default.is_null() {
                let (with_default, _) = of_app(base.clone(), default.clone());
                assert_eq!(
                    trial.settings(&with_default),
                    settings,
                    "the default of {path}"
                );
            }
            if default == APP {
                "the appid".to_owned()
            } else {
                written(&default)
            }
        };
        let goes_with = goes_with.unwrap_or_default();
        assert!(!key.meaning.is_empty(), "{path} has no comment");
        let meaning = &key.meaning;
        writeln!(
            table,
            "| `{path}` | {takes} | {default} | {goes_with} | {meaning} |"
        )
        .unwrap();
    }
    table
}

/// Returns the default of a key as written in the file; null for none.
fn default_of(key: &str, config: &Config) -> Value {
    let app = &config.apps[0];
    match key {
        "wechat.base_url" => {
            let [url] = &config.wechat.base_urls[..] else {
                panic!("more than one default");
            };
            json!(url.as_str().trim_end_matches('/'))
        }
        "wechat.timeout" => duration(config.wechat.timeout),
        "wechat.proxy_url" => json!(
            config
                .wechat
                .proxy_url
                .as_ref()
                .map(|url| url.host().to_owned())
        ),
        "wechat.ca_file" => json!(config.wechat.ca),
        "poll.interval" => duration(config.poll.interval),
        "poll.concurrency" => json!(config.poll.concurrency),
        "windows" => json!(app.windows),
        "dimensions" => json!(app.dimensions),
        "top_names" => json!(app.top_names),
        "past.dimensions" => json!(app.past.dimensions),
        "past.days_ago" => json!(app.past.days_ago),
        "swing.threshold_ratio" => json!(app.swing.threshold_ratio),
        "swing.min_users" => json!(app.swing.min_users),
        "holidays.calendar" if app.holidays == Holidays::china() => json!("cn"),
        "archive.retention" => duration(config.archive.retention),
        "stale_after" => duration(config.stale_after),
        "name" => json!(app.name),
        "labels" => json!(app.labels),
        "token_parameter" | "token_endpoint" => {
            let AccessMethod::Token(access) = &app.access else {
                panic!("{key} goes with tokens");
            };
            match (key, &access.source) {
                ("token_parameter", _) => json!(access.parameter),
                (_, TokenSource::Secret(..)) => json!(app.access.to_string()),
                _ => panic!("{key} goes with secrets"),
            }
        }
        // Each of these adds something; without it there is none.
        "apps_files"
        | "archive.postgres_url_file"
        | "archive.postgres_url_env"
        | "holidays.files"
        | "token_url_headers_file"
        | "portrait_url_headers_file" => Value::Null,
        _ => panic!("the default of {key} is not looked up here"),
    }
}

/// Writes a duration in its largest unit.
fn duration(duration: Duration) -> Value {
    let seconds = duration.as_secs();
    assert_eq!(Duration::from_secs(seconds), duration);
    let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let (unit, length) = units
        .into_iter()
        .find(|(_, length)| seconds.is_multiple_of(*length))
        .unwrap();
    json!(format!("{}{unit}", seconds / length))
}

/// Writes a default as written in the file.
fn written(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => format!("`{text}`"),
        Value::Array(values) => {
            let values = values
                .iter()
                .map(|value| value.to_string().replace('"', ""));
            format!("`[{}]`", values.collect::<Vec<_>>().join(", "))
        }
        other => format!("`{other}`"),
    }
}

/// Writes what every command takes, from the definition of the command line.
fn flags() -> String {
    let mut cli = Cli::command();
    cli.build();
    let commands: Vec<_> = cli
        .get_subcommands()
        .filter(|command| command.get_name() != "help")
        .collect();
    let rows_of = |command: &Command| -> Vec<String> {
        let arguments = command.get_arguments();
        let own =
            arguments.filter(|argument| !["help", "version"].contains(&argument.get_id().as_str()));
        own.map(row).collect()
    };
    let [serve, others @ ..] = &commands[..] else {
        panic!("no commands");
    };
    assert_eq!(
        rows_of(serve),
        rows_of(&cli),
        "serve is what is done without a command"
    );
    let mut common = rows_of(serve);
    common.retain(|row| others.iter().all(|command| rows_of(command).contains(row)));

    let head = "| flag | default | meaning |\n|---|---|---|\n";
    let mut text = format!("### Every command\n\n{head}{}", common.concat());
    for command in &commands {
        let about = command.get_about().unwrap();
        let mut own = rows_of(command);
        own.retain(|row| !common.contains(row));
        write!(
            text,
            "\n### `{}`\n\n{about}.\n\n{head}{}",
            command.get_name(),
            own.concat()
        )
        .unwrap();
    }
    text
}

fn row(argument: &Arg) -> String {
    let takes_value = argument.get_action().takes_values();
    let names = argument.get_value_names().unwrap_or_default();
    let value = names
        .iter()
        .map(clap::builder::Str::as_str)
        .collect::<Vec<_>>()
        .join(" ");
    let mut flag = argument
        .get_short()
        .map(|short| format!("-{short}, "))
        .unwrap_or_default();
    if let Some(long) = argument.get_long() {
        write!(flag, "--{long}").unwrap();
    }
    if takes_value {
        write!(flag, "{}{value}", if flag.is_empty() { "" } else { " " }).unwrap();
    }
    let defaults = argument.get_default_values().iter();
    let defaults: Vec<_> = defaults
        .map(|value| format!("`{}`", value.to_str().unwrap()))
        .collect();
    let default = match defaults.join(", ") {
        _ if !takes_value => String::new(),
        none if none.is_empty() && argument.is_required_set() => "required".to_owned(),
        default => default,
    };
    let help = argument
        .get_long_help()
        .or(argument.get_help())
        .unwrap()
        .to_string();
    let mut meaning = help.split_whitespace().collect::<Vec<_>>().join(" ");
    if !meaning.ends_with('.') {
        meaning.push('.');
    }
    let choice: Vec<_> = argument
        .get_possible_values()
        .iter()
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if takes_value && !choice.is_empty() {
        write!(meaning, " {}.", choice.join(", ")).unwrap();
    }
    format!("| `{flag}` | {default} | {meaning} |\n")
}
