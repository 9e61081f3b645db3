//! Beijing days, and what kind of day they are.
//!
//! `days` has the days that WeChat counts, whatever the zone of the host; `holidays` has workdays,
//! weekends, public holidays and the workdays that make up for them.

mod days;
mod holidays;

pub use days::*;
pub use holidays::{DayKind, Holidays};
