//! The archive in a PostgreSQL database, which several exporters may share.
//!
//! `database` is where it is, from a URL; `connect` connects to it, `tls` verifies who answers, and `failure` describes
//! what goes wrong for operators.

mod connect;
mod database;
mod failure;
mod tls;

pub use database::Database;
