//! Charts for pages, as inline SVG without scripts, styles or fixed colors.
//!
//! `days` and `shares` are charts over days and have in common a `plot` with axes, whose labels `ticks`
//! chooses; `sparkline` and `bar` are small and decorative; `svg` writes paths and texts. Colors come from
//! the classes in `src/web/pages/assets/chart.css`. Knows nothing of apps, portraits, languages or HTTP.

mod bar;
mod days;
mod plot;
mod shares;
mod sparkline;
mod svg;
mod ticks;

pub use bar::Bar;
pub use days::{Day, DayChart, Expected, Shade};
pub use plot::Axes;
pub use shares::{DayShares, ShareChart};
pub use sparkline::Sparkline;
pub use svg::Swing;
