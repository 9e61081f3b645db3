//! The tables, and the numbered migrations that make them.
//!
//! Exporters that start at the same time all migrate; one of them wins, and the others find it done.

use tokio_postgres::Client;
use tokio_postgres::types::Type;

/// The schema that this version writes: the number of migrations.
pub(super) const VERSION: i32 = 1;

/// Each is applied once, in a transaction.
const MIGRATIONS: [&str; 1] = [r#"
CREATE TABLE portraits (
    appid text COLLATE "C" NOT NULL,
    "window" text COLLATE "C" NOT NULL,     -- 1d, 7d, 30d
    reference_date date NOT NULL,           -- the last Beijing day covered
    first_answered_at timestamptz NOT NULL, -- when the day became known
    answered_at timestamptz NOT NULL,       -- the last answer, with these figures
    settled boolean NOT NULL,               -- whether the last two answers agree
    revisions integer NOT NULL,             -- how often the figures changed
    digest bigint,                          -- equal for equal figures; null if the answer cannot be read
    figures text,                           -- users by platform, gender and age as JSON; null likewise
    answer text NOT NULL,                   -- JSON as WeChat sent it
    changed_at timestamptz NOT NULL,        -- when the row was last written, by the clock of the database
    recorded_by text,                       -- the exporter that wrote it; null for an import
    PRIMARY KEY (appid, "window", reference_date)
);
CREATE INDEX portraits_reference_date ON portraits (reference_date);
CREATE INDEX portraits_changed_at ON portraits (changed_at);
CREATE TABLE portrait_exporters (
    id text PRIMARY KEY,
    seen_at timestamptz NOT NULL            -- it is gone a minute later
);
CREATE TABLE portrait_leases (
    appid text PRIMARY KEY,
    holder text,                            -- the exporter that polls the app; null if it was released
    claimed_at timestamptz NOT NULL,
    polled boolean NOT NULL                 -- whether any exporter has polled the app
);
"#];

/// What became of the migrations.
pub(super) enum Schema {
    /// The tables are those of this version.
    Ready,
    /// They are of another version.
    Other(i32),
    /// Another program has a table of the same name.
    Foreign,
}

/// Migrates the tables to [`VERSION`], if they are older.
pub(super) async fn migrate(client: &mut Client) -> Result<Schema, tokio_postgres::Error> {
    let has_table = async |client: &Client, name: &str| {
        // In the schema where tables would be made.
        let sql = "SELECT to_regclass(quote_ident(current_schema()) || '.' || $1) IS NOT NULL";
        let row = client.query_typed_one(sql, &[(&name, Type::TEXT)]).await?;
        row.try_get::<_, bool>(0)
    };
    // In this order, as another exporter may make both meanwhile.
    let has_portraits = has_table(client, "portraits").await?;
    if !has_table(client, "portrait_schema").await? {
        if has_portraits {
            return Ok(Schema::Foreign);
        }
        client
            .batch_execute(
                "CREATE TABLE IF NOT EXISTS portrait_schema (id integer PRIMARY KEY, version integer NOT NULL);
                 INSERT INTO portrait_schema VALUES (1, 0) ON CONFLICT (id) DO NOTHING",
            )
            .await?;
    }
    let transaction = client.transaction().await?;
    // Others wait here until this one is done.
    let row = transaction
        .query_typed_one(
            "SELECT version FROM portrait_schema WHERE id = 1 FOR UPDATE",
            &[],
        )
        .await?;
    let found: i32 = row.try_get(0)?;
    let Some(pending) = usize::try_from(found)
        .ok()
        .and_then(|found| MIGRATIONS.get(found..))
    else {
        return Ok(Schema::Other(found));
    };
    for migration in pending {
        transaction.batch_execute(migration).await?;
    }
    if !pending.is_empty() {
        transaction
            .execute_typed(
                "UPDATE portrait_schema SET version = $1 WHERE id = 1",
                &[(&VERSION, Type::INT4)],
            )
            .await?;
    }
    transaction.commit().await?;
    Ok(Schema::Ready)
}
