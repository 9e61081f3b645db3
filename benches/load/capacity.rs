//! What a number of apps costs: the page, the exporter, and a Prometheus that scrapes all apps at once or every app
//! alone and evaluates the bundled rules; with all dimensions, and without cities.
//!
//! Takes some three minutes for each row.

use std::io::Read as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use flate2::read::MultiGzDecoder;
use serde_json::{Value, json};
use wxapp_portrait_exporter::portrait::Window;

use crate::harness::fixture::{DAYS, Home};
use crate::harness::mib;
use crate::harness::program::{DEADLINE, Exporter, WeChat, binary};
use crate::harness::table::{Figure, Table};
use crate::rules::{self, Prometheus, RECORDED, evaluation, number};

/// Numbers of apps of a run without arguments.
const SIZES: [usize; 2] = [100, 1000];

/// How often the rules are evaluated; apps are scraped once a minute.
const INTERVAL: Duration = Duration::from_secs(30);

/// For how long a Prometheus is watched.
const WATCHED: Duration = Duration::from_secs(150);

/// How often it is looked at meanwhile.
const PERIOD: Duration = Duration::from_secs(5);

/// With fewer apps the oldest Prometheus is not measured, as everything is cheap.
const MANY: usize = 1000;

/// Measures these numbers of apps, and prints a table.
pub(crate) fn measure(sizes: &[String]) {
    let sizes: Vec<usize> = sizes.iter().map(|size| size.parse().unwrap()).collect();
    let sizes = if sizes.is_empty() { &SIZES[..] } else { &sizes };
    let mut table = Table::new(vec![
        "apps, scraped at, by Prometheus",
        "series of an app",
        "page MiB",
        "gzip KiB",
        "exporter MiB",
        "Prometheus MiB",
        "peak",
        "first scrape s",
        "later, s/minute",
        "rules s, median",
        "slowest",
        "recorded series",
    ]);
    for apps in sizes {
        for with_cities in [true, false] {
            add(&mut table, *apps, with_cities);
        }
    }
    println!("{}\n\n{table}", binary().display());
}

/// Adds the rows of this many apps.
fn add(table: &mut Table, apps: usize, with_cities: bool) {
    let mut home = Home::new(apps, &Window::ALL[..1]);
    home.fill(DAYS);
    home.poll_interval = "1m";
    if !with_cities {
        home.leave_out_cities();
    }
    let wechat = WeChat::start(&home);
    let exporter = Exporter::start(&home, wechat.port);
    exporter.wait_until_ready();
    let page = wait_until_settled(&exporter, apps);
    let [old, new] = rules::programs();
    let at_page = ("/metrics", at_page as fn(u16) -> Value);
    let at_probe = ("/probe", at_probe as fn(u16) -> Value);
    let mut cases = vec![(new, at_page), (new, at_probe)];
    if apps >= MANY && with_cities {
        cases.push((old, at_page));
    }
    for (program, (path, job)) in cases {
        let costs = Costs::measure(program, job(exporter.port));
        let cities = if with_cities { "" } else { " without cities" };
        let label = format!("{apps}{cities}, {path}, {}", rules::version(program));
        eprintln!("{label}: measured");
        let series = page.series as f64 / apps as f64;
        let figures = vec![
            Figure::new(series, 0),
            Figure::new(mib(page.bytes) / 1024.0, 2),
            Figure::new(page.gzip_bytes as f64 / 1024.0, 0),
            Figure::new(mib(exporter.resident_kib()), 0),
            Figure::new(mib(costs.kib), 0),
            Figure::new(mib(costs.peak_kib), 0),
            Figure::new(costs.first, 2),
            Figure::new(costs.later, 2),
            Figure::new(costs.rules[costs.rules.len() / 2], 3),
            Figure::new(costs.rules[costs.rules.len() - 1], 3),
            Figure::new(costs.recorded, 0),
        ];
        table.add(label, figures);
    }
}

/// The page of all apps.
struct Page {
    /// Without the exporter's own.
    series: usize,
    bytes: usize,
    gzip_bytes: usize,
}

/// Waits until the figures of all apps are settled, so that rules compare them.
fn wait_until_settled(exporter: &Exporter, apps: usize) -> Page {
    let start = Instant::now();
    loop {
        let gzip = exporter.page();
        let mut text = String::new();
        MultiGzDecoder::new(&*gzip)
            .read_to_string(&mut text)
            .unwrap();
        let is_settled =
            |line: &&str| line.starts_with("wxapp_portrait_settled{") && line.ends_with(" 1");
        if text.lines().filter(is_settled).count() == apps {
            let of_apps = |line: &&str| line.contains("{appid=\"");
            return Page {
                series: text.lines().filter(of_apps).count(),
                bytes: text.len(),
                gzip_bytes: gzip.len(),
            };
        }
        assert!(start.elapsed() < DEADLINE, "some figures are not settled");
        sleep(PERIOD);
    }
}

/// Returns a job that scrapes all apps at once.
fn at_page(exporter: u16) -> Value {
    json!({"static_configs": [{"targets": [format!("127.0.0.1:{exporter}")]}]})
}

/// Returns a job that scrapes every app alone, as `docs/discovery.md` recommends.
fn at_probe(exporter: u16) -> Value {
    let mut job = at_page(exporter);
    job["params"] = json!({"collect[]": ["exporter"]});
    job["http_sd_configs"] = json!([{"url": format!("http://127.0.0.1:{exporter}/sd")}]);
    job
}

/// What a Prometheus was seen to need.
struct Costs {
    kib: usize,
    peak_kib: usize,
    /// The slowest scrape of the first round, in seconds.
    first: f64,
    /// The scrapes of a later round together, in seconds.
    later: f64,
    /// The evaluations of all groups in seconds, sorted.
    rules: Vec<f64>,
    recorded: f64,
}

impl Costs {
    fn measure(program: &str, job: Value) -> Self {
        let prometheus = Prometheus::start(program, job, INTERVAL);
        let port = prometheus.port;
        let start = Instant::now();
        let (mut peak_kib, mut rules) = (0, Vec::<(String, Duration)>::new());
        while start.elapsed() < WATCHED || rules.is_empty() {
            assert!(
                start.elapsed() < 2 * DEADLINE,
                "{program} evaluates no rules"
            );
            sleep(PERIOD);
            peak_kib = peak_kib.max(prometheus.resident_kib());
            let is_recording = number(port, RECORDED).ok().flatten().is_some();
            if is_recording
                && let Ok(Some(evaluation)) = evaluation(port)
                && rules.last().is_none_or(|last| last.0 != evaluation.0)
            {
                rules.push(evaluation);
            }
        }
        let value = |query: &str| number(port, query).unwrap().unwrap_or(f64::NAN);
        let mut rules: Vec<_> = rules.iter().map(|(_, time)| time.as_secs_f64()).collect();
        rules.sort_by(f64::total_cmp);
        Self {
            kib: prometheus.resident_kib(),
            peak_kib,
            first: value("max(max_over_time(scrape_duration_seconds[10m]))"),
            later: value("sum(scrape_duration_seconds)"),
            rules,
            recorded: value(RECORDED),
        }
    }
}
