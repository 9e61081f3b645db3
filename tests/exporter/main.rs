//! Everything over real HTTP, in one binary: a module per room that is tried.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of the tests panic like the tests themselves"
)]

/// What goes wrong at WeChat or on the way.
mod faults;
/// What the others share.
mod harness;
/// The page, as Prometheus and promtool read it.
mod prometheus;
/// The simulated WeChat, as a client meets it.
mod simulator;
/// What is served, path by path.
mod web;
