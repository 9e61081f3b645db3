//! A Prometheus exporter for the user portraits of WeChat mini programs.
//!
//! Once a day WeChat publishes who used a mini program: how many new and active people per province,
//! city, gender, platform, device and age. It returns them for two days, then deletes them. The
//! exporter requests them for every configured app, archives every answer, and serves the newest one as
//! Prometheus gauges. Polling and serving are independent: a scrape uses neither the network nor the
//! disk.
//!
//! ```text
//!  poll::due ─ when, which days ─► poll::AppPoller ─► wechat::Client ─HTTP─► WeChat, or simulator
//!                                    │                     └ decoded: Portrait | failure
//!                                    ├─► archive: the answer, before anything else sees it (a thread)
//!                                    ├─► past: the days before it, small and in memory
//!                                    └─► state: the app's snapshot, replaced as a whole
//!  state ─► exposition::page: lines rendered and deflated once per change
//!  GET /metrics ─► web ─► page: the pieces of all apps, joined into one gzip member ─► Prometheus
//! ```
//!
//! - [`portrait`], [`calendar`] and [`past`] are the domain types: users, windows, dimensions, Beijing days,
//!   and the days that a portrait is compared with. [`deflate`] compresses, [`language`] is how people read figures,
//!   [`chart`] draws them. [`shard`] divides the apps between several exporters.
//! - [`cli`] and [`config`] are the flags and the settings; [`commands`] put the modules together.
//! - [`wechat`] sends requests, [`archive`] stores answers, [`poll`] schedules, [`state`] is what is known,
//!   [`exposition`] renders it, [`web`] serves.
//! - [`export`] and [`import`] move archived days out and in; [`history`] is those of one app for people.
//! - [`simulator`] replaces WeChat, in `demo` and in the tests.
//!
//! A module imports only modules that precede it in the data flow. Time, the environment, bound sockets
//! and shutdown are arguments; only `main` reads the clock.

pub mod archive;
pub mod calendar;
pub mod chart;
pub mod cli;
pub mod commands;
pub mod config;
pub mod deflate;
pub mod expectation;
pub mod export;
pub mod exposition;
pub mod history;
pub mod import;
pub mod language;
pub mod past;
pub mod poll;
pub mod portrait;
pub mod shard;
pub mod simulator;
pub mod state;
pub mod web;
pub mod wechat;
