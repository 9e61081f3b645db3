//! Where a PostgreSQL database is, and how it is connected to: a URL in the form of libpq, checked.
//!
//! The URL has a password in it, so no error and no text for people repeats more of it than hosts, ports and the
//! database's name. Connects to nothing and reads no files.

use std::error::Error as _;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use url::form_urlencoded;

/// A PostgreSQL database, and how it is connected to.
#[derive(Clone)]
pub struct Database {
    /// As it was parsed.
    url: SecretString,
    /// Without what only this program understands.
    pub(super) config: Config,
    pub(super) verification: Verification,
    /// Certificates in PEM that are trusted instead of the system's.
    root_certificates: Option<PathBuf>,
}

/// What the certificate of the server must prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verification {
    /// Nothing.
    None,
    /// That a trusted authority issued it.
    Authority,
    /// That it was issued for this host, too.
    Host,
}

/// The parameters of a URL, besides `sslmode` and `sslrootcert`.
const PARAMETERS: [&str; 18] = [
    "application_name",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "load_balance_hosts",
    "options",
    "password",
    "port",
    "sslnegotiation",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
];

/// Other parameters that libpq knows, whose names are not secret.
const UNSUPPORTED: [&str; 12] = [
    "client_encoding",
    "fallback_application_name",
    "gssencmode",
    "keepalives_count",
    "passfile",
    "require_auth",
    "service",
    "sslcert",
    "sslcrl",
    "sslkey",
    "sslpassword",
    "ssl_min_protocol_version",
];

impl Database {
    /// Parses the URL of a database; a file that it names is relative to `directory`.
    ///
    /// # Errors
    ///
    /// It is not a URL of a database; the message continues a sentence that begins with what contains it.
    pub fn parse(url: &SecretString, directory: &Path) -> Result<Self, String> {
        const EXPECTED: &str = "expected postgres://USER:PASSWORD@HOST/DATABASE";
        let text = url.expose_secret();
        let schemes = ["postgres://", "postgresql://"];
        if !schemes.iter().any(|scheme| text.starts_with(scheme)) {
            return Err(format!("is not one of PostgreSQL: {EXPECTED}"));
        }
        // What follows is shown, and must not be the end of a password.
        let (credentials, rest) = text.split_once('@').unwrap_or(("", text));
        if rest.contains('@') || credentials.contains('?') {
            return Err(
                "has a character in the user or the password that ends them: write @ as %40 and ? as %3F".to_owned(),
            );
        }
        let (base, query) = text.split_once('?').unwrap_or((text, ""));
        let (mut mode, mut root) = (None, None);
        let mut others = form_urlencoded::Serializer::new(String::new());
        let mut other_url = base.to_owned();
        // As in libpq, a + does not stand for a space.
        for (name, value) in form_urlencoded::parse(query.replace('+', "%2B").as_bytes()) {
            match &*name {
                "sslmode" => mode = Some(value.into_owned()),
                "sslrootcert" => root = Some(value.into_owned()),
                name if PARAMETERS.contains(&name) => _ = others.append_pair(name, &value),
                name if UNSUPPORTED.contains(&name) => {
                    return Err(format!(
                        "has the parameter {name}, which is not supported: remove it"
                    ));
                }
                _ => {
                    return Err(format!(
                        "has an unknown parameter: expected sslmode, sslrootcert or one of {}",
                        PARAMETERS.join(", ")
                    ));
                }
            }
        }
        let others = others.finish().replace('+', "%20");
        if !others.is_empty() {
            other_url = format!("{base}?{others}");
        }
        let mut config = other_url.parse::<Config>().map_err(|error| {
            // The source is about names of parameters, and not about their values.
            let source = error.source().map(ToString::to_string);
            format!("cannot be used: {}: {EXPECTED}", source.unwrap_or_default())
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(format!("has no host: {EXPECTED}"));
        }
        if config.get_dbname().is_none() {
            return Err(format!("has no database: {EXPECTED}"));
        }
        let (ssl_mode, verification) = match (mode.as_deref(), &root) {
            (Some("disable"), None) => (SslMode::Disable, Verification::None),
            (None | Some("prefer"), None) => (SslMode::Prefer, Verification::None),
            (Some("require"), None) => (SslMode::Require, Verification::None),
            (Some("require"), Some(_)) | (Some("verify-ca"), _) => {
                (SslMode::Require, Verification::Authority)
            }
            (Some("verify-full"), _) => (SslMode::Require, Verification::Host),
            (None | Some("disable" | "prefer"), Some(_)) => {
                return Err(
                    "has sslrootcert, which proves nothing without sslmode=verify-full: add that"
                        .to_owned(),
                );
            }
            _ => {
                return Err(
                    "has another sslmode than disable, prefer, require, verify-ca or verify-full"
                        .to_owned(),
                );
            }
        };
        config.ssl_mode(ssl_mode);
        fill(&mut config);
        Ok(Self {
            url: url.clone(),
            config,
            verification,
            root_certificates: root
                .filter(|file| file != "system")
                .map(|file| directory.join(file)),
        })
    }

    /// Returns the file of certificates (PEM) that are trusted instead of those of the system.
    #[must_use]
    pub fn root_certificates(&self) -> Option<&Path> {
        self.root_certificates.as_deref()
    }

    /// Returns how long connecting may take, with every host.
    pub(super) fn timeout(&self) -> Duration {
        let hosts = self.config.get_hosts().len().max(1);
        let of_host = self.config.get_connect_timeout().copied();
        // Names have several addresses, and authentication takes time as well.
        of_host.unwrap_or(CONNECT_TIMEOUT) * 2 * u32::try_from(hosts).unwrap_or(1)
    }
}

/// How long connecting to a host may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// After which time without an answer a connection is given up.
const DEAD_AFTER: Duration = Duration::from_secs(10);

/// Fills in what the URL has left open.
fn fill(config: &mut Config) {
    if config.get_application_name().is_none() {
        config.application_name(env!("CARGO_PKG_NAME"));
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(DEAD_AFTER);
    }
    // The default of the library is two hours.
    if config.get_keepalives_idle() > Duration::from_hours(1) {
        config.keepalives_idle(DEAD_AFTER);
        config.keepalives_interval(DEAD_AFTER / 5);
    }
}

impl PartialEq for Database {
    fn eq(&self, other: &Self) -> bool {
        self.url.expose_secret() == other.url.expose_secret()
            && self.root_certificates == other.root_certificates
    }
}

impl Eq for Database {}

impl fmt::Display for Database {
    /// Describes where the database is, without user, password and parameters.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.config.get_dbname().unwrap_or_default();
        write!(formatter, "database {name} at ")?;
        let (hosts, ports) = (self.config.get_hosts(), self.config.get_ports());
        let addresses = self.config.get_hostaddrs();
        for index in 0..hosts.len().max(addresses.len()) {
            if index > 0 {
                formatter.write_str(", ")?;
            }
            match (hosts.get(index), addresses.get(index)) {
                (Some(Host::Tcp(host)), _) if host.contains(':') => write!(formatter, "[{host}]")?,
                (Some(Host::Tcp(host)), _) => formatter.write_str(host)?,
                (Some(Host::Unix(path)), _) => write!(formatter, "{}", path.display())?,
                (None, Some(address)) => write!(formatter, "{address}")?,
                (None, None) => {}
            }
            let port = ports.get(index).or(ports.first()).unwrap_or(&5432);
            write!(formatter, ":{port}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(url: &str) -> Result<Database, String> {
        Database::parse(&SecretString::from(url), Path::new("/etc/wxapp"))
    }

    #[test]
    fn a_database_is_described_by_its_hosts_and_its_name() {
        for (url, shown) in [
            ("postgres://u:p@h/d", "database d at h:5432"),
            (
                "postgresql://u@h:6432/d?application_name=x",
                "database d at h:6432",
            ),
            (
                "postgres://u:p@a:1,b:2/d?target_session_attrs=read-write",
                "database d at a:1, b:2",
            ),
            ("postgres://u:p@[::1]:7/d", "database d at [::1]:7"),
            (
                "postgres://u:p@%2Frun%2Fpostgresql/d",
                "database d at /run/postgresql:5432",
            ),
            (
                "postgres:///d?host=h&port=7&user=u&password=p",
                "database d at h:7",
            ),
            (
                "postgres://u:p@/d?hostaddr=10.0.0.1",
                "database d at 10.0.0.1:5432",
            ),
        ] {
            let database = parse(url).unwrap();
            assert_eq!(database.to_string(), shown, "{url}");
            assert_eq!(format!("{database:?}"), shown);
        }
    }

    #[test]
    fn what_the_url_says_is_passed_on_and_what_it_does_not_say_has_a_default() {
        let config = parse("postgres://us%40er:pa%3Ass%2B@h/d%20x")
            .unwrap()
            .config;
        assert_eq!(config.get_user(), Some("us@er"));
        assert_eq!(config.get_password(), Some(&b"pa:ss+"[..]));
        assert_eq!(config.get_dbname(), Some("d x"));
        assert_eq!(
            config.get_application_name(),
            Some("wxapp-portrait-exporter")
        );
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(5)));
        assert_eq!(
            config.get_tcp_user_timeout(),
            Some(&Duration::from_secs(10))
        );
        assert_eq!(config.get_keepalives_idle(), Duration::from_secs(10));
        let url = "postgres://h/d?application_name=a%20b+c&connect_timeout=1&tcp_user_timeout=2&keepalives_idle=3\
                   &options=-c%20search_path%3Dwxapp";
        let config = parse(url).unwrap().config;
        assert_eq!(config.get_application_name(), Some("a b+c"));
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(1)));
        assert_eq!(config.get_tcp_user_timeout(), Some(&Duration::from_secs(2)));
        assert_eq!(config.get_keepalives_idle(), Duration::from_secs(3));
        assert_eq!(config.get_options(), Some("-c search_path=wxapp"));
        let file = parse("postgres://h/d?sslmode=verify-full&sslrootcert=ca.pem").unwrap();
        assert_eq!(
            file.root_certificates(),
            Some(Path::new("/etc/wxapp/ca.pem"))
        );
        assert_eq!(file.verification, Verification::Host);
    }

    #[test]
    fn a_url_that_cannot_be_used_is_described_without_its_text() {
        for (url, problem) in [
            (
                "host=h password=hunter2",
                "is not one of PostgreSQL: expected postgres://",
            ),
            (
                "mysql://u:hunter2@h/d",
                "is not one of PostgreSQL: expected postgres://",
            ),
            (
                "postgres://u:hunter2@h",
                "has no database: expected postgres://",
            ),
            (
                "postgres://u:hunter2@/d",
                "has no host: expected postgres://",
            ),
            (
                "postgres://u:hun@ter2@h/d",
                "has a character in the user or the password that ends them",
            ),
            (
                "postgres://h/d?password=hun@ter2",
                "has a character in the user or the password that ends them",
            ),
            (
                "postgres://u:hunter2/d",
                "cannot be used: invalid value for option `port`",
            ),
            (
                "postgres://u:p@h/d?connect_timeout=hunter2",
                "cannot be used: invalid value for option `connect_timeout`",
            ),
            (
                "postgres://u:p@h/d?hunter2=1",
                "has an unknown parameter: expected sslmode, sslrootcert or one of ",
            ),
            (
                "postgres://u:p@h/d?sslcert=hunter2",
                "has the parameter sslcert, which is not supported: remove it",
            ),
            (
                "postgres://u:p@h/d?sslmode=hunter2",
                "has another sslmode than disable, prefer, ",
            ),
            (
                "postgres://u:p@h/d?sslrootcert=hunter2",
                "has sslrootcert, which proves nothing without sslmode=verify-full",
            ),
        ] {
            let found = parse(url).unwrap_err();
            assert!(found.starts_with(problem), "{url}: {found}");
            assert!(!found.contains("hunter2"), "{found}");
        }
    }

    proptest! {
        #[test]
        fn no_text_repeats_a_password(
            before in "[a-z:/@?=&%#]{0,12}",
            after in "[a-z:/@?=&%#.0-9]{0,24}",
        ) {
            let url = format!("postgres://{before}:HUNTER2HUNTER2@{after}");
            let text = match parse(&url) {
                Ok(database) => format!("{database} {database:?}"),
                Err(problem) => problem,
            };
            prop_assert!(!text.contains("HUNTER"), "{}", text);
        }
    }
}
