//! The pages for people: `overview` lists all apps, `app` shows one of them.
//!
//! Both are functions of what the pollers have published; the days of an app come from `history`. `facts` is what
//! a snapshot amounts to for people, `sentences` says it in their language, `frame` is what all pages
//! share, and `assets` are the style sheet and the script. `missing` is shown for an app that is not configured.

mod app;
mod assets;
mod facts;
mod frame;
mod missing;
mod overview;
mod sentences;
mod totals;

pub(super) use app::app;
pub(super) use assets::asset;
pub(super) use missing::missing;
pub(super) use overview::overview;
