//! `/apps/APPID`: `page` is the whole, of `days` as charts, `dimensions` as tables, the `stock` of archived days,
//! and `queries` for Prometheus.

mod days;
mod dimensions;
mod page;
mod queries;
mod stock;

pub(in crate::web) use page::app;
