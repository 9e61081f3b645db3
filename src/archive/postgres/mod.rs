//! The archive in a PostgreSQL database, which several exporters may share.
//!
//! `database` is where it is, from a URL.

mod database;

pub use database::Database;
