//! What the bundled rules cost a Prometheus that scrapes an exporter.
//!
//! The oldest supported Prometheus is expected in `PATH`, the newest where `tests/run` installs it.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::program::{DEADLINE, Exporter, Running, free_port, get_encoded, resident_kib};

/// How often the rules are evaluated. The exporter is scraped once a minute.
const INTERVAL: Duration = Duration::from_secs(10);

/// How many evaluations are measured.
const EVALUATIONS: usize = 12;

/// The goal for an evaluation of all groups, in seconds.
pub(crate) const EVALUATION: f64 = 0.5;

/// What a Prometheus was seen to need.
pub(crate) struct Costs {
    /// An evaluation of all groups, the median.
    pub(crate) evaluation: Duration,
    /// The longest.
    pub(crate) slowest: Duration,
    /// How many series the rules record, without alerts.
    pub(crate) recorded: f64,
    /// How many series it scraped.
    pub(crate) scraped: f64,
}

/// Returns the programs to measure.
pub(crate) fn programs() -> [&'static str; 2] {
    [
        "prometheus",
        concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/newer/prometheus"),
    ]
}

/// Returns the version of a Prometheus.
pub(crate) fn version(program: &str) -> String {
    let output = Command::new(program).arg("--version").output().unwrap();
    // Some versions write it to standard error.
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let version = text.split_whitespace().nth(2);
    version.unwrap_or_default().to_owned()
}

impl Costs {
    /// Lets a Prometheus scrape an exporter and evaluate the rules once the figures of this many apps are
    /// settled.
    pub(crate) fn measure(program: &str, exporter: &Exporter, apps: usize) -> Self {
        let target = format!("127.0.0.1:{}", exporter.port);
        let job = json!({"static_configs": [{"targets": [target]}]});
        let prometheus = Prometheus::start(program, job, INTERVAL);
        let port = prometheus.port;
        let start = Instant::now();
        let mut evaluations: Vec<(String, Duration)> = Vec::new();
        // Those before figures are settled are not measured.
        while evaluations.len() < 1 + EVALUATIONS {
            assert!(start.elapsed() < DEADLINE, "{program} evaluates no rules");
            sleep(INTERVAL / 10);
            let recorded = number(port, RECORDED).ok().flatten();
            if recorded.is_some_and(|series| series >= apps as f64)
                && let Ok(Some(evaluation)) = evaluation(port)
                && evaluations.last().is_none_or(|last| last.0 != evaluation.0)
            {
                evaluations.push(evaluation);
            }
        }
        let mut durations: Vec<_> = evaluations
            .drain(1..)
            .map(|(_, duration)| duration)
            .collect();
        durations.sort();
        Self {
            evaluation: durations[EVALUATIONS / 2],
            slowest: durations[EVALUATIONS - 1],
            recorded: number(port, RECORDED).unwrap().unwrap(),
            scraped: number(port, "sum(scrape_samples_scraped)")
                .unwrap()
                .unwrap(),
        }
    }
}

/// A Prometheus with the bundled rules.
pub(crate) struct Prometheus {
    pub(crate) port: u16,
    /// Ends before its data are removed.
    process: Running,
    _directory: TempDir,
}

impl Prometheus {
    /// Starts it; `job` says what is scraped once a minute, and `interval` how often the rules are evaluated.
    pub(crate) fn start(program: &str, mut job: Value, interval: Duration) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("alerts/wxapp-portrait.rules.yml");
        job["job_name"] = json!("wxapp-portrait");
        let config = json!({
            "global": {
                "scrape_interval": "1m",
                "scrape_timeout": "1m",
                "evaluation_interval": format!("{}s", interval.as_secs()),
            },
            "rule_files": [rules],
            "scrape_configs": [job],
        });
        let file = directory.path().join("prometheus.yml");
        fs::write(&file, config.to_string()).unwrap();
        let port = free_port();
        let process = Running::start(
            Command::new(program)
                .arg("--config.file")
                .arg(&file)
                .arg("--storage.tsdb.path")
                .arg(directory.path().join("data"))
                .arg(format!("--web.listen-address=127.0.0.1:{port}"))
                .stderr(Stdio::null()),
        );
        Self {
            port,
            process,
            _directory: directory,
        }
    }

    /// Returns its resident size.
    pub(crate) fn resident_kib(&self) -> usize {
        resident_kib(self.process.id())
    }
}

pub(crate) const RECORDED: &str = "count({__name__=~\"instance.*:wxapp_portrait_.*\"})";

/// Returns when the last group was evaluated, and how long all of them took.
pub(crate) fn evaluation(port: u16) -> io::Result<Option<(String, Duration)>> {
    let answer = api(port, "/api/v1/rules")?;
    let groups = answer["data"]["groups"].as_array();
    Ok(groups.and_then(|groups| {
        let seconds = groups
            .iter()
            .filter_map(|group| group["evaluationTime"].as_f64());
        let last = groups.last()?["lastEvaluation"].as_str()?.to_owned();
        Some((last, Duration::from_secs_f64(seconds.sum())))
    }))
}

/// Returns the result of a query for one number.
pub(crate) fn number(port: u16, query: &str) -> io::Result<Option<f64>> {
    let query: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
    let answer = api(port, &format!("/api/v1/query?query={query}"))?;
    let value = answer["data"]["result"][0]["value"][1].as_str();
    Ok(value.and_then(|value| value.parse().ok()))
}

fn api(port: u16, path: &str) -> io::Result<Value> {
    let (_, body) = get_encoded(port, path, "identity")?;
    Ok(serde_json::from_slice(&body)?)
}
