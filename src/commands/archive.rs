//! Which archive a command uses: the database of the configuration, else the file in `--storage.path`.

use std::path::Path;
use std::sync::Arc;

use super::Error;
use crate::archive::{Sharing, Store};
use crate::calendar::Clock;
use crate::config::{Config, Postgres};

/// Names the archive of the exporter that owns it.
///
/// # Errors
///
/// There is a file at `--storage.path`.
pub(super) fn of_owner(path: &Path, config: &Config, clock: Clock) -> Result<Store, Error> {
    if let Some(postgres) = &config.archive.postgres {
        return database(postgres);
    }
    if path.exists() && !path.is_dir() {
        let path = path.display();
        let problem = format!("--storage.path {path}: it is a file, name a directory");
        return Err(Error::Usage(problem));
    }
    Ok(Store::of_owner(path, clock))
}

/// Names the archive for a command that runs beside the exporter.
///
/// # Errors
///
/// The program has no resources left.
pub(super) fn of_guest(
    path: &Path,
    config: Option<&Config>,
    clock: &Clock,
) -> Result<Store, Error> {
    match config.and_then(|config| config.archive.postgres.as_ref()) {
        Some(postgres) => database(postgres),
        None => Ok(Store::of_guest(path, Arc::clone(clock))),
    }
}

fn database(postgres: &Postgres) -> Result<Store, Error> {
    let database = postgres.database.clone();
    Ok(Store::of_database(database, Sharing::default())?)
}
