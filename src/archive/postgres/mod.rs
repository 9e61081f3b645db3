//! The archive in a PostgreSQL database, which several exporters may share.
//!
//! `database` is where it is, from a URL; `connect` connects to it, `tls` verifies who answers, and `failure`
//! describes what goes wrong for operators. `schema` defines the tables, `rows` their rows, `store` has the
//! queries for portraits, `leases` those for the exporters.
//!
//! A query is one unnamed statement without session state, so that it may pass through a pooler in
//! transaction mode; no advisory locks, no `LISTEN`, and explicit conflict targets, as relatives of
//! PostgreSQL lack the former and need the latter. Times that exporters compare are the database's.

mod connect;
mod database;
mod failure;
mod leases;
mod rows;
mod schema;
mod store;
mod tls;

pub use database::Database;
pub(super) use store::Store;
