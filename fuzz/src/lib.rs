//! What is fuzzed: a function for everything that reads what others wrote, from any bytes.
//!
//! Each panics if a property does not hold, and not only where the exporter would. `cargo fuzz` runs them
//! with libFuzzer, and `tests/fuzz` with the corpus and changes of it in the ordinary run of the tests.

mod answers;
mod exposition;
mod files;
mod page;
mod request;

pub use answers::{envelope, errmsg, portrait, token};
pub use files::{configuration, import, web_configuration};
pub use page::page;
pub use request::request;
