//! stub
use std::fmt;
use tokio_postgres::{Client, Config, NoTls};

/// Stub.
#[derive(Clone)]
pub struct Database(Config);

impl Database {
    /// Stub.
    ///
    /// # Errors
    ///
    /// Stub.
    pub fn parse(url: &str) -> Result<Self, String> {
        url.parse().map(Self).map_err(|error: tokio_postgres::Error| error.to_string())
    }

    pub(super) async fn connect(&self) -> Result<Client, String> {
        let (client, connection) = self.0.connect(NoTls).await.map_err(|error| describe(&error))?;
        tokio::spawn(connection);
        Ok(client)
    }
}

impl fmt::Display for Database {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("database")
    }
}

pub(super) fn describe(error: &tokio_postgres::Error) -> String {
    error.to_string()
}
