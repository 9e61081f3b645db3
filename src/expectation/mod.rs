//! What the archived days of an app let expect of its newest one: the usual figure, and the bounds
//! beyond which a figure is a swing. Pure.
//!
//! Figures are the users of a cohort and of each platform, as logarithms *x* (0 users as a half), and each
//! platform's share of the cohort.
//!
//! 1. A day is compared with the last four of the same weekday that are archived and neither public
//!    holidays nor make-up workdays; a make-up workday with the last four workdays; a holiday with none
//!    (its shares with the last four days that are not holidays). Two are enough.
//! 2. Trend *t*: the median over 56 days of (*x* − median of the days compared) ÷ their mean age in days;
//!    0 for shares, and with fewer than 21 such days. A compared day of age *a* counts as *m* = *x* + *t a*.
//!    Usual *u* is the median of the *m*.
//! 3. Own deviations *e* = *x* − *u* of these 56 days, except holidays and make-up workdays;
//!    *σ* = 1.4826 · median |*e* − median *e*|.
//! 4. Threshold *T* = 3 *σ*, at most ln(1 / 0.35), and at least −ln(1 − `threshold_ratio`) (shares: at
//!    least 0.1). With fewer than 21 own deviations the least one. While there is none, and fewer than two
//!    days to compare with, *u* is the day before, if people work on both days or on neither, and *T* twice
//!    the least.
//! 5. A swing is below *u* − *T*; below the quantile 1/3 of the *m*, − *T*/2 (shares and fewer than 21 own
//!    deviations: the lowest, the day before included while there are none); and below *u* + *d* − *T*/2 for the
//!    deviations *d* of each of the last three days, of whatever kind, − *T* where −*d* > *T*: a change that
//!    lasts is a swing once. Above, the same with opposite signs.
//! 6. It is more than chance: √users differs from √usual by more than 2.2; a share by more than
//!    2 √(1/n + 1/N), four standard deviations, for n users now and N on the days compared.
//! 7. It is of enough people, `min_users` usually or on the day; a fifth of them for a platform that vanishes
//!    or appears.
//!
//! Drift: the mean of the last seven own deviations without the highest and the lowest. The limit is 0.6 of
//! the least threshold or 1.5 *σ* (four standard deviations of such a mean) below 0, whichever is farther;
//! half of that once a decline has begun, until it ends. After a fall that was a swing and lasts it is that far
//! below the level to which the figures fell.

mod alerts;
mod bounds;
mod comparison;
mod days;
mod deviations;
mod drift;
mod statistics;

pub use alerts::{Alert, AlertFigures};
pub use bounds::{Bound, Bounds};
pub use comparison::{CohortExpectation, PlatformExpectation, expect, expect_users};
pub use days::{HISTORY_DAYS, Kinds};
pub use drift::Drift;
pub use statistics::float;
