//! What the benchmarks share: an exporter's directory, the processes, and tables of figures.

pub(crate) mod fixture;
pub(crate) mod program;
pub(crate) mod table;

use std::time::Duration;

/// Returns a number of KiB in MiB.
pub(crate) fn mib(kib: usize) -> f64 {
    kib as f64 / 1024.0
}

/// Returns a duration in milliseconds.
pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Times in milliseconds, sorted.
pub(crate) struct Times(Vec<f64>);

impl Times {
    /// Takes them in any order.
    pub(crate) fn new(times: impl Iterator<Item = Duration>) -> Self {
        let mut times: Vec<_> = times.map(millis).collect();
        times.sort_by(f64::total_cmp);
        Self(times)
    }

    /// Returns the time that this part of them does not exceed; not a number if there are none.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is the place in a short list"
    )]
    pub(crate) fn quantile(&self, part: f64) -> f64 {
        let place = (part * self.0.len() as f64).ceil() as usize;
        let time = self.0.get(place.saturating_sub(1));
        time.copied().unwrap_or(f64::NAN)
    }

    /// Returns `true` if there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
