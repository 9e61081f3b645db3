//! The format of the file, which program it belongs to, and how an older format is converted.
//!
//! Does not decide when rows are read or written.

use std::thread;
use std::time::{Duration, Instant};

use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::archive::record;

/// Marks a SQLite file as ours: "wxpt".
const APPLICATION_ID: i64 = 0x7778_7074;

/// The schema that this version writes, in `user_version`.
pub(in crate::archive) const SCHEMA_VERSION: i64 = 2;

/// The rows of an older archive that were not converted yet are in this table.
pub(super) const OLD_TABLE: &str = "answers_1";

/// The days, in the archive and in [`super::staging`].
pub(super) const TABLE: &str = "
CREATE TABLE portraits (
    appid TEXT NOT NULL,
    window TEXT NOT NULL,               -- 1d, 7d, 30d
    reference_date TEXT NOT NULL,       -- the last Beijing day covered, yyyy-mm-dd
    first_answered_at INTEGER NOT NULL, -- Unix seconds; when the day became known
    answered_at INTEGER NOT NULL,       -- Unix seconds; the last answer, with these figures
    settled INTEGER NOT NULL,           -- 1 if the last two answers agree
    revisions INTEGER NOT NULL,         -- how often the figures changed
    digest INTEGER,                     -- equal for equal figures; null if the answer cannot be read
    figures TEXT,                       -- users by platform, gender and age as JSON; null likewise
    size INTEGER NOT NULL,              -- bytes of the answer
    answer BLOB NOT NULL,               -- the answer in zlib format; last, for it is long and rarely read
    PRIMARY KEY (appid, window, reference_date)
) STRICT;
";

/// The function is built into SQLite's shell.
const VIEW: &str = "
CREATE VIEW answers AS
SELECT appid, window, reference_date, first_answered_at, answered_at, settled, revisions,
    CAST(sqlar_uncompress(answer, size) AS TEXT) AS answer
FROM portraits";

/// The program that a database belongs to.
pub(super) enum Owner {
    /// Ours, with this schema.
    Us(i64),
    /// Another program's.
    Another,
}

/// For how long another program may initialize the file, which takes it milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// Inspects a file that was just opened, and initializes a new one.
pub(super) fn prepare(connection: &mut Connection) -> rusqlite::Result<Owner> {
    // One view of the file, as another program may be initializing it.
    let found = owner(&*connection.transaction()?)?;
    if let Some(owner) = found {
        return Ok(owner);
    }
    let start = Instant::now();
    loop {
        match initialize(connection) {
            // SQLite does not wait for others to change the journal mode.
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && start.elapsed() < PATIENCE =>
            {
                thread::sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
}

/// Initializes a new file, unless another program has done so meanwhile.
fn initialize(connection: &mut Connection) -> rusqlite::Result<Owner> {
    // All must be set before the first table. For answers of some 6 KB, small pages waste least.
    connection.execute_batch(
        "PRAGMA page_size = 1024; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;",
    )?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if let Some(owner) = owner(&transaction)? {
        return Ok(owner);
    }
    transaction.execute_batch(TABLE)?;
    transaction.execute_batch(VIEW)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()?;
    Ok(Owner::Us(SCHEMA_VERSION))
}

/// Returns whose file it is; `None` if it is new.
fn owner(connection: &Connection) -> rusqlite::Result<Option<Owner>> {
    let number = |query| connection.query_row(query, [], |row| row.get::<_, i64>(0));
    let version = number("PRAGMA user_version")?;
    if version == 0 && number("SELECT count(*) FROM sqlite_schema")? == 0 {
        return Ok(None);
    }
    Ok(Some(match number("PRAGMA application_id")? {
        APPLICATION_ID => Owner::Us(version),
        _ => Owner::Another,
    }))
}

/// Begins to convert a file of schema 1, which stored answers as text: its rows stay in place until
/// [`super::Store`] moves them, and every query finds them meanwhile.
pub(super) fn begin_conversion(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(&format!("ALTER TABLE answers RENAME TO {OLD_TABLE}"))?;
    transaction.execute_batch(TABLE)?;
    transaction.execute_batch(&format!(
        "{VIEW} UNION ALL
         SELECT appid, window, reference_date, first_answered_at, answered_at, settled, revisions, answer
         FROM {OLD_TABLE}"
    ))?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()
}

/// Returns `true` while rows of schema 1 may be left.
pub(super) fn is_converting(connection: &Connection) -> rusqlite::Result<bool> {
    has_table(connection, OLD_TABLE)
}

/// Returns `true` unless the file is of schema 1.
pub(super) fn has_portraits(connection: &Connection) -> rusqlite::Result<bool> {
    has_table(connection, "portraits")
}

fn has_table(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1")?
        .exists([name])
}

/// Ends the conversion once no row is left.
pub(super) fn end_conversion(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(&format!(
        "DROP VIEW answers; DROP TABLE {OLD_TABLE}; {VIEW}"
    ))?;
    transaction.commit()
}

/// Gives a connection the function of the view `answers`, which is built into SQLite's shell only.
/// A damaged answer reads as an empty one, so that it does not prevent the others from being read.
pub(super) fn add_functions(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function("sqlar_uncompress", 2, flags, |context| {
        let blob = context.get_raw(0).as_blob()?;
        let size = usize::try_from(context.get::<i64>(1)?).unwrap_or_default();
        Ok(record::uncompress(blob, size).unwrap_or_default())
    })
}

/// Reads a whole file to check that all of it can be read. Takes long for a large one.
pub(in crate::archive) fn check(path: &std::path::Path) -> rusqlite::Result<()> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let found = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))?;
    if found == "ok" {
        return Ok(());
    }
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    Err(rusqlite::Error::SqliteFailure(code, Some(found)))
}
