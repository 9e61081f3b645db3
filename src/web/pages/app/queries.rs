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
    let mut queries = vec![
        (
            language.pick("新增与活跃用户", "New and active users"),
            format!("wxapp_portrait_cohort_users{{{selector}}}"),
        ),
        (
            language.pick("各平台用户", "Users by platform"),
            format!("wxapp_portrait_users{{{selector},dimension=\"platform\"}}"),
        ),
        (
            language.pick("各平台占比", "Share of platforms"),
            format!(
                "wxapp_portrait_users{{{selector},dimension=\"platform\"}}\n  / on (job, instance, appid, window, cohort) group_left ()\n  wxapp_portrait_cohort_users{{{selector}}}"
            ),
        ),
    ];
    if window == Window::OneDay {
        queries.insert(
            1,
            (
                language.pick("往常值与正常区间", "What is usual, and its bounds"),
                format!("wxapp_portrait_expected_cohort_users{{{of_app}}}"),
            ),
        );
        queries.push((
            language.pick("该小程序的告警", "Alerts about this app"),
            format!("ALERTS{{{of_app}}}"),
        ));
    }
    queries
}
