//! Everything that knows WeChat: its hosts, field names, tokens and error codes.
//!
//! ```text
//!  Client::portrait ─► tokens ──┐
//!        │                      ├─► transport ─ retries, fail-over, permits ─► WeChat, or a relay
//!        └───────► requests ────┘       └─► decode ─► Answer | error ─► diagnosis ─► Diagnosis
//! ```
//!
//! - `client` requests a portrait, with a token from [`Access`] if one is needed; `tokens` requests one.
//! - `transport` sends what `requests` writes; [`errcodes`] lists the codes, `diagnosis` decides what a
//!   failure means, [`chinese`] says that in Chinese, and `redact` removes secrets from it.
//! - [`decode`] reads answers: `sanitise` makes them JSON, `envelope` removes their envelopes,
//!   `figures` reads the lists. [`encode()`] writes figures back.
//!
//! The results of this module are [`Answer`] and [`Diagnosis`]; `poll` decides when to request, and no
//! token leaves it.

mod access;
pub mod chinese;
mod client;
pub mod decode;
mod diagnosis;
mod encode;
mod envelope;
pub mod errcodes;
mod error;
mod figures;
mod redact;
mod requests;
mod sanitise;
pub mod tokens;
mod transport;

pub use access::Access;
pub use client::Client;
pub use decode::Answer;
pub use diagnosis::{Diagnosis, Scope};
pub use encode::encode;
pub use error::{DecodeError, Failure, Refusal, RequestFailure};
pub use redact::Redactor;
pub use requests::Endpoint;
pub use transport::{BACKOFF, BuildError, Request, Settings, install_crypto_provider};
