//! What is served over HTTP: the page for Prometheus, pages for people, and the state for programs.
//!
//! `serve` accepts `connections`; `guard` protects all of them by the web configuration, with [`tls`] and
//! [`auth`], and `browser` protects browsers; `routes` has the endpoints, `state` is what they share. `pages` is
//! what people see of the apps, `histories` the archived days on these pages, `csv` those as a file, `status` all that
//! for programs, `sd` where Prometheus finds each app; `rendering` bounds how much of it is rendered at once, `compressed` sends texts.

pub mod auth;
mod browser;
mod compressed;
mod connections;
mod csv;
mod guard;
mod histories;
mod pages;
mod rendering;
mod routes;
mod sd;
mod serve;
mod state;
mod status;
pub mod tls;

pub use connections::Connections;
pub use guard::{Guard, check_web_config};
pub use histories::{AppHistory, Histories};
pub use routes::{RESERVED_PATHS, create_app, is_reserved};
pub use serve::{most_connections, serve};
pub use state::{AppState, Paths, Reload};
