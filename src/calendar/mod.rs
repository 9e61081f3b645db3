//! Beijing days, and what kind of day they are.
//!
//! `days` has the days that WeChat counts, whatever the zone of the host; `holidays` has workdays,
//! weekends, public holidays and the workdays that make up for them. `holiday_year` has the days of one
//! year, as a file of holiday-cn lists them, and `china` the years that are built in.

mod china;
mod days;
mod holiday_year;
mod holidays;

pub use days::*;
pub use holiday_year::HolidayYear;
pub use holidays::{DayKind, Holidays};
