//! The raw shape of the configuration files, as serde reads it.
//!
//! Every value keeps its line, and nothing is checked yet. A test reads this file for the tables of
//! docs/configuration.md: the comments of the fields are for operators, and the keys of an app that
//! may be at the top, too, have theirs there.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// A value of the file, and its line.
pub(super) type Text = Spanned<String>;

/// A list of the file, and its line.
pub(super) type Texts = Spanned<Vec<Text>>;

/// The main file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFile {
    pub(super) wechat: Option<RawWeChat>,
    pub(super) poll: Option<RawPoll>,
    /// How many days a portrait covers.
    pub(super) windows: Option<Texts>,
    /// What users are divided by on the page; the archive keeps all of it.
    pub(super) dimensions: Option<Texts>,
    /// How many names a dimension shows, such as `{city: 100}`; the rest is added up under the name
    /// `(other)`. No limit unless set.
    pub(super) top_names: Option<BTreeMap<String, Text>>,
    pub(super) past: Option<RawPast>,
    pub(super) swing: Option<RawSwing>,
    pub(super) archive: Option<RawArchive>,
    /// How far the newest portrait may lie behind yesterday before `wxapp_portrait_users` of it
    /// disappears; its timestamps stay.
    pub(super) stale_after: Option<Text>,
    /// Files with further apps, each a list as under `apps`; `*`, `?` and `[a-z]` stand for parts
    /// of a name, `**` for any folders.
    pub(super) apps_files: Option<Vec<Text>>,
    pub(super) apps: Option<Vec<RawApp>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWeChat {
    /// Where WeChat is; of a list, the next where one cannot be reached.
    pub(super) base_url: Option<Spanned<OneOrMore>>,
    /// For one request, from the connection to the last byte.
    pub(super) timeout: Option<Text>,
    /// A proxy for requests to WeChat, instead of those of the environment.
    pub(super) proxy_url: Option<Text>,
    /// A file of certificates (PEM) that are trusted beside those of the system.
    pub(super) ca_file: Option<Text>,
}

/// A text, or a list of them.
pub(super) enum OneOrMore {
    One(String),
    More(Vec<Text>),
}

impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = OneOrMore;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a single value or a list")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<OneOrMore, E> {
                Ok(OneOrMore::One(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<OneOrMore, A::Error> {
                let list = serde::de::value::SeqAccessDeserializer::new(list);
                Vec::deserialize(list).map(OneOrMore::More)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPoll {
    /// Between two polls of an app while a day is missing or not final; less than a minute is warned of.
    pub(super) interval: Option<Text>,
    /// How many requests may be under way at once.
    pub(super) concurrency: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawArchive {
    /// Days further back are deleted: at the start, after midnight in Beijing, and when this
    /// changes.
    pub(super) retention: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPast {
    /// In which dimensions `wxapp_portrait_past_users` has past days, as far as they are on the
    /// page.
    pub(super) dimensions: Option<Texts>,
    /// So many days before the reference date; `[]` for none.
    pub(super) days_ago: Option<Vec<Text>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSwing {
    /// From when on alerts call a change a swing: the share by which users fall, or rise so that
    /// such a fall would undo it.
    pub(super) threshold_ratio: Option<Text>,
    /// How many users there must be, usually or on the day, in the app or platform in question.
    pub(super) min_users: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawApp {
    /// What WeChat calls the mini program; it may stand once in all files.
    pub(super) appid: Text,
    /// What you call it, one line; the label `app` of `wxapp_portrait_app_info`.
    pub(super) name: Option<Text>,
    /// A file with the AppSecret and nothing else; it is read again when a token is due.
    pub(super) secret_file: Option<Text>,
    /// A variable of the environment with the AppSecret.
    pub(super) secret_env: Option<Text>,
    pub(super) windows: Option<Texts>,
    pub(super) dimensions: Option<Texts>,
    pub(super) top_names: Option<BTreeMap<String, Text>>,
    pub(super) past: Option<RawPast>,
    pub(super) swing: Option<RawSwing>,
    /// A file with an access token, which somebody else keeps fresh.
    pub(super) token_file: Option<Text>,
    /// The query parameter that carries the token.
    pub(super) token_parameter: Option<Text>,
    /// An address that answers GET with an access token.
    pub(super) token_url: Option<Text>,
    /// A file of headers for that address, a line `Name: value` for each.
    pub(super) token_url_headers_file: Option<Text>,
    /// A program and its arguments; it writes an access token to its standard output.
    pub(super) token_command: Option<Texts>,
    /// Somebody else adds the token: the sidecar of WeChat's cloud hosting.
    pub(super) access: Option<Text>,
    pub(super) cloud_function: Option<Spanned<RawCloudFunction>>,
    /// An address that answers portraits by POST.
    pub(super) portrait_url: Option<Text>,
    /// A file of headers for that address, a line `Name: value` for each.
    pub(super) portrait_url_headers_file: Option<Text>,
    /// Which endpoint of WeChat gives tokens for the AppSecret; `token` takes the tokens of others
    /// away.
    pub(super) token_endpoint: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCloudFunction {
    /// The environment of a cloud function that asks for the portrait.
    pub(super) env: Text,
    /// What that function is called.
    pub(super) name: Text,
}
