//! What Prometheus is sent.
//!
//! `page` holds the lines of every app, rendered and compressed when they change; `deflate` joins
//! compressed pieces; `telemetry` holds the exporter's own metrics. Knows nothing of HTTP, of the
//! archive, or of when anything is asked.

pub mod deflate;
pub mod page;
pub mod telemetry;
