//! The raw shape of the configuration files.
//!
//! Every value keeps its line, and nothing but its shape is checked. A test reads this file for the tables
//! of docs/configuration.md: the comments of the fields are for operators, and the keys of an app that
//! are also allowed at the top have theirs there.

use std::collections::BTreeMap;

use super::read::{Located, Partial, Problems, Read, Text, Texts};
use super::tree::{Content, Node};

/// A text, or a list of them.
pub(super) enum OneOrMore {
    One(String),
    More(Vec<Text>),
}

impl Read for OneOrMore {
    fn read(node: Node, key: &str, problems: &mut Problems) -> Option<Self> {
        match &node.content {
            Content::List(_) => Vec::read(node, key, problems).map(Self::More),
            _ => String::read(node, key, problems).map(Self::One),
        }
    }
}

/// Defines structs whose fields are the keys of a mapping.
macro_rules! mappings {
    ($($(#[$attribute:meta])* $visibility:vis struct $name:ident {
        $($(#[$doc:meta])* $field_visibility:vis $field:ident: $type:ty,)*
    })*) => {$(
        $(#[$attribute])*
        $visibility struct $name {
            $($(#[$doc])* $field_visibility $field: $type,)*
        }

        impl Read for $name {
            fn read(node: Node, key: &str, problems: &mut Problems) -> Option<Self> {
                let keys = [$(stringify!($field)),*];
                let mut values = node.values_of(&keys, key, problems)?;
                // All are read before one that is missing ends it, for their problems.
                $(let $field = values.read(stringify!($field), problems);)*
                Some(Self { $($field: $field?,)* })
            }
        }
    )*};
}
pub(super) use mappings;

mappings! {
    /// The main file.
    #[derive(Default)]
    pub(super) struct RawFile {
        pub(super) wechat: Option<RawWeChat>,
        pub(super) poll: Option<RawPoll>,
        /// How many days a portrait covers.
        pub(super) windows: Option<Texts>,
        /// Which dimensions are exposed; the archive keeps all.
        pub(super) dimensions: Option<Texts>,
        /// How many names of a dimension are exposed, such as `{city: 100}`; the rest is added up under the
        /// name `(other)`. No limit by default.
        pub(super) top_names: Option<BTreeMap<String, Text>>,
        pub(super) past: Option<RawPast>,
        pub(super) swing: Option<RawSwing>,
        pub(super) holidays: Option<RawHolidays>,
        pub(super) archive: Option<RawArchive>,
        /// How far the newest portrait may lie behind yesterday before its `wxapp_portrait_users`, and what
        /// is derived from them, are removed; its timestamps stay.
        pub(super) stale_after: Option<Text>,
        /// Files with further apps, each a list as under `apps`; `*`, `?` and `[a-z]` match parts of a
        /// name, `**` any directories.
        pub(super) apps_files: Option<Vec<Text>>,
        pub(super) apps: Option<Vec<Partial<RawApp>>>,
    }

    #[derive(Default)]
    pub(super) struct RawWeChat {
        /// WeChat's URL; of a list, the next one is used while one cannot be reached.
        pub(super) base_url: Option<Located<OneOrMore>>,
        /// Of one request, from the connection to the last byte.
        pub(super) timeout: Option<Text>,
        /// A proxy for requests to WeChat, instead of those of the environment.
        pub(super) proxy_url: Option<Text>,
        /// A file of certificates (PEM) that are trusted in addition to those of the system.
        pub(super) ca_file: Option<Text>,
    }

    #[derive(Default)]
    pub(super) struct RawPoll {
        /// The time between two polls of an app while a day is missing or not final; less than a minute
        /// causes a warning.
        pub(super) interval: Option<Text>,
        /// How many requests may be in flight at once to WeChat, and to each other host.
        pub(super) concurrency: Option<Text>,
    }

    #[derive(Default)]
    pub(super) struct RawArchive {
        /// Older days are deleted: at the start, after midnight in Beijing, and when this
        /// changes.
        pub(super) retention: Option<Text>,
        /// A file with the URL of a PostgreSQL database, which then is the archive instead of the files in
        /// `--storage.path`; another URL is used after a restart.
        pub(super) postgres_url_file: Option<Text>,
        /// An environment variable with that URL.
        pub(super) postgres_url_env: Option<Text>,
    }

    #[derive(Default)]
    pub(super) struct RawPast {
        /// The dimensions of `wxapp_portrait_past_users`, as far as they are exposed.
        pub(super) dimensions: Option<Texts>,
        /// The days before the reference date, by their distance; `[]` for none.
        pub(super) days_ago: Option<Vec<Text>>,
    }

    #[derive(Default)]
    pub(super) struct RawSwing {
        /// The smallest fall that can be a swing, as a share of the users; for a rise, the fall that would
        /// reverse it. What is noise for an app is learned from its archive.
        pub(super) threshold_ratio: Option<Text>,
        /// How many users the app or platform must have, usually or on the day.
        pub(super) min_users: Option<Text>,
    }

    #[derive(Default)]
    pub(super) struct RawHolidays {
        /// Which days are public holidays and make-up workdays: `cn` for those of China, `none` for no
        /// holidays at all.
        pub(super) calendar: Option<Text>,
        /// Files of years in the form of holiday-cn, which add to the years that are built in or replace
        /// them; patterns as for `apps_files`.
        pub(super) files: Option<Vec<Text>>,
    }

    pub(super) struct RawApp {
        /// The mini program's identifier at WeChat; unique across all files.
        pub(super) appid: Text,
        /// Its name for people, one line; the label `app` of `wxapp_portrait_app_info`.
        pub(super) name: Option<Text>,
        /// Labels of `wxapp_portrait_app_info`, such as `{team: 零售}`, to filter dashboards and to route alerts
        /// by.
        pub(super) labels: Option<BTreeMap<String, Text>>,
        /// A file with the AppSecret and nothing else; it is read again for every new token.
        pub(super) secret_file: Option<Text>,
        /// An environment variable with the AppSecret.
        pub(super) secret_env: Option<Text>,
        pub(super) windows: Option<Texts>,
        pub(super) dimensions: Option<Texts>,
        pub(super) top_names: Option<BTreeMap<String, Text>>,
        pub(super) past: Option<RawPast>,
        pub(super) swing: Option<RawSwing>,
        pub(super) holidays: Option<RawHolidays>,
        /// A file with an access token, which another program renews.
        pub(super) token_file: Option<Text>,
        /// The query parameter that carries the token.
        pub(super) token_parameter: Option<Text>,
        /// A URL that returns an access token for GET.
        pub(super) token_url: Option<Text>,
        /// A file of headers for that URL, one `Name: value` per line.
        pub(super) token_url_headers_file: Option<Text>,
        /// A program and its arguments; it writes an access token to its standard output.
        pub(super) token_command: Option<Texts>,
        /// The sidecar of WeChat's cloud hosting adds the token.
        pub(super) access: Option<Text>,
        pub(super) cloud_function: Option<Located<RawCloudFunction>>,
        /// A URL that returns portraits for POST.
        pub(super) portrait_url: Option<Text>,
        /// A file of headers for that URL, one `Name: value` per line.
        pub(super) portrait_url_headers_file: Option<Text>,
        /// Which endpoint of WeChat issues tokens for the AppSecret; `token` invalidates those of other
        /// programs.
        pub(super) token_endpoint: Option<Text>,
    }

    pub(super) struct RawCloudFunction {
        /// The environment of a cloud function that requests the portrait.
        pub(super) env: Text,
        /// The name of that function.
        pub(super) name: Text,
    }
}
