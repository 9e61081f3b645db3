//! What is sent to Prometheus.
//!
//! `page` holds the lines of every app, rendered and compressed when they change, in `blocks`; `summary` are those of
//! what a portrait amounts to; `gzip` joins compressed pieces; `telemetry` holds the exporter's own
//! metrics, with those of the `process`. Does not depend on HTTP, or on when WeChat is polled.

mod blocks;
pub mod gzip;
pub mod page;
mod process;
pub mod summary;
pub mod telemetry;
