//! When WeChat is asked, and what becomes of its answers.
//!
//! `schedule` says what is due and when next, from values alone; `cycle` does it, app by app.

pub mod cycle;
pub mod schedule;
