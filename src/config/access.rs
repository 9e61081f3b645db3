//! How an app gets its portraits: the keys about secrets, tokens, clouds and URLs, validated.
//!
//! Files with secrets are read with the configuration, so that mistakes are reported early, and again
//! before each use, as they may change. Sends no requests.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::files;
use super::raw::RawApp;
use super::read::{Located, Text, Texts};
use super::validate::{Check, beside, is_secret};

/// How an app is authenticated, and who requests its portraits.
#[derive(Debug, Clone, PartialEq)]
pub enum AccessMethod {
    /// The exporter sends a token to WeChat with every request.
    Token(TokenAccess),
    /// The sidecar of WeChat's cloud hosting adds the token.
    CloudHosting,
    /// The operator's own endpoint returns portraits.
    PortraitUrl(HttpEndpoint),
}

/// A token, and how it is used.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenAccess {
    /// Its source.
    pub source: TokenSource,
    /// The query parameter that it is sent in.
    pub parameter: String,
    /// The cloud function that requests the portrait, unless the exporter does so itself.
    pub function: Option<CloudFunction>,
}

/// Where tokens come from.
#[derive(Debug, Clone, PartialEq)]
pub enum TokenSource {
    /// WeChat issues them for an AppSecret.
    Secret(Secret, TokenEndpoint),
    /// Another program writes them into a file.
    File(PathBuf),
    /// A token server issues them.
    Url(HttpEndpoint),
    /// A program and its arguments; it writes a token to its standard output.
    Command(Vec<String>),
}

/// An AppSecret.
#[derive(Debug, Clone)]
pub struct Secret {
    /// Its value when the configuration was loaded, or why it could not be read then.
    pub value: Result<SecretString, String>,
    /// The file that it was read from, which may have changed since.
    pub file: Option<PathBuf>,
    /// The variable of the environment that it was read from.
    pub variable: Option<String>,
}

/// Which of WeChat's endpoints issues tokens for an AppSecret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenEndpoint {
    /// `stable_token`, whose tokens are separate from all others.
    Stable,
    /// `cgi-bin/token`: every token revokes the one before, including that of the app's own backend.
    Legacy,
}

/// A cloud function of the app, called through WeChat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudFunction {
    /// The environment that it is in.
    pub env: String,
    /// Its name there.
    pub name: String,
}

/// A URL of another host than WeChat, and the headers that are sent with every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpEndpoint {
    /// Its URL.
    pub url: PrivateUrl,
    /// A file of headers, see [`headers`]; read again for every request.
    pub headers_file: Option<PathBuf>,
}

/// A URL that may hold a password or a key: only its host is ever logged.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateUrl(Url);

impl AccessMethod {
    /// Returns the usual access: stable tokens for an AppSecret.
    #[must_use]
    pub fn of_secret(secret: SecretString) -> Self {
        let secret = Secret {
            value: Ok(secret),
            file: None,
            variable: None,
        };
        Self::Token(TokenAccess {
            source: TokenSource::Secret(secret, TokenEndpoint::Stable),
            parameter: TOKEN_PARAMETER.to_owned(),
            function: None,
        })
    }

    /// Returns an identifier of a source that belongs to one app.
    fn source(&self) -> Option<String> {
        let of_endpoint = |HttpEndpoint { url, headers_file }: &HttpEndpoint| {
            format!("{} {headers_file:?}", url.0)
        };
        let token = match self {
            Self::CloudHosting => return None,
            Self::PortraitUrl(endpoint) => return Some(of_endpoint(endpoint)),
            Self::Token(token) => token,
        };
        match &token.source {
            TokenSource::Secret(..) => None,
            TokenSource::File(path) => Some(path.display().to_string()),
            TokenSource::Url(endpoint) => Some(of_endpoint(endpoint)),
            TokenSource::Command(words) => Some(format!("{words:?}")),
        }
    }
}

impl fmt::Display for AccessMethod {
    /// Describes the method in a few words, as keys of the configuration where possible.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = match self {
            Self::CloudHosting => return formatter.write_str("cloud_hosting"),
            Self::PortraitUrl(_) => return formatter.write_str("portrait_url"),
            Self::Token(access) => access,
        };
        formatter.write_str(match access.source {
            TokenSource::Secret(_, TokenEndpoint::Stable) => "stable_token",
            TokenSource::Secret(_, TokenEndpoint::Legacy) => "cgi-bin/token",
            TokenSource::File(_) => "token_file",
            TokenSource::Url(_) => "token_url",
            TokenSource::Command(_) => "token_command",
        })?;
        match access.function {
            Some(_) => formatter.write_str(", cloud_function"),
            None => Ok(()),
        }
    }
}

impl PartialEq for Secret {
    /// Secrets in the same file are equal, whatever the file contains at the time.
    fn eq(&self, other: &Self) -> bool {
        let value = |secret: &Self| {
            let value = secret.value.as_ref().ok();
            value.map(|value| value.expose_secret().to_owned())
        };
        self.file == other.file && (self.file.is_some() || value(self) == value(other))
    }
}

impl PrivateUrl {
    /// Returns the whole URL, for sending a request.
    #[must_use]
    pub fn expose(&self) -> &Url {
        &self.0
    }

    /// Returns its host, which may be logged.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }
}

impl From<Url> for PrivateUrl {
    fn from(url: Url) -> Self {
        Self(url)
    }
}

impl fmt::Debug for PrivateUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.host())
    }
}

/// Reads a file of headers: a line `Name: value` for each; blank lines and those that begin with `#` are
/// skipped.
///
/// # Errors
///
/// The file can't be read, or a line is not a header. The line itself is not repeated.
pub fn headers(path: &Path) -> Result<Vec<(String, SecretString)>, String> {
    let text = read_text(path)?;
    let mut headers = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let header = line.split_once(':').filter(|(name, value)| {
            !name.is_empty() && name.bytes().all(is_of_name) && !value.contains(char::is_control)
        });
        let Some((name, value)) = header else {
            return Err(format!(
                "{}:{number}: no header: expected `Name: value`",
                path.display()
            ));
        };
        headers.push((name.to_owned(), SecretString::from(value.trim())));
    }
    Ok(headers)
}

/// Reads a small file.
///
/// # Errors
///
/// The file can't be read, is larger, is not a regular file, or not text; the message names it.
pub fn read_text(path: &Path) -> Result<String, String> {
    let failed = |error: io::Error| format!("cannot read {}: {error}", path.display());
    let bytes = files::read(path, MAX_FILE_BYTES).map_err(failed)?;
    String::from_utf8(bytes).map_err(|_| failed(io::Error::other("not valid UTF-8")))
}

/// What to do about a file with a token that can't be read.
pub const WRITER_OF_TOKENS: &str = "start the program that writes it, or correct the path";

/// How many bytes of a file are read; no secret and no list of certificates is larger.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Removes one line break from the end of a secret.
///
/// # Errors
///
/// The remaining text can't be a secret.
pub fn trim_secret(text: &str) -> Result<SecretString, String> {
    word(text, "the AppSecret")
}

/// The same for any secret that is one word.
pub(super) fn word(text: &str, what: &str) -> Result<SecretString, String> {
    let secret = text
        .strip_suffix('\n')
        .map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    if secret.is_empty() {
        Err(format!("{what} is empty"))
    } else if secret.contains(|character: char| character.is_whitespace() || character.is_control())
    {
        Err(format!(
            "{what} has blanks or line breaks in it: expected one word"
        ))
    } else {
        Ok(SecretString::from(secret))
    }
}

const TOKEN_PARAMETER: &str = "access_token";

/// Keys of access methods with a token. An app has exactly one of these or of [`TOKENLESS_KEYS`].
const TOKEN_KEYS: [&str; 5] = [
    "secret_file",
    "secret_env",
    "token_file",
    "token_url",
    "token_command",
];

/// Keys of access methods without a token.
const TOKENLESS_KEYS: [&str; 2] = ["access", "portrait_url"];

/// Keys that refine others, and which ones.
const DEPENDENT_KEYS: [(&str, &[&str]); 5] = [
    ("token_endpoint", &["secret_file", "secret_env"]),
    ("token_url_headers_file", &["token_url"]),
    (
        "token_parameter",
        &["token_file", "token_url", "token_command"],
    ),
    ("cloud_function", &TOKEN_KEYS),
    ("portrait_url_headers_file", &["portrait_url"]),
];

impl RawApp {
    /// Returns the keys about the access that are set, and their lines.
    fn access_keys(&self) -> Vec<(&'static str, u64)> {
        fn key<T>(name: &'static str, value: Option<&Located<T>>) -> Option<(&'static str, u64)> {
            value.map(|value| (name, value.line))
        }
        let keys = [
            key("secret_file", self.secret_file.as_ref()),
            key("secret_env", self.secret_env.as_ref()),
            key("token_file", self.token_file.as_ref()),
            key("token_url", self.token_url.as_ref()),
            key("token_command", self.token_command.as_ref()),
            key("access", self.access.as_ref()),
            key("portrait_url", self.portrait_url.as_ref()),
            key("token_endpoint", self.token_endpoint.as_ref()),
            key(
                "token_url_headers_file",
                self.token_url_headers_file.as_ref(),
            ),
            key("token_parameter", self.token_parameter.as_ref()),
            key("cloud_function", self.cloud_function.as_ref()),
            key(
                "portrait_url_headers_file",
                self.portrait_url_headers_file.as_ref(),
            ),
        ];
        keys.into_iter().flatten().collect()
    }
}

impl Check<'_> {
    /// Validates the access of an app; `line` is that of its appid.
    pub(super) fn access(&mut self, line: u64, key: &str, raw: &RawApp) -> Option<AccessMethod> {
        let keys = raw.access_keys();
        let methods: Vec<_> = keys
            .iter()
            .filter(|(name, _)| TOKEN_KEYS.contains(name) || TOKENLESS_KEYS.contains(name))
            .collect();
        let method = match methods[..] {
            [(method, _)] => *method,
            [] => {
                let tokens = TOKEN_KEYS.join(", ");
                let problem = match &raw.cloud_function {
                    Some(_) => format!("`cloud_function` needs a token: add one of {tokens}"),
                    None => format!(
                        "needs a way to its portraits: add one of {tokens}, access: cloud_hosting, portrait_url"
                    ),
                };
                self.problem(line, key, problem);
                return None;
            }
            [(first, _), (second, line), ..] => {
                let problem = format!("has both `{first}` and `{second}`: remove one");
                self.problem(*line, key, problem);
                return None;
            }
        };
        for (name, goes_with) in DEPENDENT_KEYS {
            let found = keys.iter().find(|(key, _)| *key == name);
            if let Some((_, line)) = found.filter(|_| !goes_with.contains(&method)) {
                let problem = format!("goes with {} only: remove it", goes_with.join(", "));
                self.problem(*line, format!("{key}.{name}"), problem);
            }
        }
        if let Some(access) = &raw.access {
            return self.cloud_hosting(&format!("{key}.access"), access);
        }
        let found = self.own_access(key, raw)?;
        if let Some(source) = found.source() {
            let place = format!("{}:{line}", self.file.display());
            if let Some(first) = self.first_sources.get(&source) {
                let warning = format!(
                    "is the same as that of the app at {first}: what comes from it belongs to one app only"
                );
                self.warn(line, format!("{key}.{method}"), warning);
            } else {
                self.first_sources.insert(source, place);
            }
        }
        Some(found)
    }

    fn own_access(&mut self, key: &str, raw: &RawApp) -> Option<AccessMethod> {
        let endpoint = self.endpoint(
            key,
            ("portrait_url", raw.portrait_url.as_ref()),
            (
                "portrait_url_headers_file",
                raw.portrait_url_headers_file.as_ref(),
            ),
        );
        endpoint
            .map(AccessMethod::PortraitUrl)
            .or_else(|| self.token_access(key, raw).map(AccessMethod::Token))
    }

    fn cloud_hosting(&mut self, key: &str, access: &Text) -> Option<AccessMethod> {
        let line = access.line;
        if access.value != "cloud_hosting" {
            self.problem(line, key, "no such access: expected cloud_hosting");
            return None;
        }
        if let Some(first) = &self.cloud_hosting {
            // Its sidecar adds the token of one app, whichever app the request is for.
            let problem = format!(
                "cloud hosting speaks for the one app that it belongs to, and {first} has it already"
            );
            self.problem(line, key, problem);
            return None;
        }
        self.cloud_hosting = Some(format!("{}:{line}", self.file.display()));
        Some(AccessMethod::CloudHosting)
    }

    fn token_access(&mut self, key: &str, raw: &RawApp) -> Option<TokenAccess> {
        let of = |name: &str| format!("{key}.{name}");
        let source = if let Some(file) = &raw.token_file {
            self.token_file(&of("token_file"), file)
        } else if let Some(words) = &raw.token_command {
            self.token_command(&of("token_command"), words)
        } else if raw.token_url.is_some() {
            self.endpoint(
                key,
                ("token_url", raw.token_url.as_ref()),
                (
                    "token_url_headers_file",
                    raw.token_url_headers_file.as_ref(),
                ),
            )
            .map(TokenSource::Url)
        } else {
            let secret = self.secret(key, raw.secret_file.as_ref(), raw.secret_env.as_ref());
            let endpoint = self.token_endpoint(&of("token_endpoint"), raw.token_endpoint.as_ref());
            secret.map(|secret| TokenSource::Secret(secret, endpoint))
        };
        let parameter = self.token_parameter(&of("token_parameter"), raw.token_parameter.as_ref());
        let function = raw.cloud_function.as_ref().map(|function| {
            let mut word = |name: &str, text: &Text| {
                if text.value.trim().is_empty() {
                    let key = format!("{key}.cloud_function.{name}");
                    self.problem(text.line, key, "is blank");
                }
                text.value.trim().to_owned()
            };
            CloudFunction {
                env: word("env", &function.value.env),
                name: word("name", &function.value.name),
            }
        });
        Some(TokenAccess {
            source: source?,
            parameter,
            function,
        })
    }

    fn secret(
        &mut self,
        key: &str,
        file: Option<&Text>,
        variable: Option<&Text>,
    ) -> Option<Secret> {
        let (name, source) = match (file, variable) {
            (Some(file), _) => ("secret_file", file),
            (None, variable) => ("secret_env", variable?),
        };
        let key = format!("{key}.{name}");
        let line = source.line;
        let (file, value) = if file.is_some() {
            let path = self.named_file(&key, source)?;
            let value = read_text(&path).and_then(|text| {
                trim_secret(&text).map_err(|problem| format!("{}: {problem}", path.display()))
            });
            (Some(path), value)
        } else if is_secret(&source.value) {
            let problem = "this looks like the AppSecret itself: put it into the environment and name the variable here";
            self.problem(line, key, problem);
            return None;
        } else {
            self.secret_variables.insert(source.value.clone());
            let value = (self.environment)(&source.value)
                .ok_or_else(|| format!("the environment has no variable {}", source.value));
            (None, value.and_then(|text| trim_secret(&text)))
        };
        if let Err(problem) = &value {
            self.app_problem(line, key, problem);
        }
        let variable = file.is_none().then(|| source.value.clone());
        Some(Secret {
            value,
            file,
            variable,
        })
    }

    /// Returns the path of a file, unless the value is what should be in the file.
    pub(super) fn named_file(&mut self, key: &str, name: &Text) -> Option<PathBuf> {
        if is_secret(&name.value) {
            let problem =
                "this looks like the secret itself: write it into a file and name that file here";
            self.problem(name.line, key, problem);
            return None;
        }
        let path = beside(&self.file, &name.value);
        if files::is_world_readable(&path) {
            self.world_readable.insert(path.clone());
        }
        Some(path)
    }

    fn token_endpoint(&mut self, key: &str, text: Option<&Text>) -> TokenEndpoint {
        let Some(text) = text else {
            return TokenEndpoint::Stable;
        };
        let line = text.line;
        match text.value.as_str() {
            "stable_token" => {}
            "token" => {
                let warning = "every token that is fetched takes away, five minutes later, the token that any \
                               other program of this app fetched with cgi-bin/token; prefer stable_token";
                self.warn(line, key, warning);
                return TokenEndpoint::Legacy;
            }
            _ => self.problem(
                line,
                key,
                "no such endpoint: expected stable_token or token",
            ),
        }
        TokenEndpoint::Stable
    }

    fn token_file(&mut self, key: &str, text: &Text) -> Option<TokenSource> {
        let path = self.named_file(key, text)?;
        if let Err(problem) = read_text(&path) {
            self.app_problem(text.line, key, format!("{problem}; {WRITER_OF_TOKENS}"));
        }
        Some(TokenSource::File(path))
    }

    fn token_command(&mut self, key: &str, words: &Texts) -> Option<TokenSource> {
        let mut words_of = words.value.iter().map(|word| word.value.clone());
        let line = words.line;
        let Some(mut program) = words_of.next().filter(|program| !program.is_empty()) else {
            self.problem(line, key, "is empty: expected [PROGRAM, ARGUMENT, ...]");
            return None;
        };
        let problem = if program.contains('/') {
            let path = beside(&self.file, &program);
            program = path.to_string_lossy().into_owned();
            files::check_executable(&path).err()
        } else {
            let found = (self.environment)("PATH").is_none_or(|path| {
                std::env::split_paths(&path)
                    .any(|directory| files::check_executable(&directory.join(&program)).is_ok())
            });
            (!found).then(|| "no such program in PATH".to_owned())
        };
        if let Some(problem) = problem {
            self.app_problem(line, key, format!("cannot run {program}: {problem}"));
        }
        Some(TokenSource::Command(
            std::iter::once(program).chain(words_of).collect(),
        ))
    }

    fn token_parameter(&mut self, key: &str, text: Option<&Text>) -> String {
        let Some(text) = text else {
            return TOKEN_PARAMETER.to_owned();
        };
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if text.value.is_empty() || !text.value.bytes().all(is_of_name) {
            let problem = "is not a query parameter: expected one such as cloudbase_access_token";
            self.problem(text.line, key, problem);
        }
        text.value.clone()
    }

    /// Validates a URL, if there is one, and the file of headers that belongs to it.
    fn endpoint(
        &mut self,
        key: &str,
        (name, url): (&str, Option<&Text>),
        (headers_name, headers_file): (&str, Option<&Text>),
    ) -> Option<HttpEndpoint> {
        let url = self.private_url(&format!("{key}.{name}"), url?, &["http", "https"]);
        let headers_file = headers_file.and_then(|text| {
            let key = format!("{key}.{headers_name}");
            let path = self.named_file(&key, text)?;
            if let Err(problem) = headers(&path) {
                self.app_problem(text.line, key, problem);
            }
            Some(path)
        });
        Some(HttpEndpoint {
            url: url?,
            headers_file,
        })
    }

    /// Parses a URL that may hold a password or a key, so problems do not repeat it.
    pub(super) fn private_url(
        &mut self,
        key: &str,
        text: &Text,
        schemes: &[&str],
    ) -> Option<PrivateUrl> {
        let url = Url::parse(&text.value)
            .ok()
            .filter(|url| schemes.contains(&url.scheme()) && url.has_host());
        if url.is_none() {
            let schemes = schemes.join(" or ");
            let problem = format!("not a URL: expected one that begins with {schemes}");
            self.problem(text.line, key, problem);
        }
        url.map(PrivateUrl::from)
    }
}
