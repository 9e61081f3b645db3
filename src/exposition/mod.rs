//! What Prometheus is sent.
//!
//! `page` holds the lines of every app, rendered and compressed when they change; `gzip` joins
//! compressed pieces; `telemetry` holds the exporter's own metrics. Knows nothing of HTTP, or of when
//! anything is asked.

pub mod gzip;
pub mod page;
pub mod telemetry;
