//! What a scrape costs over HTTP: the real program, compared with nginx that sends the same bytes as a file, and
//! with the client libraries for Rust and Python that have the same series. All are scraped in turn in one run, over
//! connections that stay open, so that a busy machine slows all of them.
//!
//! `cargo bench --bench scrape -- [APPS…]` takes other numbers of apps. Debian's nginx is expected; Python's client
//! library is installed into `target`. `BENCH_BINARY=/path` measures another build of the program.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a benchmark prints, stops on errors, and its figures are small"
)]

mod client;
#[expect(dead_code, reason = "other benchmarks use more of it")]
#[path = "../harness/mod.rs"]
mod harness;
mod parts;
mod registry;
mod servers;

use std::io::Read as _;
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use wxapp_portrait_exporter::portrait::Window;

use client::Client;
use harness::fixture::{DAYS, Home};
use harness::program::{CpuWatch, Exporter, WeChat, binary, cpu, resident_kib};
use harness::table::{Figure, Table};
use harness::{Times, mib, millis};
use servers::{SERVE, Server};

/// Numbers of apps of a run without arguments.
const SIZES: [usize; 3] = [1, 100, 1000];

/// How often servers are scraped that send what they have, for one app and for 1,000.
const ROUNDS: [usize; 2] = [2000, 200];

/// How often those are scraped that render every time.
const FEW_ROUNDS: usize = 10;

/// The names of the client libraries.
const CRATE: &str = "prometheus crate";
const PYTHON: &str = "Python";

/// The goals for the time of a scrape compared with nginx: for one app, and for many.
const ONE_APP: f64 = 1.5;
const MANY_APPS: f64 = 1.1;

/// The goal for 1,000 apps: how many times as long the client library for Rust takes.
const LIBRARY: f64 = 1000.0;

fn main() {
    // Cargo adds `--bench`.
    let arguments = std::env::args().skip(1).filter(|it| it != "--bench");
    let arguments: Vec<String> = arguments.collect();
    if let [mode, page, port] = &arguments[..]
        && mode == SERVE
    {
        return registry::serve(page, port.parse().unwrap());
    }
    let mut sizes = Vec::new();
    for argument in &arguments {
        match argument.parse() {
            Ok(apps) if apps > 0 => sizes.push(apps),
            _ => {
                eprintln!("`{argument}`: expected numbers of apps");
                std::process::exit(2);
            }
        }
    }
    if sizes.is_empty() {
        sizes.extend(SIZES);
    }
    println!("{}", binary().display());
    for apps in sizes {
        println!("\n{}", measure(apps));
    }
}

/// A server, and what its scrapes took.
struct Subject {
    name: &'static str,
    processes: Vec<u32>,
    /// The client libraries render in threads that end soon, whose CPU time only the kernel's ticks include.
    has_threads_that_end: bool,
    client: Client,
    times: Vec<Duration>,
    cpu: Duration,
    bytes: usize,
}

impl Subject {
    fn new(name: &'static str, processes: Vec<u32>, client: Client) -> Self {
        Self {
            name,
            processes,
            has_threads_that_end: name == CRATE || name == PYTHON,
            client,
            times: Vec::new(),
            cpu: Duration::ZERO,
            bytes: 0,
        }
    }

    /// Returns the CPU time of its processes until now, in the kernel's ticks.
    fn ticks(&self) -> Duration {
        let processes = self.processes.iter();
        processes.filter_map(|process| cpu(*process, 2)).sum()
    }

    /// Returns the CPU time of a scrape, in milliseconds.
    fn cpu(&self) -> f64 {
        millis(self.cpu) / self.times.len() as f64
    }

    fn resident_kib(&self) -> usize {
        self.processes.iter().copied().map(resident_kib).sum()
    }
}

/// Compares the servers of a page of this many apps; returns a table, and what its parts cost.
fn measure(apps: usize) -> String {
    let home = Home::new(apps, &Window::ALL[..1]);
    home.fill(DAYS);
    let wechat = WeChat::start(&home);
    let exporter = Exporter::start(&home, wechat.port);
    exporter.wait_until_ready();
    exporter.wait_until_polled(&wechat, apps);
    let gzip = exporter.page();
    let mut plain = String::new();
    MultiGzDecoder::new(&*gzip)
        .read_to_string(&mut plain)
        .unwrap();
    let series = plain.lines().filter(|line| !line.starts_with('#')).count();
    let directory = tempfile::tempdir().unwrap();
    let page = servers::write_page(directory.path(), plain.as_bytes(), &gzip);
    let nginx = Server::nginx(directory.path());
    let library = Server::crate_(&page);
    let python = Server::python(&page);

    let [gzip, identity] = ["gzip", "identity"];
    let client = |port, encoding| Client::new(port, "/metrics", encoding);
    let own = vec![exporter.id()];
    let mut subjects = vec![
        Subject::new("exporter, gzip", own.clone(), client(exporter.port, gzip)),
        Subject::new("nginx, gzip", nginx.processes(), client(nginx.port, gzip)),
        Subject::new("exporter, plain", own, client(exporter.port, identity)),
        Subject::new(
            "nginx, plain",
            nginx.processes(),
            client(nginx.port, identity),
        ),
    ];
    let libraries = [(CRATE, Some(&library)), (PYTHON, python.as_ref())];
    for (name, server) in libraries {
        let client = server.map(|server| (server.processes(), client(server.port, gzip)));
        subjects.extend(client.map(|(processes, client)| Subject::new(name, processes, client)));
    }
    let rounds = if apps < 1000 { ROUNDS[0] } else { ROUNDS[1] };
    let (ready, libraries) = subjects.split_at_mut(4);
    let (compressed, plain) = ready.split_at_mut(2);
    scrape(compressed, rounds);
    scrape(plain, rounds / 4);
    scrape(libraries, FEW_ROUNDS);
    let table = table(&subjects, apps);
    let parts = parts::measure(apps);
    format!("{apps} apps, {series} series\n\n{table}\n\n{parts}")
}

/// Scrapes servers in turn.
fn scrape(subjects: &mut [Subject], rounds: usize) {
    // The first ones connect, and fill caches.
    for _ in 0..3 {
        for subject in &mut *subjects {
            subject.client.scrape();
        }
    }
    let watches = subjects.iter().map(|subject| {
        let processes = subject.processes.clone();
        (CpuWatch::of(processes), subject.ticks())
    });
    let watches: Vec<_> = watches.collect();
    for _ in 0..rounds {
        for subject in &mut *subjects {
            let scrape = subject.client.scrape();
            subject.times.push(scrape.time);
            subject.bytes = scrape.bytes;
        }
    }
    for (subject, (watch, ticks)) in subjects.iter_mut().zip(watches) {
        let of_threads = watch.stop();
        subject.cpu = if subject.has_threads_that_end {
            subject.ticks().saturating_sub(ticks)
        } else {
            of_threads
        };
    }
}

fn table(subjects: &[Subject], apps: usize) -> Table {
    let mut table = Table::new(vec![
        "server",
        "scrapes",
        "ms, median",
        "p99",
        "x nginx",
        "x exporter",
        "CPU ms/scrape",
        "x nginx",
        "KiB sent",
        "MiB resident",
    ]);
    let median = |subject: &Subject| Times::new(subject.times.iter().copied()).quantile(0.5);
    let [exporter, nginx, _, nginx_plain, ..] = subjects else {
        panic!("some servers are missing")
    };
    for (place, subject) in subjects.iter().enumerate() {
        let nginx = if subject.name.ends_with("plain") {
            nginx_plain
        } else {
            nginx
        };
        let mut to_nginx = Figure::new(median(subject) / median(nginx), 2);
        let mut to_exporter = Figure::new(median(subject) / median(exporter), 1);
        if place == 0 {
            to_nginx = to_nginx.at_most(if apps < 100 { ONE_APP } else { MANY_APPS });
        }
        if subject.name == CRATE && apps >= 1000 {
            to_exporter = to_exporter.at_least(LIBRARY);
        }
        let times = Times::new(subject.times.iter().copied());
        let figures = vec![
            Figure::new(subject.times.len() as f64, 0),
            Figure::new(times.quantile(0.5), 3),
            Figure::new(times.quantile(0.99), 3),
            to_nginx,
            to_exporter,
            Figure::new(subject.cpu(), 3),
            Figure::new(subject.cpu() / nginx.cpu(), 2),
            Figure::new(subject.bytes as f64 / 1024.0, 1),
            Figure::new(mib(subject.resident_kib()), 1),
        ];
        table.add(subject.name.to_owned(), figures);
    }
    table
}
