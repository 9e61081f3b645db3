//! stub
use tokio_postgres::{Client, NoTls};

use super::database::Database;

impl Database {
    pub(super) async fn connect(&self) -> Result<Client, String> {
        let (client, connection) = self
            .config
            .connect(NoTls)
            .await
            .map_err(|error| describe(&error))?;
        tokio::spawn(connection);
        Ok(client)
    }
}

pub(super) fn describe(error: &tokio_postgres::Error) -> String {
    error.to_string()
}
