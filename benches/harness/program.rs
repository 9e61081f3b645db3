//! The processes: the exporter that is measured, from outside, and the WeChat that it polls.
//!
//! The costs of a process are read from `/proc`, so this works on Linux only. Does not depend on what
//! is archived, and judges nothing.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

use super::fixture::Home;

/// The kernel's unit of CPU time.
const TICK: Duration = Duration::from_millis(10);

/// Nothing that succeeds takes as long.
pub(crate) const DEADLINE: Duration = Duration::from_mins(5);

/// How long an exporter must have done nothing until it counts as idle.
pub(crate) const QUIET: Duration = Duration::from_secs(2);

/// How often the exporter is sampled. Answering that often takes less than 1% of its time.
const PERIOD: Duration = Duration::from_millis(20);

/// Returns the program to measure.
#[expect(
    clippy::disallowed_methods,
    reason = "another build can be measured in the same way"
)]
pub(crate) fn binary() -> PathBuf {
    let own = env!("CARGO_BIN_EXE_wxapp-portrait-exporter");
    std::env::var_os("BENCH_BINARY").map_or_else(|| own.into(), PathBuf::from)
}

/// Returns a port on which nothing listens.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// Sends a GET request and returns the status and the body, which may be compressed.
fn get(port: u16, path: &str) -> io::Result<(u16, Vec<u8>)> {
    get_encoded(port, path, "gzip")
}

/// The same, for a body in this encoding.
pub(crate) fn get_encoded(port: u16, path: &str, encoding: &str) -> io::Result<(u16, Vec<u8>)> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    request(stream, path, encoding)
}

fn request(mut stream: TcpStream, path: &str, encoding: &str) -> io::Result<(u16, Vec<u8>)> {
    send(&mut stream, path, encoding)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(answer)
}

/// What a request took, from connecting on.
pub(crate) struct Timed {
    pub(crate) first_byte: Duration,
    pub(crate) whole: Duration,
    /// Of the body.
    pub(crate) bytes: usize,
}

/// Sends a GET request that succeeds.
pub(crate) fn get_timed(port: u16, path: &str, encoding: &str) -> Timed {
    let start = Instant::now();
    let exchange = || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        send(&mut stream, path, encoding)?;
        let mut answer = vec![0];
        stream.read_exact(&mut answer)?;
        let first_byte = start.elapsed();
        stream.read_to_end(&mut answer)?;
        let whole = start.elapsed();
        let (status, body) = parse(answer)?;
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
        Ok::<_, io::Error>(Timed {
            first_byte,
            whole,
            bytes: body.len(),
        })
    };
    exchange().unwrap()
}

fn send(stream: &mut TcpStream, path: &str, encoding: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(DEADLINE))?;
    // The end of the answer is the end of the connection.
    write!(
        stream,
        "GET {path} HTTP/1.0\r\nAccept-Encoding: {encoding}\r\n\r\n"
    )
}

/// Returns the status and the body of an answer.
fn parse(mut answer: Vec<u8>) -> io::Result<(u16, Vec<u8>)> {
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let status = answer
        .get(9..12)
        .and_then(|status| str::from_utf8(status).ok());
    match (head, status.and_then(|status| status.parse().ok())) {
        (Some(end), Some(status)) => Ok((status, answer.split_off(end + 4))),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// A process that ends with its guard, as when a service is stopped.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().unwrap())
    }

    /// Returns the number of the process.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

/// Waits until something listens on a port.
pub(crate) fn wait_until_listening(port: u16) {
    let start = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        assert!(start.elapsed() < DEADLINE, "nothing listens on port {port}");
        std::thread::sleep(PERIOD);
    }
}

/// A simulated WeChat.
pub(crate) struct WeChat {
    pub(crate) port: u16,
    _process: Running,
}

impl WeChat {
    pub(crate) fn start(home: &Home) -> Self {
        Self::start_with(home, &[])
    }

    /// Starts one with more flags.
    pub(crate) fn start_with(home: &Home, flags: &[String]) -> Self {
        let port = free_port();
        let mut command = Command::new(env!("CARGO_BIN_EXE_wxapp-portrait-exporter"));
        command.arg("simulate").arg("--log.level=warn").args(flags);
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        for app in &home.apps {
            command.arg(format!("--app={}={}", app.appid, app.users));
        }
        let process = Running::start(&mut command);
        wait_until_listening(port);
        Self {
            port,
            _process: process,
        }
    }

    /// Returns how many requests for portraits there were, for each app that has made one.
    pub(crate) fn portrait_requests(&self) -> Vec<u64> {
        #[derive(Deserialize)]
        struct Requests {
            portrait: u64,
        }
        let (_, body) = get(self.port, "/simulator/requests").unwrap();
        let requests: BTreeMap<String, Requests> = serde_json::from_slice(&body).unwrap();
        let portraits = requests.into_values().map(|requests| requests.portrait);
        portraits.filter(|portraits| *portraits > 0).collect()
    }
}

/// An exporter that is measured from outside.
pub(crate) struct Exporter {
    pub(crate) port: u16,
    process: Running,
    log_path: PathBuf,
}

impl Exporter {
    /// Starts it with a WeChat on this port of this host.
    pub(crate) fn start(home: &Home, wechat: u16) -> Self {
        Self::start_with(home, wechat, home.log_path(), &[])
    }

    /// Starts one that polls a part of the apps.
    pub(crate) fn start_shard(home: &Home, wechat: u16, shard: usize, total: usize) -> Self {
        let log_path = home.log_path().with_extension(shard.to_string());
        let flags = [
            format!("--shard={shard}"),
            format!("--total-shards={total}"),
        ];
        Self::start_with(home, wechat, log_path, &flags)
    }

    fn start_with(home: &Home, wechat: u16, log_path: PathBuf, flags: &[String]) -> Self {
        let port = free_port();
        let log = File::create(&log_path).unwrap();
        let process = Running::start(
            Command::new(binary())
                .arg("--config.file")
                .arg(home.write_config(wechat))
                .arg("--storage.path")
                .arg(home.storage_path())
                .arg(format!("--web.listen-address=127.0.0.1:{port}"))
                .args(flags)
                .stderr(log),
        );
        Self {
            port,
            process,
            log_path,
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits until the exporter is ready.
    pub(crate) fn wait_until_ready(&self) {
        let start = Instant::now();
        while !matches!(get(self.port, "/-/ready"), Ok((200, _))) {
            if !fs::exists(format!("/proc/{}/exe", self.id())).unwrap()
                || start.elapsed() > DEADLINE
            {
                let log = fs::read_to_string(&self.log_path).unwrap();
                let end: Vec<&str> = log.lines().rev().take(5).collect();
                panic!("the exporter is not ready; its log ends with {end:#?}");
            }
            std::thread::sleep(PERIOD);
        }
    }

    /// Returns the compressed page for Prometheus.
    pub(crate) fn page(&self) -> Vec<u8> {
        let (status, body) = get(self.port, "/metrics").unwrap();
        assert_eq!(status, 200);
        body
    }

    /// Returns the CPU time of all its threads, including those that have ended.
    pub(crate) fn cpu(&self) -> Duration {
        cpu(self.id(), 2).unwrap()
    }

    /// Waits until the exporter has been idle for this long, and returns its CPU time before
    /// that.
    pub(crate) fn wait_until_quiet(&self, quiet: Duration) -> Duration {
        let start = Instant::now();
        let mut busy = (self.cpu(), start);
        while busy.1.elapsed() < quiet {
            assert!(
                start.elapsed() < DEADLINE,
                "the exporter is busy all the time"
            );
            std::thread::sleep(PERIOD);
            let cpu = self.cpu();
            // Answering `/-/healthy` takes a tick now and then.
            if cpu > busy.0 + 2 * TICK {
                busy = (cpu, Instant::now());
            }
        }
        busy.0
    }

    /// Waits until every app has been polled, so that none is due for minutes. Returns the CPU time until
    /// then, and how many portraits were requested.
    pub(crate) fn wait_until_polled(&self, wechat: &WeChat, apps: usize) -> (Duration, u64) {
        let start = Instant::now();
        loop {
            let cpu = self.wait_until_quiet(QUIET);
            let requests = wechat.portrait_requests();
            if requests.len() == apps {
                return (cpu, requests.iter().sum());
            }
            assert!(start.elapsed() < DEADLINE, "some apps were not polled");
        }
    }

    /// Lets [`Self::peak_resident_kib`] begin anew.
    pub(crate) fn reset_peak_resident(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.id()), "5").unwrap();
    }

    pub(crate) fn threads(&self) -> usize {
        status(self.id(), "Threads:").unwrap()
    }

    pub(crate) fn resident_kib(&self) -> usize {
        resident_kib(self.id())
    }

    pub(crate) fn peak_resident_kib(&self) -> usize {
        status(self.id(), "VmHWM:").unwrap()
    }
}

/// Returns the CPU time of a process and its children, running or not, without that of their children.
pub(crate) fn cpu_of_family(process: u32) -> Duration {
    let children = children(process).into_iter();
    let children = children.filter_map(|child| cpu(child, 2));
    // Of those that have ended, the kernel adds it to their parent's.
    cpu(process, 4).unwrap() + children.sum::<Duration>()
}

/// Returns the processes that a process has started itself and that run.
pub(crate) fn children(process: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    let children = children.unwrap();
    let children = children.split_whitespace();
    children.map(|child| child.parse().unwrap()).collect()
}

/// Returns the resident size of a process.
pub(crate) fn resident_kib(process: u32) -> usize {
    status(process, "VmRSS:").unwrap()
}

/// Returns the CPU time of a process, if it runs: by itself and in the kernel with two fields, with four of
/// them also that of its children that have ended.
pub(crate) fn cpu(process: u32, fields: usize) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name of the program, in parentheses, may hold spaces.
    let (_, times) = stat.rsplit_once(") ").unwrap();
    let times = times.split(' ').skip(11).take(fields);
    let ticks: u32 = times.map(|field| field.parse::<u32>().unwrap()).sum();
    Some(TICK * ticks)
}

/// Returns a number from the kernel's status of a process, if that runs.
fn status(process: u32, key: &str) -> Option<usize> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(key))?;
    value.split_whitespace().next()?.parse().ok()
}

/// Measures the CPU time of processes between two moments, more precisely than the kernel's ticks.
pub(crate) struct CpuWatch {
    processes: Vec<u32>,
    before: BTreeMap<OsString, u64>,
}

impl CpuWatch {
    /// Watches an exporter.
    pub(crate) fn start(exporter: &Exporter) -> Self {
        Self::of(vec![exporter.id()])
    }

    /// Watches processes.
    pub(crate) fn of(processes: Vec<u32>) -> Self {
        Self {
            before: cpu_of_threads(&processes),
            processes,
        }
    }

    /// Returns the CPU time since the start, without that of threads that have ended: those that have had
    /// nothing to do for ten seconds.
    pub(crate) fn stop(self) -> Duration {
        let now = cpu_of_threads(&self.processes).into_iter();
        let nanoseconds = now.map(|(thread, cpu)| {
            let before = self.before.get(&thread).copied();
            cpu.saturating_sub(before.unwrap_or_default())
        });
        Duration::from_nanos(nanoseconds.sum())
    }
}

/// Returns the CPU time of every thread of processes that runs, in nanoseconds.
fn cpu_of_threads(processes: &[u32]) -> BTreeMap<OsString, u64> {
    let threads = processes
        .iter()
        .flat_map(|process| fs::read_dir(format!("/proc/{process}/task")).unwrap());
    let threads = threads.filter_map(|thread| {
        let thread = thread.ok()?;
        // A thread may just have ended.
        let times = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let cpu = times.split(' ').next()?.parse().ok()?;
        Some((thread.file_name(), cpu))
    });
    threads.collect()
}

/// A thread that samples the exporter until it is stopped.
struct Watch<T> {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Watch<T> {
    /// Calls `look` repeatedly, and returns its last result in the end.
    fn start(mut look: impl FnMut() -> T + Send + 'static) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let ending = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            loop {
                let result = look();
                if ending.load(Ordering::Relaxed) {
                    return result;
                }
                std::thread::sleep(PERIOD);
            }
        });
        Self { is_over, thread }
    }

    fn stop(self) -> T {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Finds the largest number of threads.
pub(crate) struct ThreadWatch(Watch<usize>);

impl ThreadWatch {
    pub(crate) fn start(exporter: &Exporter) -> Self {
        let process = exporter.id();
        let mut most = 0;
        Self(Watch::start(move || {
            most = most.max(status(process, "Threads:").unwrap_or(0));
            most
        }))
    }

    pub(crate) fn stop(self) -> usize {
        self.0.stop()
    }
}

/// How long `/-/healthy` takes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Health {
    /// From when the exporter listens until the first answer.
    pub(crate) first: Duration,
    /// The slowest answer.
    pub(crate) slowest: Duration,
}

/// Requests `/-/healthy` repeatedly.
pub(crate) struct HealthWatch(Watch<Health>);

impl HealthWatch {
    pub(crate) fn start(exporter: &Exporter) -> Self {
        let port = exporter.port;
        let mut listening_since = None;
        let mut health = Health::default();
        Self(Watch::start(move || {
            // While nothing listens the connection is refused.
            while let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
                let start = Instant::now();
                let listening_since = *listening_since.get_or_insert(start);
                let Ok((200, _)) = request(stream, "/-/healthy", "identity") else {
                    continue;
                };
                if health.first.is_zero() {
                    health.first = listening_since.elapsed();
                }
                health.slowest = health.slowest.max(start.elapsed());
                break;
            }
            health
        }))
    }

    pub(crate) fn stop(self) -> Health {
        self.0.stop()
    }
}
