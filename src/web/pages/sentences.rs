//! Sentences for people: what is unusual, whether figures have arrived, why polls fail.

use super::facts::Facts;
use crate::calendar::DayKind;
use crate::expectation::{Alert, float};
use crate::language::{self, Language};
use crate::portrait::{Cohort, Dimension, OTHER_NAME, UNKNOWN_NAME, Window};
use crate::state::{Arrival, PollOutcome, PolledBy};
use crate::wechat::chinese;
use crate::wechat::errcodes::Reason;

pub(super) fn cohort(language: Language, cohort: Cohort) -> &'static str {
    match cohort {
        Cohort::New => language.pick("新增", "new users"),
        Cohort::Active => language.pick("活跃", "active users"),
    }
}

/// Returns the same as a heading.
pub(super) fn cohort_title(language: Language, cohort: Cohort) -> &'static str {
    match cohort {
        Cohort::New => language.pick("新增用户", "New users"),
        Cohort::Active => language.pick("活跃用户", "Active users"),
    }
}

pub(super) fn dimension(language: Language, dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::Province => language.pick("省份", "Province"),
        Dimension::City => language.pick("城市", "City"),
        Dimension::Gender => language.pick("性别", "Gender"),
        Dimension::Platform => language.pick("平台", "Platform"),
        Dimension::Device => language.pick("机型", "Device"),
        Dimension::Age => language.pick("年龄", "Age"),
    }
}

pub(super) fn window(language: Language, window: Window) -> &'static str {
    match window {
        Window::OneDay => language.pick("单日", "1 day"),
        Window::SevenDays => language.pick("近 7 天", "7 days"),
        Window::ThirtyDays => language.pick("近 30 天", "30 days"),
    }
}

/// Returns a name of WeChat as people read it.
pub(super) fn name(language: Language, name: &str) -> &str {
    match name {
        OTHER_NAME => language.pick("（其余）", "(other)"),
        UNKNOWN_NAME => language.pick(UNKNOWN_NAME, "未知 (unknown)"),
        name => name,
    }
}

/// Returns the kind of a day, with the holiday; empty if it is not known.
pub(super) fn day_kind(language: Language, kind: DayKind, holiday: &str) -> String {
    let kind = match kind {
        DayKind::Workday => language.pick("工作日", "workday"),
        DayKind::Weekend => language.pick("周末", "weekend"),
        DayKind::Holiday => language.pick("节假日", "holiday"),
        DayKind::MakeupWorkday => language.pick("调休上班日", "make-up workday"),
        DayKind::Unknown => return String::new(),
    };
    match holiday {
        "" => kind.to_owned(),
        holiday => format!("{kind}{}{holiday}", language.pick("：", ": ")),
    }
}

/// Returns what is unusual about a cohort, with its figures.
pub(super) fn alert(language: Language, facts: &Facts<'_>, found: (Cohort, Alert<'_>)) -> String {
    let (of_cohort, alert) = found;
    let Some(summary) = facts.summary() else {
        return String::new();
    };
    let summary = &summary.cohorts[of_cohort as usize];
    let figures = summary.expected.figures(&summary.platforms, alert);
    let users = figures.users.unwrap_or_default();
    let usual = figures.usual.unwrap_or_default();
    let cohort = cohort(language, of_cohort);
    match alert {
        Alert::UsersSwing => against_usual(language, cohort, users, usual),
        Alert::PlatformUsersSwing(on) => {
            let what = format!("{} {cohort}", name(language, on));
            against_usual(language, &what, users, usual)
        }
        Alert::PlatformShareShift(on) => {
            let shares = [figures.share, figures.usual_share];
            let [share, usual] = shares.map(|share| language::share(share.unwrap_or_default()));
            let on = name(language, on);
            language.pick(
                format!("{on} 占{cohort}用户 {share}，往常 {usual}"),
                format!("{on}: {share} of {cohort}, usually {usual}"),
            )
        }
        Alert::PlatformVanished(on) => {
            let (usual, on) = (language::rounded(usual), name(language, on));
            language.pick(
                format!("{on} {cohort}归零，往常 {usual}"),
                format!("{on}: no {cohort} any more, usually {usual}"),
            )
        }
        Alert::PlatformAppeared(on) => {
            let (users, on) = (language::number(users), name(language, on));
            language.pick(
                format!("{on} 出现{cohort} {users}，往常为 0"),
                format!("{on}: {users} {cohort}, usually none"),
            )
        }
        Alert::UsersDrift => {
            let ratio = summary.expected.drift.map_or(0.0, |drift| drift.ratio);
            let change = language::change(ratio);
            language.pick(
                format!("{cohort}近 7 个可比日累计较往常 {change}"),
                format!("{cohort} decline slowly: {change} in the last 7 comparable days together"),
            )
        }
    }
}

/// Returns a number of users; a dash if it is not known.
pub(super) fn users(users: Option<u64>) -> String {
    users.map_or_else(|| "–".to_owned(), language::number)
}

/// Returns how users changed; a dash if there were none.
pub(super) fn change(users: u64, before: u64) -> String {
    if before == 0 {
        return "–".to_owned();
    }
    language::change(float(users) / float(before) - 1.0)
}

/// Returns a figure with the usual one, as `iPhone 新增 60，往常 166（−63.9%）`.
pub(super) fn against_usual(language: Language, what: &str, users: u64, usual: f64) -> String {
    let change = if usual > 0.0 {
        let change = language::change(float(users) / usual - 1.0);
        language.pick(format!("（{change}）"), format!(" ({change})"))
    } else {
        String::new()
    };
    let (users, usual) = (language::number(users), language::rounded(usual));
    language.pick(
        format!("{what} {users}，往常 {usual}{change}"),
        format!("{what}: {users}, usually {usual}{change}"),
    )
}

/// Returns whether the figures of a window have arrived, in some words.
pub(super) fn arrival(language: Language, arrival: Arrival) -> &'static str {
    match arrival {
        Arrival::Never => language.pick("暂无数据", "no data yet"),
        Arrival::Stale => language.pick("数据已过期", "out of date"),
        Arrival::Awaited => language.pick("昨日数据未到", "yesterday not available yet"),
        Arrival::Provisional => language.pick("待确认", "preliminary"),
        Arrival::Confirmed => language.pick("已确认", "confirmed"),
    }
}

/// Returns who polls an app.
pub(super) fn polled_by(language: Language, polled_by: PolledBy) -> &'static str {
    match polled_by {
        PolledBy::This => language.pick("由本 exporter 拉取", "polled by this exporter"),
        PolledBy::Other => language.pick("由另一个副本拉取", "polled by another exporter"),
        PolledBy::Unknown => language.pick("等待存档数据库", "waiting for the archive"),
    }
}

/// Why polls of an app fail, and what to do.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) sentence: String,
    /// What is not in the sentence, in English as in the log.
    pub(super) details: Vec<String>,
}

impl Trouble {
    pub(super) fn of(facts: &Facts<'_>, language: Language) -> Option<Self> {
        let first = facts.failures.first()?;
        let problems = facts.failures.iter().map(|failure| failure.problem.clone());
        Some(match language {
            Language::Chinese => Self {
                sentence: chinese::advice(first.reason, first.errcode, &first.problem),
                details: problems.collect(),
            },
            Language::English => Self {
                sentence: first.problem.clone(),
                details: problems.skip(1).collect(),
            },
        })
    }
}

/// Returns what came of a poll.
pub(super) fn outcome(language: Language, outcome: PollOutcome) -> String {
    let text = match outcome {
        PollOutcome::New => language.pick("新数据", "new figures"),
        PollOutcome::Revised => language.pick("数据已修订", "revised figures"),
        PollOutcome::Confirmed => language.pick("与上次相同", "the same figures"),
        PollOutcome::NoPortrait(Reason::NotReady) => {
            language.pick("数据尚未生成", "not computed by WeChat yet")
        }
        PollOutcome::NoPortrait(Reason::Empty) => language.pick("返回空数据", "no figures"),
        PollOutcome::NoPortrait(reason) => {
            let reason = language.pick(chinese::reason(reason), reason.as_str());
            return language.pick(format!("失败：{reason}"), format!("failed: {reason}"));
        }
    };
    text.to_owned()
}
