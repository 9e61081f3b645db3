//! Everything over real HTTP, in one binary: a module per room that is tried.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of the tests panic like the tests themselves"
)]

/// Every way to portraits: tokens and whoever gives them, clouds, proxies, certificates.
mod access;
/// How people are told of alerts.
mod alertmanager;
/// What survives the process, and what troubles the archive.
mod archive;
/// What `check` tells of every app.
mod check;
/// The cloud function that stands in `docs`, and who may read from it.
mod cloud_function;
/// The files of Docker Compose, and what they start.
mod compose;
/// What `docs/configuration.md` says of keys and flags.
mod configuration;
/// The dashboards of Grafana: their form, their queries and what they show.
mod dashboards;
/// The documents: whether what they say can be done, and is there.
mod documents;
/// What goes wrong at WeChat or on the way.
mod faults;
/// What the others share.
mod harness;
/// What the archive and the page hold as days go by.
mod history;
/// What a kill at any moment leaves.
mod kill;
/// What `deploy/kubernetes` applies, as Kubernetes and the Prometheus Operator take it.
mod kubernetes;
/// What `docs/metrics.md` says of metrics.
mod metrics;
/// What people are told as days go by, from WeChat's figures to their phones.
mod notifications;
/// How the program starts and ends.
mod program;
/// The page, as Prometheus and promtool read it.
mod prometheus;
/// What an expression of dashboards and rules asks for.
mod promql;
/// What a new configuration changes while the exporter runs.
mod reload;
/// The rules and alerts of Prometheus, and their tests.
mod rules;
/// The sample answers of WeChat's documentation.
mod samples;
/// The simulated WeChat, as a client meets it.
mod simulator;
/// The source of this project, for what its comments tell.
mod source;
/// The unit for systemd, and its sample configuration.
mod systemd;
/// History that goes out of the archive and into it.
mod transfer;
/// What is served, path by path.
mod web;
