//! Everything over real HTTP, in one binary: a module per room that is tried.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of the tests panic like the tests themselves"
)]

/// The simulated WeChat, as a client meets it.
mod simulator;
