//! The metrics of the process itself, with the names of Prometheus' client libraries.
//!
//! Read for every scrape, so with few system calls. They come from `/proc`, which only Linux has: elsewhere
//! there are none. Does not depend on what the exporter does.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Which fields of `/proc/self/stat` are read, counted from the one after the name (proc(5) counts from 1, and
/// this one is its third).
const THREADS: usize = 17;
const START_TIME: usize = 19;
const VIRTUAL_MEMORY: usize = 20;
const RESIDENT_PAGES: usize = 21;

const DESCRIPTORS: &str = "/proc/self/fd";

/// Longer than the file, whose fields are numbers but for a short name.
const STAT_BYTES: usize = 2048;

/// Measures the process.
#[derive(Debug)]
pub(super) struct Process {
    /// `/proc/self/stat`, kept open: the kernel writes it anew whenever it is read from the start.
    stat: Option<File>,
    /// `/proc/self/fd`, kept open, and counted as one of its entries.
    descriptors: Option<File>,
    /// When the kernel started, in seconds since 1970; `None` if that is not known.
    booted_at: Option<u64>,
}

impl Process {
    /// Prepares to measure this process.
    pub(super) fn of_self() -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let booted_at = stat.lines().find_map(|line| line.strip_prefix("btime "));
        Self {
            stat: File::open("/proc/self/stat").ok(),
            descriptors: File::open(DESCRIPTORS).ok(),
            booted_at: booted_at.and_then(|seconds| seconds.trim().parse().ok()),
        }
    }

    /// Returns its metrics in the text format; those that cannot be read are absent.
    pub(super) fn text(&self) -> String {
        let mut stat = [0; STAT_BYTES];
        let read = self
            .stat
            .as_ref()
            .and_then(|file| file.read_at(&mut stat, 0).ok());
        let stat = read.and_then(|len| std::str::from_utf8(stat.get(..len)?).ok());
        // The name of the program, in parentheses, may contain spaces.
        let fields = stat.and_then(|stat| stat.rsplit_once(") "));
        let Some((_, fields)) = fields else {
            return String::new();
        };
        let mut numbers = [None; RESIDENT_PAGES + 1];
        for (number, field) in numbers.iter_mut().zip(fields.split(' ')) {
            *number = field.parse::<u64>().ok();
        }
        let started_at = numbers[START_TIME]
            .zip(self.booted_at)
            .map(|(ticks, booted_at)| booted_at + ticks / clock_ticks_per_second());
        let resident = numbers[RESIDENT_PAGES].map(|pages| pages * page_size() as u64);

        let mut text = String::with_capacity(1024);
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = format!("{}.{:09}", cpu.tv_sec, cpu.tv_nsec);
        let help = "Total user and system CPU time spent in seconds.";
        add(&mut text, "cpu_seconds_total", "counter", help, Some(cpu));
        let mut gauge = |name, help, value: Option<u64>| add(&mut text, name, "gauge", help, value);
        let files = getrlimit(Resource::Nofile).current;
        gauge("max_fds", "Maximum number of open file descriptors.", files);
        let descriptors = self.open_descriptors();
        gauge("open_fds", "Number of open file descriptors.", descriptors);
        gauge(
            "resident_memory_bytes",
            "Resident memory size in bytes.",
            resident,
        );
        gauge(
            "start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
            started_at,
        );
        gauge(
            "threads",
            "Number of OS threads in the process.",
            numbers[THREADS],
        );
        gauge(
            "virtual_memory_bytes",
            "Virtual memory size in bytes.",
            numbers[VIRTUAL_MEMORY],
        );
        text
    }

    /// Returns the number of open file descriptors. Since Linux 6.2 it is the size of their directory; before,
    /// its entries are counted.
    fn open_descriptors(&self) -> Option<u64> {
        let number = self.descriptors.as_ref()?.metadata().ok()?.len();
        if number > 0 {
            return Some(number);
        }
        Some(fs::read_dir(DESCRIPTORS).ok()?.count() as u64)
    }
}

/// Adds a metric, if it has a value.
fn add(
    text: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    value: Option<impl std::fmt::Display>,
) {
    if let Some(value) = value {
        let _ = write!(
            text,
            "# HELP process_{name} {help}\n# TYPE process_{name} {kind}\nprocess_{name} {value}\n"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::UNIX_EPOCH;

    use super::*;

    fn values(text: &str) -> BTreeMap<&str, f64> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let values = lines.map(|line| line.split_once(' ').unwrap());
        values
            .map(|(name, value)| (name, value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn a_process_is_measured_as_the_system_does() {
        let text = Process::of_self().text();
        let values = values(&text);
        assert_eq!(values.len(), 7);
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let status = |key: &str| -> f64 {
            let value = status.lines().find_map(|line| line.strip_prefix(key));
            let value = value.unwrap().split_whitespace().next();
            value.unwrap().parse().unwrap()
        };
        // What other tests do meanwhile changes these.
        for (key, name) in [
            ("VmRSS:", "process_resident_memory_bytes"),
            ("VmSize:", "process_virtual_memory_bytes"),
        ] {
            let ratio = status(key) * 1024.0 / values[name];
            assert!((0.1..10.0).contains(&ratio), "{name}: {ratio}");
        }
        let age =
            UNIX_EPOCH.elapsed().unwrap().as_secs_f64() - values["process_start_time_seconds"];
        assert!((-60.0..86_400.0).contains(&age), "{age}");
        assert!(values["process_threads"] >= 1.0);
        assert!(values["process_cpu_seconds_total"] > 0.0);
        let open = values["process_open_fds"];
        assert!(open >= 3.0 && open <= values["process_max_fds"], "{open}");
    }
}
