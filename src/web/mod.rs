//! What is served over HTTP: the page for Prometheus, and the status for people.
//!
//! `routes` has the endpoints, `state` what they share, `status` what is shown of the apps; [`tls`] and
//! [`auth`] are the protection that a web configuration asks for.

pub mod auth;
mod routes;
mod state;
mod status;
pub mod tls;

pub use routes::{RESERVED_PATHS, create_app};
pub use state::{AppState, Reload};
