//! The page of an app that is not configured, or is one of another shard.

use askama::Template;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};

use super::frame::{self, Choice, Frame};
use crate::language::Language;
use crate::shard::Shard;
use crate::web::state::AppState;

#[derive(Debug, Template)]
#[template(path = "missing.html")]
struct Missing {
    frame: Frame,
    name: String,
    /// The shard of the app, and this one, if that is another.
    shards: Option<(u32, Shard)>,
}

/// Returns the page of an app that is not configured or is one of another shard, with status 404.
pub(in crate::web) async fn missing(
    state: &AppState,
    name: String,
    parameters: &[(String, String)],
    headers: HeaderMap,
) -> Response {
    let frame = Frame::new(state, parameters, &headers, "../");
    let language = frame.language;
    let shard = state.shard;
    let appid = name.parse().ok();
    let owner = appid.and_then(|appid| shard.other_owner(&appid));
    let response = frame::respond(&state.rendering, language, headers, move || Missing {
        frame,
        name,
        shards: owner.map(|owner| (owner, shard)),
    })
    .await;
    (StatusCode::NOT_FOUND, response).into_response()
}

impl Missing {
    fn t(&self, chinese: &'static str, english: &'static str) -> &'static str {
        self.frame.language.pick(chinese, english)
    }

    fn languages(&self) -> [Choice; Language::ALL.len()] {
        frame::languages(&self.frame, |language| format!("?lang={language}"))
    }
}
