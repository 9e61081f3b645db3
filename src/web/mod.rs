//! What is served over HTTP: the page for Prometheus, and the status for people.
//!
//! `serve` accepts `connections`, `routes` has the endpoints, `browser` protects browsers, `state` is what they
//! share, and `status` what is shown of the apps.

mod browser;
mod connections;
mod routes;
mod serve;
mod state;
mod status;

pub use connections::Connections;
pub use routes::{RESERVED_PATHS, create_app};
pub use serve::{most_connections, serve};
pub use state::{AppState, Paths, Reload};
