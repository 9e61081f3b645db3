//! The web configuration: the file of `--web.config.file`, as other exporters of Prometheus have it.
//!
//! `raw` has its keys, `settings` what they become, and `validate` checks them; `tls` does so for the keys
//! of TLS, and `duration` reads durations as Go writes them. Listens nowhere, and knows no requests.

mod duration;
mod raw;
mod settings;
mod tls;
mod validate;

pub use settings::{ClientAuth, RateLimit, TlsConfig, WebConfig};
pub use validate::{error, is_tls, load};
