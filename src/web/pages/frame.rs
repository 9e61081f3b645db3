//! What all pages share: the language, links, problems of the exporter, and how a page is sent.

use askama::Template;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, Utc};

use super::assets;
use crate::calendar;
use crate::language::Language;
use crate::web::compressed::send_text;
use crate::web::rendering::Rendering;
use crate::web::state::AppState;

/// What a request asks for, and when.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub(super) language: Language,
    /// The language as the address names it, so that links keep it; `None` if the browser chose.
    pub(super) chosen: Option<Language>,
    pub(super) now: DateTime<Utc>,
    /// What leads from the page to the root: all links are relative, as a proxy may serve the exporter
    /// elsewhere.
    pub(super) root: &'static str,
    pub(super) telemetry_path: String,
    /// Why the configuration that was read last is not applied; a line for each problem.
    pub(super) config_problem: Option<String>,
    pub(super) archive_problem: Option<String>,
}

/// One of several links, such as those to the languages.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) link: String,
    pub(super) label: &'static str,
    pub(super) is_current: bool,
}

impl Frame {
    pub(super) fn new(
        state: &AppState,
        parameters: &[(String, String)],
        headers: &HeaderMap,
        root: &'static str,
    ) -> Self {
        let chosen = parameter(parameters, "lang").and_then(|lang| lang.parse().ok());
        let accepted = headers.get(header::ACCEPT_LANGUAGE);
        let accepted = accepted.and_then(|value| value.to_str().ok());
        Self {
            language: chosen.unwrap_or_else(|| Language::of_browser(accepted.unwrap_or_default())),
            chosen,
            now: (state.clock)(),
            root,
            telemetry_path: state.paths.telemetry.trim_start_matches('/').to_owned(),
            config_problem: state.config_problem(),
            archive_problem: state.archive.problem(),
        }
    }

    /// Returns the time as the clocks of Beijing show it.
    pub(super) fn clock(&self) -> String {
        let now = calendar::in_beijing(self.now);
        now.format("%Y-%m-%d %H:%M").to_string()
    }

    pub(super) fn time(&self, time: DateTime<Utc>) -> String {
        self.language.time(time, self.now)
    }

    pub(super) fn style(&self) -> String {
        format!("{}{}", self.root, assets::path(assets::STYLE))
    }

    pub(super) fn script(&self) -> String {
        format!("{}{}", self.root, assets::path(assets::SCRIPT))
    }

    pub(super) fn link_to_overview(&self) -> String {
        match self.keep_language().as_str() {
            "" => self.root.to_owned(),
            language => format!("{}?{language}", self.root),
        }
    }

    /// Returns the parameter that keeps the chosen language, to be appended to a link that has `?`.
    pub(super) fn keep_language(&self) -> String {
        let chosen = self.chosen.map(|language| format!("lang={language}"));
        chosen.unwrap_or_default()
    }
}

/// Returns links to the page in every language.
pub(super) fn languages(
    frame: &Frame,
    link: impl Fn(Language) -> String,
) -> [Choice; Language::ALL.len()] {
    Language::ALL.map(|language| Choice {
        link: link(language),
        label: language.pick("中文", "English"),
        is_current: language == frame.language,
    })
}

/// Returns the value of a parameter of the address.
pub(super) fn parameter<'a>(parameters: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut parameters = parameters.iter();
    let found = parameters.find(|(other, _)| other == name);
    found.map(|(_, value)| value.as_str())
}

/// Returns parameters as they follow the `?` of a link.
pub(super) fn query<'a>(parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in parameters {
        if !value.is_empty() {
            query.append_pair(name, value);
        }
    }
    query.finish()
}

/// Renders a page when it is its turn, and sends it.
pub(super) async fn respond<T: Template + Send + 'static>(
    rendering: &Rendering,
    language: Language,
    headers: HeaderMap,
    page: impl FnOnce() -> T + Send + 'static,
) -> Response {
    let rendered = rendering.run(move || {
        let html = page().render()?;
        Ok::<_, askama::Error>(send_text("text/html; charset=utf-8", html, &headers))
    });
    match rendered.await {
        Some(Ok(response)) => {
            let fields = [
                (header::CONTENT_LANGUAGE, language.tag()),
                (header::VARY, "accept-encoding, accept-language"),
                (header::CACHE_CONTROL, "no-cache"),
            ];
            (fields, response).into_response()
        }
        failed => {
            // A panic was logged by the hook.
            if let Some(Err(error)) = failed {
                tracing::error!(%error, "cannot render a page");
            }
            let text = "cannot render the page, see the log\n";
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
    }
}
