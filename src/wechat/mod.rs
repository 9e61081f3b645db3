//! Everything that knows WeChat: its hosts, field names, tokens and error codes.
//!
//! ```text
//!  Client::portrait ─► tokens ──┐
//!        │                      ├─► transport ── retries, fail-over, permits ──► WeChat, or whoever asks it
//!        └───────► requests ────┘       └─► wire ─► Answer | error ─► diagnosis ─► Diagnosis
//! ```
//!
//! - `client` gets a portrait, with a token from [`Access`] where one is needed; `tokens` requests one.
//! - `transport` sends, [`errcodes`] knows the codes, `diagnosis` says what a failure means.
//! - [`wire`] decodes answers.
//!
//! What leaves this room is an [`Answer`] or a [`Diagnosis`]; `poll` decides when to request, and no
//! token leaves it.

mod access;
mod client;
mod diagnosis;
pub mod errcodes;
mod error;
mod requests;
mod tokens;
mod transport;
pub mod wire;

pub use access::Access;
pub use client::Client;
pub use diagnosis::{Diagnosis, Scope};
pub use error::{DecodeError, Failure, Refusal, RequestFailure};
pub use requests::Endpoint;
pub use transport::{BACKOFF, BuildError, Request, Settings};
pub use wire::Answer;
