//! Decides when WeChat is asked for which days, and what becomes of the answers.
//!
//! `due` says when and for which days, `window` knows the days of one app and window, `app` polls one
//! app from step to step, `backlog` holds what the archive did not take, and `supervisor` runs a task
//! for every app. How WeChat is asked is for `wechat`, how days are kept for `archive`.

mod app;
mod backlog;
pub mod due;
mod supervisor;
mod window;

pub use app::{AppPoller, Context, Settings};
pub use supervisor::{Changes, Supervisor};
