//! Decides when which days are requested from WeChat, and processes the answers.
//!
//! `due` decides when and for which days, `window` holds the days of one app and window, `app` polls one
//! app step by step, `backlog` holds what the archive did not accept, `leases` says which apps are polled
//! here, and `supervisor` runs a task for every app. `log` is what the log says of all that. `wechat` sends the requests, `archive` stores the days.

mod app;
mod backlog;
pub mod due;
mod leases;
mod log;
mod supervisor;
mod window;

pub use app::{AppPoller, Context, Settings};
pub use leases::Leases;
pub use supervisor::{Changes, Supervisor};
