//! Connects to a database.
//!
//! Does not know what is stored there. Nothing depends on the session, so a pooler may be in between.

use tokio_postgres::Client;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::database::Database;
use super::failure::describe;
use super::tls;

/// The oldest version of PostgreSQL that is supported.
const OLDEST_VERSION: u32 = 13;

impl Database {
    /// Connects; the connection is driven by a task of the current runtime and ends with the client.
    ///
    /// # Errors
    ///
    /// A sentence for operators, without anything secret.
    pub async fn connect(&self) -> Result<Client, String> {
        let tls = MakeRustlsConnect::new(tls::config(self)?);
        let connecting = tokio::time::timeout(self.timeout(), self.config.connect(tls));
        let (client, connection) = match connecting.await {
            Ok(connected) => connected.map_err(|error| describe(&error))?,
            Err(_) => {
                return Err(format!(
                    "the server accepts the connection, but says nothing for {:?}",
                    self.timeout()
                ));
            }
        };
        let version = connection.parameter("server_version").unwrap_or_default();
        check_version(version)?;
        // What fails in it fails the client's queries, too.
        tokio::spawn(async { drop(connection.await) });
        Ok(client)
    }
}

/// Refuses a server that is too old; lets any other pass, such as a relative of PostgreSQL with versions of its own.
fn check_version(version: &str) -> Result<(), String> {
    let end = version.find(|character: char| !character.is_ascii_digit());
    let number: Option<u32> = version[..end.unwrap_or(version.len())].parse().ok();
    match number {
        Some(major) if major < OLDEST_VERSION => Err(format!(
            "the server has version {major} of PostgreSQL: {OLDEST_VERSION} or later is needed"
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_before_13_are_refused() {
        for refused in ["9.6.24", "9.2.4", "12.22 (Debian 12.22-1)"] {
            assert!(check_version(refused).is_err(), "{refused}");
        }
        for accepted in [
            "13.0",
            "15.17 (Debian 15.17-0+deb12u1)",
            "19devel",
            "",
            "PolarDB",
        ] {
            assert_eq!(check_version(accepted), Ok(()), "{accepted}");
        }
    }
}
