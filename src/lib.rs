//! A Prometheus exporter for the user portraits of WeChat mini programs.

pub mod archive;
pub mod calendar;
pub mod config;
pub mod exposition;
pub mod poll;
pub mod portrait;
pub mod web;
pub mod wechat;
