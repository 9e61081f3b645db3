//! A Prometheus exporter for the user portraits of WeChat mini programs.
//!
//! WeChat tells a mini program's owner once a day who its users were: how many new and active
//! people per province, city, gender, platform, device and age. It tells it for two days, then
//! forgets. The exporter asks for every app it is configured for, keeps every answer, and serves
//! the newest one as Prometheus gauges. Asking and serving are apart: a scrape touches neither
//! network nor disk.
//!
//! ```text
//!  poll::due ─ when, which days ─► poll::AppPoller ─► wechat::Client ─HTTP─► WeChat, or simulator
//!                                    │                     └ decoded: Portrait | failure
//!                                    ├─► archive: the answer, before anything else sees it (a thread)
//!                                    ├─► past: the days before it, small and in memory
//!                                    └─► state: the app's snapshot, swapped whole
//!  state ─► exposition::page: lines rendered and deflated once per change
//!  GET /metrics ─► web ─► page: the pieces of all apps, joined into one gzip member ─► Prometheus
//! ```
//!
//! - [`portrait`], [`calendar`] and [`past`] are the vocabulary: users, windows, dimensions, Beijing days,
//!   and the days that a portrait is compared with. [`deflate`] compresses.
//! - [`cli`] and [`config`] say what is wanted; [`commands`] put the rooms together.
//! - [`wechat`] asks, [`archive`] keeps, [`poll`] decides, [`state`] is what is known, [`exposition`]
//!   renders it, [`web`] serves.
//! - [`export`] and [`import`] carry archived days out and in.
//! - [`simulator`] stands in for WeChat, in `demo` and in the tests.
//!
//! A module imports only what is above it in the way of the data. Time, the environment, bound sockets
//! and shutdown are arguments; only `main` reads the clock.

pub mod archive;
pub mod calendar;
pub mod cli;
pub mod commands;
pub mod config;
pub mod deflate;
pub mod export;
pub mod exposition;
pub mod import;
pub mod past;
pub mod poll;
pub mod portrait;
pub mod simulator;
pub mod state;
pub mod web;
pub mod wechat;
