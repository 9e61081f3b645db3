//! Everything over real HTTP, in one binary: a module for each area.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of the tests panic like the tests themselves"
)]

/// Every way to portraits: tokens and their sources, clouds, proxies, certificates.
mod access;
/// How people are notified of alerts.
mod alertmanager;
/// The comparison with other programs in the README.
mod alternatives;
/// What survives the process, and failures of the archive.
mod archive;
/// The pages for people, in a browser.
mod browser;
/// What `check` reports about every app.
mod check;
/// The cloud function in `docs`, and who may read from it.
mod cloud_function;
/// The files of Docker Compose, and what they start.
mod compose;
/// What `docs/configuration.md` says about keys and flags.
mod configuration;
/// The dashboards of Grafana: their form, their queries and what they show.
mod dashboards;
/// How Prometheus discovers apps, and how exporters divide them.
mod discovery;
/// The documents: whether their instructions work, and whether what they name exists.
mod documents;
/// The archive in either engine: the same tests for SQLite and PostgreSQL.
mod engines;
/// Whether the exporter and the rules decide alike what a swing is.
mod expectation;
/// Failures of WeChat or on the way.
mod faults;
/// What is shown of an app that another exporter polls, and when it is taken over.
mod followers;
/// The words of the glossary in all texts for people.
mod glossary;
/// What the others share.
mod harness;
/// The chart for Helm, compared with the objects of `deploy/kubernetes`.
mod helm;
/// The contents of the archive and the page as days pass.
mod history;
/// What is left after a kill at any time.
mod kill;
/// The objects of `deploy/kubernetes`, validated for Kubernetes and the Prometheus Operator.
mod kubernetes;
/// What `docs/metrics.md` says about metrics.
mod metrics;
/// The notifications of several days, from WeChat's figures to people's phones.
mod notifications;
/// The packages for Debian and rpm, and the tarball.
mod packages;
/// What people see of the apps in a browser.
mod pages;
/// The history of an app, for its page and as a file.
mod pages_history;
/// How the archive connects to PostgreSQL.
mod postgres;
/// A PostgreSQL server for tests.
#[path = "../postgres/server.rs"]
mod postgres_server;
/// The archive after a power loss.
mod power_loss;
/// How the program starts and ends.
mod program;
/// The page, as Prometheus and promtool read it.
mod prometheus;
/// The selectors in expressions of dashboards and rules.
mod promql;
/// TLS, certificates and passwords, with the clients that people have.
mod protection;
/// Browsers, and the real proxies between them and the exporter.
mod proxy;
/// The faults of `docs/reliability.md` and their tests.
mod reliability;
/// What a new configuration changes while the exporter runs.
mod reload;
/// Several exporters on one archive.
mod replicas;
/// The rules and alerts of Prometheus, and their tests.
mod rules;
/// The sample answers of WeChat's documentation.
mod samples;
/// Connections: how many and how long, whatever clients do.
mod server;
/// The simulated WeChat, as a client sees it.
mod simulator;
/// A month of an exporter with many apps: memory, descriptors and threads.
mod soak;
/// The comments in the source of this project.
mod source;
/// What programs read: the status with its schema, and the configuration in use.
mod status;
/// The disk under the archive, and what happens to the file on it.
mod storage;
/// The system under the exporter: clocks, time zones, limits, signals.
mod system;
/// The unit for systemd, and its sample configuration.
mod systemd;
/// History that goes out of the archive and into it.
mod transfer;
/// Upstreams that misbehave, byte by byte.
mod upstream;
/// VictoriaMetrics, vmagent and vmalert in place of Prometheus.
mod victoriametrics;
/// What is served, path by path.
mod web;
/// The web configuration: TLS, authentication, limits, as promtool reads it.
mod web_config;
/// The workflows that test and release the project at GitHub.
mod workflows;
