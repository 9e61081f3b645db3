//! The simulated WeChat, for `demo`, `simulate` and the tests.
//!
//! Responds as the real one does, including its known flaws, with figures that follow from hashes:
//! the same app has the same users on the same day in every response. Imports the domain types, and
//! none of the code that it is used to test.
//!
//! - `settings`, `events` and `faults` are what is simulated, and how it is written.
//! - `catalog`, `random` and `profile` make the figures, `figures` their JSON.
//! - `service` decides on requests, with the help of `tokens`, `refusal`, `bodies` and
//!   `cloud_function`; `routes` is its HTTP.

mod bodies;
mod catalog;
mod cloud_function;
mod events;
mod faults;
mod figures;
mod profile;
mod random;
mod refusal;
mod routes;
mod service;
mod settings;
mod tokens;

pub use cloud_function::{FUNCTION_ENV, FUNCTION_NAME};
pub use events::Event;
pub use faults::Fault;
pub use routes::{create_app, run};
pub use service::{Requests, Simulator, UNKNOWN_APP};
pub use settings::{App, Settings, secret_of};
