//! The keys of an archive in PostgreSQL, validated: which file or variable has the URL of the database.
//!
//! What the URL may be is decided in the archive. Connects to nothing.

use super::access::{read_text, word};
use super::read::Text;
use super::settings::{Postgres, UrlSource};
use super::validate::{Check, certificates};
use crate::archive::Database;

impl Check<'_> {
    /// Reads the URL of the database, if there is one.
    pub(super) fn postgres(
        &mut self,
        file: Option<&Text>,
        variable: Option<&Text>,
    ) -> Option<Postgres> {
        if let (Some(_), Some(variable)) = (file, variable) {
            let problem = "has both `postgres_url_file` and `postgres_url_env`: remove one";
            self.problem(variable.line, "archive", problem);
            return None;
        }
        let text = file.or(variable)?;
        let source = match file {
            Some(_) => UrlSource::File(super::validate::beside(&self.file, &text.value)),
            None => UrlSource::Variable(text.value.clone()),
        };
        let key = source.key();
        if text.value.contains("://") {
            let problem = match source {
                UrlSource::File(_) => {
                    "this looks like the URL itself: write it into a file and name that file here"
                }
                UrlSource::Variable(_) => {
                    "this looks like the URL itself: put it into the environment and name the variable here"
                }
            };
            self.problem(text.line, key, problem);
            return None;
        }
        let url = match &source {
            UrlSource::File(path) => {
                self.named_file(key, text)?;
                read_text(path).and_then(|text| {
                    word(&text, "the URL")
                        .map_err(|problem| format!("{}: {problem}", path.display()))
                })
            }
            UrlSource::Variable(name) => {
                self.secret_variables.insert(name.clone());
                let url = (self.environment)(name)
                    .ok_or_else(|| format!("the environment has no variable {name}"));
                url.and_then(|text| word(&text, "the URL"))
            }
        };
        let directory = super::validate::beside(&self.file, "");
        let database = url.and_then(|url| {
            let database = Database::parse(&url, &directory)
                .map_err(|problem| format!("the URL {problem}"))?;
            if let Some(file) = database.root_certificates() {
                certificates(file).map_err(|problem| format!("sslrootcert: {problem}"))?;
            }
            Ok(database)
        });
        match database {
            Ok(database) => Some(Postgres { source, database }),
            Err(problem) => {
                self.problem(text.line, key, problem);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::tests::{Directory, MAIN, app};
    use super::*;

    /// Files with a `url`, and a configuration whose archive has these keys.
    fn directory(url: &str, keys: &str) -> Directory {
        let text = format!("archive:\n  {keys}\n{}", app("secret_env: A"));
        let directory = Directory::new(&[(MAIN, &text), ("secrets/url", url)]);
        let file = directory.0.path().join("secrets/url");
        std::fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
        directory
    }

    #[test]
    fn the_url_is_in_a_file_or_in_the_environment() {
        let directory_of_url = |keys: &str| {
            let url = "postgresql://user:hunter2@database.example/portraits\n";
            let config = directory(url, keys).load().unwrap();
            assert_eq!(config.warnings, [""; 0]);
            assert!(!format!("{config:?}").contains("hunter2"));
            (config.archive.postgres.unwrap(), config.secret_variables)
        };
        let (file, variables) = directory_of_url("postgres_url_file: secrets/url");
        assert!(matches!(file.source, UrlSource::File(path) if path.ends_with("secrets/url")));
        assert_eq!(variables, ["A"]);
        let (variable, variables) = directory_of_url("postgres_url_env: URL");
        assert_eq!(variable.source, UrlSource::Variable("URL".to_owned()));
        assert_eq!(variables, ["A", "URL"]);
        for database in [file.database, variable.database] {
            assert_eq!(
                database.to_string(),
                "database portraits at database.example:5432"
            );
        }
    }

    #[test]
    fn a_url_that_cannot_be_read_is_a_problem_of_the_configuration() {
        let cases = [
            (
                "postgres_url_file: secrets/url\n  postgres_url_env: URL",
                "3: archive: has both `postgres_url_file` and `postgres_url_env`: remove one",
            ),
            (
                "postgres_url_file: gone",
                "2: archive.postgres_url_file: cannot read gone: No such file or directory (os error 2)",
            ),
            (
                "postgres_url_file: secrets",
                "2: archive.postgres_url_file: cannot read secrets: not a regular file",
            ),
            (
                "postgres_url_env: GONE",
                "2: archive.postgres_url_env: the environment has no variable GONE",
            ),
            (
                "postgres_url_env: EMPTY",
                "2: archive.postgres_url_env: the URL is empty",
            ),
            (
                "postgres_url_env: A",
                "2: archive.postgres_url_env: the URL is not one of PostgreSQL: expected \
                 postgres://USER:PASSWORD@HOST/DATABASE",
            ),
            (
                "postgres_url_file: 'postgres://user:hunter2@host/database'",
                "2: archive.postgres_url_file: this looks like the URL itself: write it into a file and name that \
                 file here",
            ),
            (
                "postgres_url_env: 'postgres://user:hunter2@host/database'",
                "2: archive.postgres_url_env: this looks like the URL itself: put it into the environment and name \
                 the variable here",
            ),
        ];
        for (keys, problem) in cases {
            let directory = directory("", keys);
            assert!(directory.load().is_err(), "{keys}");
            let problems = directory.problems();
            assert_eq!(problems, format!("{MAIN}:{problem}"), "{keys}");
        }
        for (url, problem) in [
            ("\n", "secrets/url: the URL is empty"),
            (
                "postgres://u:p@h/d\npostgres://u:p@h/d\n",
                "secrets/url: the URL has blanks or line breaks in it: expected one word",
            ),
            (
                "postgres://u:p@h/d?sslmode=verify-full&sslrootcert=gone.pem",
                "sslrootcert: cannot read gone.pem: No such file or directory (os error 2)",
            ),
            (
                "postgres://u:p@h/d?sslmode=verify-full&sslrootcert=secrets/url",
                "sslrootcert: secrets/url contains no certificate: expected PEM, from -----BEGIN CERTIFICATE----- on",
            ),
        ] {
            assert_eq!(
                directory(url, "postgres_url_file: secrets/url").problems(),
                format!("{MAIN}:2: archive.postgres_url_file: {problem}")
            );
        }
    }
}
