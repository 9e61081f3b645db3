//! Queries for Prometheus about an app.

use crate::language::Language;
use crate::portrait::Window;
use crate::state::AppSnapshot;

/// Returns queries for Prometheus, and what each of them finds.
pub(super) fn queries(
    language: Language,
    app: &AppSnapshot,
    window: Window,
) -> Vec<(&'static str, String)> {
    let of_app = format!("appid=\"{}\"", app.appid);
    let selector = format!("{of_app},window=\"{window}\"");
    let total = format!("wxapp_portrait_cohort_users{{{selector}}}");
    let by_platform = format!("wxapp_portrait_users{{{selector},dimension=\"platform\"}}");
    let mut queries = vec![(
        language.pick("新增与活跃用户", "New and active users"),
        total.clone(),
    )];
    if window == Window::OneDay {
        queries.push((
            language.pick("往常值与正常区间", "Expected users and their bounds"),
            format!("wxapp_portrait_expected_cohort_users{{{of_app}}}"),
        ));
    }
    if shows_platforms(app) {
        queries.push((
            language.pick("各平台用户", "Users by platform"),
            by_platform.clone(),
        ));
        queries.push((
            language.pick("各平台占比", "Share of platforms"),
            format!("{by_platform}\n  / on (job, instance, appid, window, cohort) group_left ()\n  {total}"),
        ));
    }
    queries.push((
        language.pick("该小程序的告警", "Alerts about this app"),
        format!("ALERTS{{{of_app}}}"),
    ));
    queries
}

/// Returns `true` unless the configuration hides platforms.
fn shows_platforms(app: &AppSnapshot) -> bool {
    let summaries = app.windows.iter().filter_map(|window| {
        let summary = window.summary.as_ref()?;
        (window.window == Window::OneDay).then_some(summary)
    });
    let mut cohorts = summaries.flat_map(|summary| &summary.cohorts);
    cohorts.all(|cohort| cohort.platforms.is_empty() || !cohort.expected.platforms.is_empty())
}
