//! When WeChat is asked, and what becomes of its answers.
//!
//! `schedule` says what is due and when next, `history` what past days add to a portrait, both from
//! values alone; `cycle` does it, app by app.

pub mod cycle;
pub mod history;
pub mod schedule;
pub mod tasks;
