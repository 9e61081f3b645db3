//! The page of an app that is not configured.

use askama::Template;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};

use super::frame::{self, Choice, Frame};
use crate::language::Language;
use crate::web::state::AppState;

#[derive(Debug, Template)]
#[template(path = "missing.html")]
struct Missing {
    frame: Frame,
    name: String,
}

/// Returns the page of an app that is not configured, with status 404.
pub(in crate::web) async fn missing(
    state: &AppState,
    name: String,
    parameters: &[(String, String)],
    headers: HeaderMap,
) -> Response {
    let frame = Frame::new(state, parameters, &headers, "../");
    let language = frame.language;
    let response = frame::respond(&state.rendering, language, headers, move || Missing {
        frame,
        name,
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
