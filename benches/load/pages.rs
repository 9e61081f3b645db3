//! What the pages for people cost with many apps and a long history: single requests, fifty people who reload a
//! page once a second while a Prometheus scrapes, and memory.
//!
//! Clients run on the same processors, so times are longer than the exporter's CPU time, which is printed
//! as well.

use std::fmt::Display;
use std::fs::File;
use std::ops::Range;
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use rustix::fs::{Advice, fadvise, fsync};
use wxapp_portrait_exporter::portrait::Window;

use crate::harness::fixture::Home;
use crate::harness::program::{CpuWatch, Exporter, Timed, WeChat, binary, get_timed};
use crate::harness::table::{Figure, Table};
use crate::harness::{Times, mib, millis};
use crate::pair;

/// Apps and archived days of a run without arguments.
const SIZE: &str = "1000x400";

/// Every row needs apps whose pages were not read yet.
const FEWEST_APPS: usize = 400;

/// How many requests of a kind are measured.
const REQUESTS: usize = 20;

/// How many people look at pages at the same time, how often each reloads, and how many times.
const PEOPLE: usize = 50;
const RELOAD: Duration = Duration::from_secs(1);
const RELOADS: u32 = 10;

/// How often, meanwhile, the page for Prometheus is scraped and the archive is read.
const PROBE: Duration = Duration::from_millis(100);

/// The goals for the first byte of a page, in milliseconds: of all apps, and of one.
const OVERVIEW: f64 = 50.0;
const APP: f64 = 100.0;

/// The goal for the CPU time of all reloading people, in processors.
const PROCESSORS: f64 = 1.0;

/// Measures the pages of an exporter with as many apps and days as the arguments say, and prints tables.
pub(crate) fn measure(sizes: &[String]) {
    let default = [SIZE.to_owned()];
    let sizes = if sizes.is_empty() { &default } else { sizes };
    for size in sizes {
        let size = pair(size).filter(|(apps, days)| *apps >= FEWEST_APPS && *days > 0);
        let Some((apps, days)) = size else {
            eprintln!("expected at least {FEWEST_APPS} apps and a day, such as {SIZE}");
            std::process::exit(2);
        };
        let start = Instant::now();
        let home = Home::new(apps, &Window::ALL[..1]);
        home.fill(days);
        eprintln!(
            "{apps} apps with {days} days archived in {:.0?}",
            start.elapsed()
        );
        let wechat = WeChat::start(&home);
        let exporter = Exporter::start(&home, wechat.port);
        exporter.wait_until_ready();
        exporter.wait_until_polled(&wechat, apps);
        let bench = Bench {
            started_kib: [exporter.peak_resident_kib(), exporter.resident_kib()],
            exporter,
            home,
        };
        println!("{}, {apps} apps, {days} days", binary().display());
        println!("\n{}", bench.requests());
        println!("\n{}", bench.people());
        println!("\n{}", bench.memory());
        eprintln!("measured after {:.0?}", start.elapsed());
    }
}

/// An exporter that has polled every app, and its clients.
struct Bench {
    /// Ends before its archive is removed, which it would restore.
    exporter: Exporter,
    home: Home,
    /// The resident memory before the first page was read: at its peak, and then.
    started_kib: [usize; 2],
}

impl Bench {
    /// Measures one request after the other.
    fn requests(&self) -> Table {
        let mut table = Table::new(vec![
            "request",
            "first byte ms, median",
            "slowest",
            "whole ms, median",
            "CPU ms",
            "KiB, gzip",
            "KiB, plain",
        ]);
        let mut same = |path: &str, goal| {
            let figures = self.costs(&vec![path.to_owned(); REQUESTS], goal, || ());
            table.add(path.to_owned(), figures);
        };
        for path in ["/", "/?page=20", "/?q=3e", "/?sort=new_change"] {
            same(path, Some(OVERVIEW));
        }
        for path in ["/api/v1/status", "/config", "/metrics"] {
            same(path, None);
        }
        same(&format!("/apps/{}.csv", self.home.apps[0].appid), None);
        for (place, days) in [30, 90, 400].into_iter().enumerate() {
            let first = 2 * place * REQUESTS;
            let paths = self.apps(first..first + REQUESTS, days);
            let label = |what: &dyn Display| format!("app, {days} days, {what}");
            table.add(label(&"cold"), self.costs(&paths, Some(APP), || ()));
            table.add(label(&"warm"), self.costs(&paths, Some(APP), || ()));
            let paths = self.apps(first + REQUESTS..first + 2 * REQUESTS, days);
            let file = File::open(self.home.archive_path()).unwrap();
            let figures = self.costs(&paths, None, || {
                fsync(&file).unwrap();
                fadvise(&file, 0, None, Advice::DontNeed).unwrap();
            });
            table.add(label(&"cold, from disk"), figures);
        }
        table
    }

    /// Measures requests for these pages, and calls `prepare` before each of them.
    fn costs(&self, paths: &[String], goal: Option<f64>, prepare: impl Fn()) -> Vec<Figure> {
        let port = self.exporter.port;
        let mut requests = Vec::new();
        let mut cpu = Duration::ZERO;
        for path in paths {
            prepare();
            let watch = CpuWatch::start(&self.exporter);
            requests.push(get_timed(port, path, "gzip"));
            cpu += watch.stop();
        }
        let plain = get_timed(port, &paths[0], "identity").bytes;
        let first_byte = Times::new(requests.iter().map(|request| request.first_byte));
        let whole = Times::new(requests.iter().map(|request| request.whole));
        let bytes: usize = requests.iter().map(|request| request.bytes).sum();
        let median = Figure::new(first_byte.quantile(0.5), 1);
        vec![
            match goal {
                Some(goal) => median.at_most(goal),
                None => median,
            },
            Figure::new(first_byte.quantile(1.0), 1),
            Figure::new(whole.quantile(0.5), 1),
            Figure::new(millis(cpu) / paths.len() as f64, 1),
            Figure::new(mib(bytes) / paths.len() as f64, 1),
            Figure::new(mib(plain), 1),
        ]
    }

    /// Measures people who reload, and what Prometheus and the archive notice of them.
    fn people(&self) -> Table {
        let mut table = Table::new(vec![
            "50 people reload",
            "processors",
            "page ms, median",
            "p99",
            "/metrics ms, median",
            "p99",
            "archive job ms, median",
            "p99",
        ]);
        let apps = |days| self.apps(200..200 + PEOPLE, days);
        let mut alone = 0.0;
        for (label, paths) in [
            ("no one; Prometheus only", Vec::new()),
            ("/", vec!["/".to_owned(); PEOPLE]),
            ("one app each, 90 days", apps(90)),
            ("one app each, 400 days", apps(400)),
        ] {
            let costs = self.reload(paths);
            let processors = if costs.pages.is_empty() {
                alone = costs.processors;
                Figure::new(alone, 3)
            } else {
                // Scrapes cost as much without people.
                Figure::new(costs.processors - alone, 3).at_most(PROCESSORS)
            };
            let mut figures = vec![processors];
            for times in [costs.pages, costs.scrapes, costs.jobs] {
                figures.push(Figure::new(times.quantile(0.5), 1));
                figures.push(Figure::new(times.quantile(0.99), 1));
            }
            table.add(label.to_owned(), figures);
        }
        table
    }

    /// Lets a person reload each of these pages.
    fn reload(&self, paths: Vec<String>) -> Reloads {
        let port = self.exporter.port;
        let start = Instant::now();
        let every = |period: Duration, first: Duration, path: String| {
            spawn(move || {
                let until = start + RELOAD * RELOADS;
                let mut next = start + first;
                let mut requests = Vec::new();
                while next < until {
                    sleep(next.saturating_duration_since(Instant::now()));
                    requests.push(get_timed(port, &path, "gzip"));
                    next += period;
                }
                requests
            })
        };
        let watch = CpuWatch::start(&self.exporter);
        // A poll's write waits in the same queue as the two reads of this file of one day.
        let file = format!("/apps/{}.csv?days=1", self.home.apps[0].appid);
        let jobs = every(PROBE, PROBE / 2, file);
        let scrapes = every(PROBE, Duration::ZERO, "/metrics".to_owned());
        let people = paths.into_iter().zip(0..);
        let people = people.map(|(path, number)| {
            let first = RELOAD * number / u32::try_from(PEOPLE).unwrap();
            every(RELOAD, first, path)
        });
        let people: Vec<_> = people.collect();
        let times = |requests: Vec<Timed>| Times::new(requests.iter().map(|it| it.whole));
        let pages = people.into_iter().flat_map(|one| one.join().unwrap());
        let pages = times(pages.collect());
        let (scrapes, jobs) = (scrapes.join().unwrap(), jobs.join().unwrap());
        let took = start.elapsed();
        Reloads {
            processors: watch.stop().as_secs_f64() / took.as_secs_f64(),
            pages,
            scrapes: times(scrapes),
            jobs: times(jobs),
        }
    }

    /// Measures how much memory long histories and a file of one take.
    fn memory(&self) -> Table {
        let mut table = Table::new(vec!["memory", "MiB, peak", "MiB, after"]);
        let started = self.started_kib.map(|kib| Figure::new(mib(kib), 1));
        table.add("start and first polls".to_owned(), started.into());
        let mut add = |label: &str, paths: &[String]| {
            self.exporter.reset_peak_resident();
            for path in paths {
                get_timed(self.exporter.port, path, "identity");
            }
            let kib = self.exporter.peak_resident_kib();
            let figures = [kib, self.exporter.resident_kib()];
            let figures = figures.map(|kib| Figure::new(mib(kib), 1));
            table.add(label.to_owned(), figures.into());
        };
        add("after all of the above", &[]);
        let file = format!("/apps/{}.csv", self.home.apps[0].appid);
        add("the file of an app", &[file]);
        add("/api/v1/status", &["/api/v1/status".to_owned()]);
        let all = self.apps(0..self.home.apps.len(), 400);
        add("pages of all apps, 400 days", &all);
        table
    }

    /// Returns where the pages of these apps are.
    fn apps(&self, apps: Range<usize>, days: usize) -> Vec<String> {
        let apps = self.home.apps[apps].iter();
        apps.map(|app| format!("/apps/{}?days={days}", app.appid))
            .collect()
    }
}

/// What reloading people cost.
struct Reloads {
    processors: f64,
    pages: Times,
    scrapes: Times,
    /// Of the archive's thread, with what is around them.
    jobs: Times,
}
