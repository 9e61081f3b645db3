//! What is served over HTTP: the page for Prometheus, and the status for people.
//!
//! `serve` accepts `connections`; `guard` protects all of them by the web configuration, with [`tls`] and
//! [`auth`], and `browser` protects browsers; `routes` has the endpoints, `state` is what they share, and
//! `status` what is shown of the apps, `histories` their archived days, and `csv` those as a file.

pub mod auth;
mod browser;
mod compressed;
mod connections;
mod csv;
mod guard;
mod histories;
mod pages;
mod routes;
mod serve;
mod state;
mod status;
pub mod tls;

pub use connections::Connections;
pub use guard::{Guard, check_web_config};
pub use histories::{AppHistory, Histories};
pub use routes::{RESERVED_PATHS, create_app};
pub use serve::{most_connections, serve};
pub use state::{AppState, Paths, Reload};
