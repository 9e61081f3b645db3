//! Requests a token from an app's source of tokens: WeChat, a file, a URL or a program.
//!
//! Never forces WeChat to issue a new one, which would revoke that of every other program.

use secrecy::{ExposeSecret as _, SecretString};

use super::command;
use super::read::{self, Token};
use crate::config::access::{AccessMethod, TokenEndpoint, TokenSource, WRITER_OF_TOKENS};
use crate::wechat::access::{Access, Caller};
use crate::wechat::client::Client;
use crate::wechat::diagnosis::Diagnosis;
use crate::wechat::errcodes::Reason;
use crate::wechat::error::{DecodeError, Error};
use crate::wechat::redact::Redactor;
use crate::wechat::requests::{self, Endpoint, Wanted};
use crate::wechat::transport::{Purpose, Upstream};

impl Client {
    /// Returns the token in use, or requests a new one.
    pub(in crate::wechat) async fn token(
        &self,
        access: &mut Access,
        wanted: Wanted,
    ) -> Result<SecretString, Diagnosis> {
        let now = self.transport.now();
        if let Some(token) = access.lease(now) {
            return Ok(token);
        }
        let token = self.request_token(access, wanted).await?;
        Ok(access.renew(token, now))
    }

    async fn request_token(&self, access: &mut Access, wanted: Wanted) -> Result<Token, Diagnosis> {
        let Access {
            caller,
            file,
            command_stderr,
            ..
        } = access;
        let caller = &*caller;
        let transport = &self.transport;
        let purpose = Purpose { caller, wanted };
        let diagnose = |error: Error| error.diagnose(caller);
        let AccessMethod::Token(token) = &caller.method else {
            let problem = "this access needs no token".to_owned();
            return Err(diagnose(Error::Unusable(
                Endpoint::Token,
                Reason::Configuration,
                problem,
            )));
        };
        match &token.source {
            TokenSource::Secret(secret, endpoint) => {
                let secret = file.secret(caller, secret).await;
                let secret = secret.map_err(diagnose)?;
                let (appid, secret) = (&caller.appid, secret.expose_secret());
                let mut request = match endpoint {
                    TokenEndpoint::Stable => {
                        let body = requests::stable_token(appid, secret);
                        let path = "cgi-bin/stable_token";
                        transport.to_wechat(purpose, Endpoint::Token, path, Some(&body))
                    }
                    TokenEndpoint::Legacy => {
                        let path = "cgi-bin/token";
                        let mut request = transport.to_wechat(purpose, Endpoint::Token, path, None);
                        for url in &mut request.urls {
                            url.query_pairs_mut()
                                .append_pair("grant_type", "client_credential")
                                .append_pair("appid", appid.as_str())
                                .append_pair("secret", secret);
                        }
                        request
                    }
                };
                request.redactor.add(secret);
                transport.send_with_retries(&request, read::issued).await
            }
            TokenSource::Url(at) => {
                let request = transport.to_endpoint(purpose, Endpoint::Token, at, None);
                transport.send_with_retries(&request, read::given).await
            }
            TokenSource::File(path) => {
                let source = format!("token_file {}", path.display());
                let mut retries = 0;
                loop {
                    let token = file
                        .read(path)
                        .await
                        .map_err(|problem| missing_file(&problem));
                    let token =
                        token.and_then(|text| given_by(&source, text.expose_secret().as_bytes()));
                    match token {
                        // Another program may be about to write it.
                        Err(_) if transport.backoff(&mut retries).await => {}
                        // It may be written again at any time, whatever the token's lifetime.
                        Ok(token) => {
                            return Ok(Token {
                                expires_in: None,
                                ..token
                            });
                        }
                        Err(error) => return Err(diagnose(error)),
                    }
                }
            }
            TokenSource::Command(words) => {
                let program = words.first().cloned().unwrap_or_default();
                let permit = transport.permit(&Upstream::Program(program)).await;
                let hidden = &transport.settings.secret_variables;
                let token = by_command(caller, words, hidden, command_stderr).await;
                drop(permit);
                token.map_err(diagnose)
            }
        }
    }
}

/// Runs a program that prints a token.
pub(in crate::wechat) async fn by_command(
    caller: &Caller,
    words: &[String],
    hidden_variables: &[String],
    last_stderr: &mut String,
) -> Result<Token, Error> {
    let output = command::run(caller, words, hidden_variables, last_stderr).await;
    let program = words.first().map_or("", String::as_str);
    given_by(
        &format!("token_command {program}"),
        &output.map_err(as_token_error)?,
    )
}

/// Reads the token of a file or a program.
pub(in crate::wechat) fn given_by(source: &str, output: &[u8]) -> Result<Token, Error> {
    read::given(output, &Redactor::default()).map_err(|error| {
        as_token_error(match error {
            DecodeError::Unreadable(_, problem) => format!("{source} gave no token: {problem}"),
            // WeChat sent it to another program, which may have a token at any time.
            DecodeError::Refused(refusal) => refusal.instead_of_token(source),
            DecodeError::Empty => format!("{source} gave no token"),
        })
    })
}

/// Describes a file with a token that cannot be read.
pub(in crate::wechat) fn missing_file(problem: &str) -> Error {
    let problem = format!("{problem}; {WRITER_OF_TOKENS}");
    Error::Unusable(Endpoint::Token, Reason::Configuration, problem)
}

fn as_token_error(problem: String) -> Error {
    Error::Unusable(Endpoint::Token, Reason::Token, problem)
}
