//! What the exporter costs with hundreds of apps: the real program with a full archive, against the
//! simulated WeChat, over real sockets. Prints a table with a row for every number of apps and of
//! windows, and whether every figure reaches its goal.
//!
//! `cargo bench --bench load -- [APPSxWINDOWS…]` measures other rows, such as `100x1 300x3`. The first argument may be
//! the name of something else to measure:
//!
//! - `unreachable`: a start with an empty archive while WeChat cannot be reached.
//! - `restart`: a start with a full archive while WeChat cannot be reached; numbers of apps may follow.
//! - `poll`: the first cycle of polls, beside a bare loop of the same requests; numbers of apps.
//! - `rules`: what the bundled rules cost a Prometheus.
//! - `capacity`: what a number of apps costs the exporter and a Prometheus; numbers of apps.
//! - `pages`: what the pages for people cost; `1000x400` are apps and archived days.
//! - `shards`: what exporters cost that share an archive in PostgreSQL; `10000x4` are apps and exporters.
//!
//! `BENCH_BINARY=/path` measures another build of the program.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a benchmark prints, stops on errors, and its figures are small"
)]

mod capacity;
#[expect(dead_code, reason = "other benchmarks use more of it")]
#[path = "../harness/mod.rs"]
mod harness;
mod pages;
mod poll;
mod rules;
#[expect(dead_code, reason = "tests use more of it")]
#[path = "../../tests/postgres/server.rs"]
mod server;
mod shards;

use std::collections::HashSet;
use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::str::FromStr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use flate2::read::MultiGzDecoder;
use wxapp_portrait_exporter::portrait::Window;

use harness::fixture::{DAYS, History, Home};
use harness::program::{
    DEADLINE, Exporter, HealthWatch, QUIET, ThreadWatch, WeChat, binary, free_port,
};
use harness::table::{Figure, Table};
use harness::{mib, millis};
use rules::Costs;

/// The rows of a run without arguments: apps, and of 1d, 7d and 30d the first ones.
const SIZES: [(usize, usize); 6] = [(100, 1), (300, 1), (1000, 1), (100, 3), (300, 3), (1000, 3)];

/// Numbers of apps of a run of `restart` without arguments.
const RESTARTS: [usize; 3] = [100, 1000, 10_000];

/// How long to wait once an exporter is quiet: idle threads of tokio's pool end after ten seconds.
const SETTLING: Duration = Duration::from_secs(12);

/// The goal for threads.
const THREADS: f64 = 24.0;

/// The goal for an answer of `/-/healthy`, in milliseconds.
const HEALTHY: f64 = 100.0;

/// The goal for requesting a portrait and showing it, in milliseconds of CPU time.
const PORTRAIT: f64 = 2.0;

/// The goal for an archived answer on disk, in KiB.
const ROW: f64 = 8.0;

/// The figures of every start, see [`Resources::figures`].
const HEADERS: [&str; 8] = [
    "apps x windows",
    "threads, peak",
    "at rest",
    "MiB, peak",
    "at rest",
    "healthy, first ms",
    "slowest ms",
    "ready s",
];

/// How many apps, and how many windows of each.
#[derive(Clone, Copy)]
struct Size {
    apps: usize,
    windows: usize,
}

impl Size {
    fn home(self) -> Home {
        Home::new(self.apps, &Window::ALL[..self.windows])
    }

    /// Returns how many portraits are on the page.
    fn portraits(self) -> usize {
        self.apps * self.windows
    }

    /// Returns the goal for the resident size of an exporter that has started, in MiB; at its peak
    /// half as much more is good.
    fn resident(self) -> f64 {
        64.0 + self.portraits() as f64 / 64.0
    }

    /// Returns the goal for the CPU time of a restart, in seconds.
    fn restart(self) -> f64 {
        2.0 * self.portraits() as f64 / 1000.0
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let size = pair(text).map(|(apps, windows)| Self { apps, windows });
        size.filter(|size| size.apps > 0 && (1..=Window::ALL.len()).contains(&size.windows))
            .ok_or_else(|| {
                format!(
                    "`{text}`: expected unreachable, restart, poll, rules, capacity, pages, shards, or a size such as 300x3"
                )
            })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.apps, self.windows)
    }
}

/// Reads two numbers such as `300x3`.
fn pair(text: &str) -> Option<(usize, usize)> {
    let (first, second) = text.split_once('x')?;
    Some((first.parse().ok()?, second.parse().ok()?))
}

fn main() {
    let mut sizes = Vec::new();
    let mut measure: fn(&[Size]) -> Table = reachable;
    // Cargo adds `--bench`.
    let arguments = std::env::args().skip(1).filter(|it| it != "--bench");
    let arguments: Vec<String> = arguments.collect();
    if let [mode, sizes @ ..] = &arguments[..] {
        match mode.as_str() {
            "restart" => return restart(sizes),
            "poll" => return poll::measure(sizes),
            "capacity" => return capacity::measure(sizes),
            "pages" => return pages::measure(sizes),
            "shards" => return shards::measure(sizes),
            _ => {}
        }
    }
    for argument in &arguments {
        match (argument.as_str(), argument.parse()) {
            ("unreachable", _) => measure = unreachable,
            ("rules", _) => measure = rules,
            (_, Ok(size)) => sizes.push(size),
            (_, Err(problem)) => {
                eprintln!("{problem}");
                std::process::exit(2);
            }
        }
    }
    if sizes.is_empty() {
        sizes.extend(SIZES.map(|(apps, windows)| Size { apps, windows }));
    }
    let table = measure(&sizes);
    println!("{}\n\n{table}", binary().display());
}

/// Measures starts with a full archive: one without WeChat, and one with it.
fn reachable(sizes: &[Size]) -> Table {
    let costs = [
        "CPU ms/portrait",
        "restart CPU s",
        "restart s",
        "KiB/response",
        "gzip page MiB",
    ];
    let mut table = Table::new([&HEADERS[..], &costs].concat());
    let history = History::new();
    for size in sizes {
        let start = Instant::now();
        let home = size.home();
        history.import(&home);
        let answers = size.portraits() * DAYS;
        let bytes_per_answer = home.archive_bytes() as f64 / answers as f64;
        eprintln!(
            "{size}: {answers} responses archived in {:.0?}",
            start.elapsed()
        );
        let restart = Restart::measure(&home, *size);
        let run = Run::measure(&home, *size);
        let cpu = run.cpu.saturating_sub(restart.cpu) / u32::try_from(run.polled).unwrap();
        let mut figures = run.resources.figures(*size);
        figures.extend([
            Figure::new(millis(cpu), 2).at_most(PORTRAIT),
            Figure::new(restart.cpu.as_secs_f64(), 2).at_most(size.restart()),
            Figure::new(restart.wall.as_secs_f64(), 2),
            Figure::new(bytes_per_answer / 1024.0, 1).at_most(ROW),
            Figure::new(mib(run.page_bytes / 1024), 1),
        ]);
        table.add(size.to_string(), figures);
        eprintln!("{size}: measured after {:.0?}", start.elapsed());
    }
    table
}

/// Measures starts without an archive while WeChat cannot be reached.
fn unreachable(sizes: &[Size]) -> Table {
    let mut table = Table::new(HEADERS.to_vec());
    for size in sizes {
        let home = size.home();
        let exporter = Exporter::start(&home, free_port());
        let resources = Resources::measure(&exporter, || {
            exporter.wait_until_quiet(QUIET);
        });
        table.add(size.to_string(), resources.figures(*size));
    }
    table
}

/// Measures starts with a full archive and without WeChat, for more apps than an import could fill it for.
fn restart(sizes: &[String]) {
    let sizes: Vec<usize> = sizes.iter().map(|size| size.parse().unwrap()).collect();
    let sizes = if sizes.is_empty() {
        &RESTARTS[..]
    } else {
        &sizes
    };
    let mut table = Table::new(vec![
        "apps",
        "responses",
        "archive MiB",
        "restart CPU s",
        "restart s",
        "MiB, peak",
        "gzip page MiB",
    ]);
    for apps in sizes {
        let size = Size {
            apps: *apps,
            windows: 1,
        };
        let home = size.home();
        home.fill(DAYS);
        let restart = Restart::measure(&home, size);
        let figures = vec![
            Figure::new((apps * DAYS) as f64, 0),
            Figure::new(home.archive_bytes() as f64 / f64::from(1 << 20), 0),
            Figure::new(restart.cpu.as_secs_f64(), 2).at_most(size.restart()),
            Figure::new(restart.wall.as_secs_f64(), 2),
            Figure::new(mib(restart.peak_kib), 1).at_most(1.5 * size.resident()),
            Figure::new(mib(restart.page_bytes / 1024), 1),
        ];
        table.add(apps.to_string(), figures);
        eprintln!("{apps} apps: measured");
    }
    println!("{}\n\n{table}", binary().display());
}

/// Measures what the bundled rules cost the oldest and the newest Prometheus.
fn rules(sizes: &[Size]) -> Table {
    let columns = [
        "apps x windows, Prometheus",
        "evaluation s",
        "slowest s",
        "recorded series",
        "scraped series",
    ];
    let mut table = Table::new(columns.to_vec());
    let history = History::new();
    for size in sizes {
        let mut home = size.home();
        history.import(&home);
        // The second poll settles the figures, and only then are they compared.
        home.poll_interval = "1m";
        let wechat = WeChat::start(&home);
        let exporter = Exporter::start(&home, wechat.port);
        exporter.wait_until_ready();
        for program in rules::programs() {
            let costs = Costs::measure(program, &exporter, size.apps);
            let label = format!("{size} {}", rules::version(program));
            let figures = vec![
                Figure::new(costs.evaluation.as_secs_f64(), 3).at_most(rules::EVALUATION),
                Figure::new(costs.slowest.as_secs_f64(), 3),
                Figure::new(costs.recorded, 0).at_most(20.0 * size.apps as f64),
                Figure::new(costs.scraped, 0),
            ];
            table.add(label, figures);
        }
    }
    table
}

/// What a restart costs: while WeChat cannot be reached, until all of the archive is shown.
struct Restart {
    cpu: Duration,
    wall: Duration,
    peak_kib: usize,
    page_bytes: usize,
}

impl Restart {
    fn measure(home: &Home, size: Size) -> Self {
        let start = Instant::now();
        let exporter = Exporter::start(home, free_port());
        exporter.wait_until_ready();
        loop {
            let page = exporter.page();
            let (cpu, wall) = (exporter.cpu(), start.elapsed());
            if shown_portraits(&page) == size.portraits() {
                return Self {
                    cpu,
                    wall,
                    peak_kib: exporter.peak_resident_kib(),
                    page_bytes: page.len(),
                };
            }
            assert!(wall < DEADLINE, "some apps are not on the page");
            // Every page costs the exporter CPU time, too.
            sleep(Duration::from_millis(250));
        }
    }
}

/// Returns for how many apps and windows there are users on a compressed page.
fn shown_portraits(page: &[u8]) -> usize {
    let mut shown = HashSet::new();
    let page = BufReader::with_capacity(1 << 20, MultiGzDecoder::new(page));
    for line in page.lines() {
        let line = line.unwrap();
        if let Some(labels) = line.strip_prefix("wxapp_portrait_users{")
            && let Some((portrait, _)) = labels.split_once(",cohort=")
            && !shown.contains(portrait)
        {
            shown.insert(portrait.to_owned());
        }
    }
    shown.len()
}

/// What a start costs with WeChat, and with an archive that lacks yesterday.
struct Run {
    resources: Resources,
    /// Until every app has been polled.
    cpu: Duration,
    /// How many portraits were requested from WeChat.
    polled: u64,
    page_bytes: usize,
}

impl Run {
    fn measure(home: &Home, size: Size) -> Self {
        let wechat = WeChat::start(home);
        let exporter = Exporter::start(home, wechat.port);
        let (mut cpu, mut polled) = (Duration::ZERO, 0);
        let resources = Resources::measure(&exporter, || {
            (cpu, polled) = exporter.wait_until_polled(&wechat, size.apps);
        });
        Self {
            resources,
            cpu,
            polled,
            page_bytes: exporter.page().len(),
        }
    }
}

/// The resources of a start.
struct Resources {
    peak_threads: usize,
    threads: usize,
    peak_kib: usize,
    kib: usize,
    healthy_first: Duration,
    healthy_slowest: Duration,
    ready: Duration,
}

impl Resources {
    /// Watches an exporter that was just started until `work` is done, and reads its resources when
    /// idle.
    fn measure(exporter: &Exporter, work: impl FnOnce()) -> Self {
        let start = Instant::now();
        let threads = ThreadWatch::start(exporter);
        let health = HealthWatch::start(exporter);
        exporter.wait_until_ready();
        let ready = start.elapsed();
        work();
        let health = health.stop();
        sleep(SETTLING);
        Self {
            peak_threads: threads.stop(),
            threads: exporter.threads(),
            peak_kib: exporter.peak_resident_kib(),
            kib: exporter.resident_kib(),
            healthy_first: health.first,
            healthy_slowest: health.slowest,
            ready,
        }
    }

    fn figures(&self, size: Size) -> Vec<Figure> {
        vec![
            Figure::new(self.peak_threads as f64, 0).at_most(THREADS),
            Figure::new(self.threads as f64, 0).at_most(THREADS),
            Figure::new(mib(self.peak_kib), 1).at_most(1.5 * size.resident()),
            Figure::new(mib(self.kib), 1).at_most(size.resident()),
            Figure::new(millis(self.healthy_first), 0).at_most(HEALTHY),
            Figure::new(millis(self.healthy_slowest), 0).at_most(HEALTHY),
            Figure::new(self.ready.as_secs_f64(), 2),
        ]
    }
}
