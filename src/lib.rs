//! A Prometheus exporter for the user portraits of WeChat mini programs.

pub mod calendar;
pub mod portrait;
pub mod simulator;
