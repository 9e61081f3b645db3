// All mini programs.

import * as columns from './columns.mjs';
import { annotation, choiceVariable, dashboard, exporterVariable, holidays, queryVariable, sourceVariable, textVariable } from './dashboard.mjs';
import { both, change, changes, colors, dateStat, dayChart, row, stat, table, texts } from './panels.mjs';
import {
  aboutUsers,
  cohortUsers,
  daily,
  dailyAlerts,
  dataState,
  dateOf,
  dayNumber,
  firing,
  ofNewest,
  onWeekdayOf,
  recordedDaily,
  referenceDate,
  swings,
  urgency,
  yesterday,
} from './promql.mjs';
import * as words from './words.mjs';

const info = 'wxapp_portrait_app_info{app=~`(?i).*${filter:regex}.*`, team=~"$team"}';
const infoAtEnd = `last_over_time(${info}[2d] offset -1d @ end())`;

/** Keeps the apps that the user chose. */
const chosen = (expr) => `(${expr}) and on (appid) ${info}`;

/** The same for charts: as apps are called and grouped at the end of the time range, which is the midnight before, so in the day after it. */
const chosenAtEnd = (expr) => `${expr}\n  and on (appid) ${infoAtEnd}`;

/** Adds the name of the app, or other labels, and drops those that the user did not choose. */
const named = (expr, labels = 'app') => `(${expr}) * on (appid) group_left (${labels}) topk by (appid) (1, ${info})`;

const byApp = (metric) => `max by (appid) (${metric})`;
const users = (cohort, window = '1d') => byApp(ofNewest(cohortUsers({ cohort, window }), { window }));
const usual = (cohort) => byApp(ofNewest(`wxapp_portrait_expected_cohort_users{cohort="${cohort}", bound="usual"}`));
const date = byApp(referenceDate());

/**
 * The day that nearly all apps have reached, but for those that are late by more than a day; in seconds. A quantile of equal days may be a bit
 * less than these, but not a second.
 */
const common = `(floor((quantile(0.02, ${chosen(`${date} >= ${yesterday} - 86400`)}) + 28801) / 86400) * 86400 - 28800)`;
const onCommonDay = `${date} == on () group_left () ${common}`;

/** The users of all apps on that day: as published, or as recorded before the next day arrived. */
const totalOnDay = (cohort) =>
  `sum((
  ${users(cohort)} and on (appid) ${onCommonDay}
  or on (appid) last_over_time(appid_cohort_weekday:wxapp_portrait_cohort_users:max{cohort="${cohort}"}[2d]) ${onWeekdayOf(common)}
) and on (appid) ${info})`;

/** A number of apps or alerts; 0 only where there are apps. */
const count = (expr) => `count(${expr}) or 0 * count(${info})`;

const againstUsual = (cohort) =>
  `sum(${chosen(`${users(cohort)} and on (appid) ${usual(cohort)} and on (appid) ${onCommonDay}`)})
/ (sum(${chosen(`${usual(cohort)} and on (appid) ${users(cohort)} and on (appid) ${onCommonDay}`)}) > 0) - 1`;

/** One window's users by another's, where both are known. */
const ratio = (above, below) => `sum(${chosen(`${above} and on (appid) ${below}`)}) / (sum(${chosen(`${below} and on (appid) ${above}`)}) > 0)`;

const none = [[null, 'green'], [1, 'red']];
const failed = 'min by (appid) (max by (appid, window) (wxapp_portrait_last_poll_success)) == 0';
const polled = byApp('wxapp_portrait_archived_portraits{window="1d"}');

const figures = [
  stat({ title: ['小程序', 'Apps'], about: ['所选小程序数。', 'Mini programs that are chosen.'], expr: `count(count by (appid) (${info}))` }),
  dateStat({
    title: ['数据日期', 'Day'],
    about: ['几乎所有（98%）小程序已有数据的最新一天；本行的用户数均为这一天。', 'The newest day that nearly all mini programs (98%) have; the users in this row are those of this day.'],
    expr: dateOf(common),
  }),
  stat({
    title: ['昨日数据到达率', 'Arrived'],
    about: ['已有昨日数据的小程序比例；通常上午陆续到达。', 'How many mini programs have the figures of yesterday; they arrive in the morning.'],
    unit: 'percentunit',
    decimals: 0,
    expr: `sum(${chosen(`${date} >= bool ${yesterday}`)}) / count(count by (appid) (${info}))`,
  }),
  stat({ title: ['新增用户', 'New users'], about: ['该日新增用户合计。', 'New users of that day, all together.'], expr: totalOnDay('new') }),
  change({ title: ['新增较往常', 'vs usual'], about: ['有往常值的小程序合计与往常相比。', 'Those mini programs for which the usual figure is known, together against usual.'], expr: againstUsual('new') }),
  stat({ title: ['活跃用户', 'Active users'], about: ['该日活跃用户合计。', 'Active users of that day, all together.'], expr: totalOnDay('active') }),
  change({ title: ['活跃较往常', 'vs usual'], about: ['有往常值的小程序合计与往常相比。', 'Those mini programs for which the usual figure is known, together against usual.'], expr: againstUsual('active') }),
  stat({
    title: ['告警中', 'Firing'],
    about: ['正在告警的数量，含 exporter 的告警。', 'Alerts that fire, those about exporters included.'],
    steps: none,
    expr: count(`${chosen(firing('alertname=~"WxappPortrait.+"'))} or ${firing('alertname=~"WxappPortrait.+"', 'appid=""')}`),
  }),
  stat({ title: ['7 日活跃', '7 days'], about: ['时间窗口 7d 的活跃用户合计。', 'Active users of the window 7d.'], empty: '需时间窗口 7d · needs window 7d', expr: `sum(${chosen(users('active', '7d'))})` }),
  stat({ title: ['30 日活跃', '30 days'], about: ['时间窗口 30d 的活跃用户合计。', 'Active users of the window 30d.'], empty: '需时间窗口 30d · needs window 30d', expr: `sum(${chosen(users('active', '30d'))})` }),
  stat({
    title: ['用户粘性', 'Stickiness'],
    about: ['日活跃 ÷ 30 日活跃。', 'Active users of a day by those of 30 days.'],
    unit: 'percentunit',
    decimals: 1,
    empty: '需时间窗口 30d · needs window 30d',
    expr: ratio(users('active'), users('active', '30d')),
  }),
  stat({ title: ['新增占比', 'New share'], about: ['新增 ÷ 活跃。', 'New by active users.'], unit: 'percentunit', decimals: 1, expr: ratio(users('new'), users('active')) }),
  stat({
    title: ['异常波动', 'Swings'],
    about: ['新增、活跃或平台有异常波动的小程序数。', 'Mini programs whose users or platforms swing.'],
    steps: none,
    expr: count(`count by (appid) (${chosen(firing(swings))})`),
  }),
  stat({
    title: ['持续下滑', 'Drift'],
    about: ['用户数持续下滑的小程序数。', 'Mini programs that decline slowly.'],
    steps: none,
    expr: count(`count by (appid) (${chosen(firing('alertname="WxappPortraitUsersDrift"'))})`),
  }),
  stat({ title: ['拉取失败', 'Failing'], about: ['最近一次拉取失败的小程序数。', 'Mini programs whose last poll failed.'], steps: none, expr: count(chosen(failed)) }),
  stat({
    title: ['数据滞后', 'Behind'],
    about: ['最新数据早于前天，或从未获取到数据的小程序数。', 'Mini programs whose newest figures are older than those of the day before yesterday, or that never had a portrait.'],
    steps: none,
    expr: count(chosen(`${polled} unless on (appid) ${date} >= ${yesterday} - 86400`)),
  }),
];

const appColumn = columns.app('&${__url_time_range}');

const state = dataState('appid', date, byApp(ofNewest('wxapp_portrait_settled{window="1d"}')), polled);

const ofFailed = (expr) => chosen(`${expr} and on (appid) ${failed}`);

const lists = [
  table({
    title: ['告警', 'Alerts'],
    about: ['正在告警的事项及其数值；占比异常的变化为百分点。点击小程序名称进入看板或小程序页面。', 'What fires, with its figures; the change of a share is in percentage points. The name leads to the dashboard and to the page of a mini program.'],
    w: 24,
    h: 8,
    empty: '没有告警 · No alerts',
    rank: `${named(urgency(), 'app, team')} or ${urgency('appid=""')}`,
    columns: [
      appColumn,
      columns.team,
      ...columns.alerts(undefined, chosen),
      columns.appid,
    ],
  }),
  table({
    title: ['拉取失败的小程序', 'Failing mini programs'],
    about: ['最近一次拉取失败的小程序、原因与处理方法；数据最旧的在最前。', 'Mini programs whose last poll failed, why, and what to do; those with the oldest figures first.'],
    w: 24,
    h: 6,
    empty: '全部正常 · None failing',
    rank: named(
      `max by (appid, reason) (wxapp_portrait_last_poll_failure_info{reason!="not_ready"})
  * on (appid) group_left () (time() - (${ofFailed(`(min by (appid) (wxapp_portrait_reference_date_timestamp_seconds) or 0 * ${byApp('wxapp_portrait_archived_portraits')})`)}))`,
      'app, team',
    ),
    columns: [
      appColumn,
      columns.team,
      columns.reason,
      { title: ['数据日期', 'Day'], unit: 'time:YYYY-MM-DD', expr: dateOf(`(${ofFailed('min by (appid) (wxapp_portrait_reference_date_timestamp_seconds)')})`) },
      { title: ['上次成功', 'Last success'], unit: 'dateTimeFromNow', expr: `1000 * (${ofFailed('min by (appid) (wxapp_portrait_last_success_timestamp_seconds)')})` },
      { title: ['下次拉取', 'Next poll'], unit: 'dateTimeFromNow', expr: `1000 * (${ofFailed('min by (appid) (wxapp_portrait_next_poll_timestamp_seconds)')})` },
      columns.appid,
    ],
  }),
];

const byCohort = (metric) => `max by (appid, cohort) (${ofNewest(metric)})`;
const now = byCohort('wxapp_portrait_cohort_users{window="1d"}');
const expected = byCohort('wxapp_portrait_expected_cohort_users{bound="usual"}');
// How far figures are from usual, where a relative change counts for less if there are few users.
const distance = `abs(asinh(sqrt(${now} + 10) / 10) - asinh(sqrt(${expected} + 10) / 10))`;
const movers = named(`topk(10, ${distance} and on (appid) ${info})`);
const ofMovers = (expr) => `${expr}\nand on (appid, cohort) ${movers}`;

const share = 'instance_appid_cohort_name:wxapp_portrait_users:share';
const usualShare = 'wxapp_portrait_expected_platform_share_ratio{bound="usual"}';
const byPlatform = (expr) => `max by (appid, cohort, name) (${expr})`;
const shifts = named(`topk(10, ${byPlatform(`abs(${share} - on (job, instance, appid, cohort, name) ${usualShare})`)} and on (appid, cohort) ${now} >= 50 and on (appid) ${info})`);
const ofShifts = (expr) => byPlatform(`${expr}\nand on (appid, cohort, name) ${shifts}`);

const moved = [
  table({
    title: ['波动最大的小程序', 'Mini programs that moved most'],
    about: ['最新一天与往常相差最大的小程序，兼顾相对变化与用户规模。', 'Whose newest day is furthest from usual, where relative change and number of users both count.'],
    w: 12,
    h: 12,
    rank: movers,
    columns: [
      appColumn,
      columns.cohort,
      { title: ['当日', 'Day'], expr: ofMovers(now) },
      { title: ['往常', 'Usual'], decimals: 0, expr: ofMovers(expected) },
      { title: ['较往常', 'Change'], unit: 'percentunit', decimals: 1, steps: changes, expr: ofMovers(`${now} / (${expected} > 0) - 1`) },
      columns.appid,
    ],
  }),
  table({
    title: ['占比变化最大的平台', 'Platforms whose share moved most'],
    about: ['各小程序中占比较往常变化最大的平台（百分点，至少 50 名用户），不重复整体涨跌。', 'Platforms whose share of their mini program is furthest from usual, in percentage points (50 users at least): this does not repeat what the whole mini program does.'],
    w: 12,
    h: 12,
    rank: shifts,
    columns: [
      appColumn,
      columns.cohort,
      columns.platform,
      { title: ['占比', 'Share'], unit: 'percentunit', decimals: 1, expr: ofShifts(share) },
      { title: ['往常占比', 'Usual'], unit: 'percentunit', decimals: 1, expr: ofShifts(usualShare) },
      { title: ['变化', 'Change'], unit: 'percentunit', decimals: 1, steps: [[null, 'red'], [-0.1, 'text'], [0.1, 'green']], minus: [['占比', 'Share'], ['往常占比', 'Usual']] },
      columns.appid,
    ],
  }),
];

const largest = `topk($rows, ${named(`${users('active')} or 0 * ${byApp('wxapp_portrait_archived_portraits')}`, 'app, team')})`;
const ofLargest = (expr) => `${expr}\nand on (appid) ${largest}`;

const all = table({
  title: ['所有小程序', 'All mini programs'],
  about: ['各小程序最新一天的用户数、与往常的对比以及数据状态，按活跃用户数排序。', 'The newest day of each mini program, against what is usual, and the state of its data; by active users.'],
  w: 24,
  h: 14,
  rank: largest,
  columns: [
    appColumn,
    columns.team,
    { title: ['活跃', 'Active'], expr: ofLargest(users('active')) },
    { title: ['往常活跃', 'Usual'], decimals: 0, expr: ofLargest(usual('active')) },
    { title: ['较往常', 'Change'], unit: 'percentunit', decimals: 1, steps: changes, expr: ofLargest(`${users('active')} / (${usual('active')} > 0) - 1`) },
    { title: ['新增', 'New'], expr: ofLargest(users('new')) },
    { title: ['往常新增', 'Usual'], decimals: 0, expr: ofLargest(usual('new')) },
    { title: ['新增较往常', 'Change'], unit: 'percentunit', decimals: 1, steps: changes, expr: ofLargest(`${users('new')} / (${usual('new')} > 0) - 1`) },
    { title: ['7 日活跃', '7 days'], expr: ofLargest(users('active', '7d')) },
    { title: ['30 日活跃', '30 days'], expr: ofLargest(users('active', '30d')) },
    { title: ['粘性', 'Stickiness'], unit: 'percentunit', decimals: 1, expr: ofLargest(`${users('active')} / (${users('active', '30d')} > 0)`) },
    { title: ['数据日期', 'Day'], unit: 'time:YYYY-MM-DD', width: 110, expr: ofLargest(dateOf(date)) },
    { title: ['数据状态', 'State'], mappings: texts(words.states), steps: [[null, 'text']], width: 200, expr: ofLargest(`(${state})`) },
    columns.appid,
  ],
});

/** The newest day of each app, and its users, as known at the end of the time range. */
const atEnd = (metric) => `(${chosenAtEnd(byApp(`last_over_time(${metric}[2d] offset -1d @ end())`))})`;
const dateAtEnd = atEnd(referenceDate());
const newest = `max(last_over_time(${referenceDate()}[2d] offset -1d @ end()))`;
const upToDate = `${dateAtEnd} == on () group_left () ${newest}`;
/** The newest day is awaited of those that have the day before; those that are later are not counted. */
const awaited = `${dateAtEnd} == on () group_left () (${newest} - 86400)`;
const counted = `${dateAtEnd} >= on () group_left () (${newest} - 86400)`;

/**
 * Has the label `note`: how many apps of how many have the newest day, on that day, as long as those that lack it have more than a fiftieth of the
 * users; elsewhere `complete`.
 */
const note = (cohort, complete) => {
  const size = (apps) => `sum(${atEnd(cohortUsers({ cohort }))} and on (appid) ${apps})`;
  const incomplete = `${dayNumber('vector(time())')} == ${dayNumber(newest)} and on () ${size(awaited)} > 0.02 * ${size(counted)}`;
  return `(
  label_replace(
    label_join(
      count_values("have", count(${upToDate})) * on () group_left (all) count_values("all", count(${counted})),
      "note", "/", "have", "all"
    ),
    "note", "未到齐 incomplete $1", "note", "(.+)"
  ) and on () (${incomplete})
  or on () label_replace(vector(1), "note", "${complete}", "", "")
)`;
};

const totals = (cohort, [zh, en], color) => {
  const name = [zh, en.toLowerCase()];
  const sum = (weeks) => `sum(${chosenAtEnd(recordedDaily(cohort, weeks))})`;
  return dayChart({
    title: [`${zh}用户合计`, `${en} users, all mini programs`],
    about: [
      '所选小程序每天的合计；灰色柱表示最新一天尚有小程序未到齐（已到/应到），不是下跌。虚线为上周同日。',
      'The sum over all mini programs that are chosen. A grey bar is the newest day while some lack it (how many of how many), not a fall. Dashed: the same day of the week before.',
    ],
    series: [
      { name, legend: '{{note}}', draw: 'bars', color, expr: `${sum()}\n* on () group_left (note) ${note(cohort, both(name))}` },
      { name: ['上周同日', 'week before'], draw: 'dashed', color: colors.week, expr: sum(1) },
    ],
    drawing: 'bars',
  });
};

const eachOfLargest = (cohort, [zh, en]) =>
  dayChart({
    title: [`${zh}最多的小程序`, `Top by ${en} users`],
    about: ['最新一天最多的十个小程序，每天的用户数。', 'The ten that have most of them on the newest day, day by day.'],
    h: 10,
    placement: 'right',
    series: [
      {
        legend: '{{app}}',
        expr: `(max by (appid) (${recordedDaily(cohort)}) and on (appid) topk(10, ${atEnd(cohortUsers({ cohort }))}))
* on (appid) group_left (app) topk by (appid) (1, ${infoAtEnd})`,
      },
    ],
  });

const shareOfNew = dayChart({
  title: ['新增占比', 'New share'],
  about: ['所选小程序合计：新增 ÷ 活跃。', 'New by active users of all mini programs that are chosen.'],
  unit: 'percentunit',
  series: [{ name: ['新增占比', 'new'], color: colors.new, expr: `sum(${chosenAtEnd(recordedDaily('new'))})\n/ (sum(${chosenAtEnd(recordedDaily('active'))}) > 0)` }],
});

const oldest = (() => {
  const by = (metric) => `max by (appid, window) (${metric})`;
  const date = by('wxapp_portrait_reference_date_timestamp_seconds');
  const rank = `topk($rows, ${named(`time() - (${date} or 0 * ${by('wxapp_portrait_archived_portraits')})`, 'app, team')})`;
  const of = (expr) => `${expr}\nand on (appid, window) ${rank}`;
  return table({
    title: ['数据最滞后的小程序', 'Oldest figures'],
    about: ['各小程序、各时间窗口中数据最旧的排在最前；从未获取到数据的在最上方。', 'Mini programs and windows, those with the oldest figures first; on top those that never had a portrait.'],
    w: 24,
    h: 11,
    rank,
    columns: [
      appColumn,
      columns.team,
      { label: 'window', title: ['时间窗口', 'Window'] },
      { title: ['数据日期', 'Day'], unit: 'time:YYYY-MM-DD', expr: of(dateOf(date)) },
      { title: ['是否确认', 'Settled'], mappings: texts({ 0: '待确认 preliminary', 1: '已确认 settled' }), expr: of(by('wxapp_portrait_settled')) },
      { title: ['上次成功', 'Last success'], unit: 'dateTimeFromNow', expr: `1000 * ${of(by('wxapp_portrait_last_success_timestamp_seconds'))}` },
      { title: ['最近一次拉取', 'Last poll'], mappings: texts({ 0: ['失败 failed', 'red'], 1: ['成功 success', 'green'] }), steps: [[null, 'text']], expr: of(by('wxapp_portrait_last_poll_success')) },
      { title: ['存档天数', 'Archived days'], expr: of(by('wxapp_portrait_archived_portraits')) },
      columns.appid,
    ],
  });
})();

export default dashboard({
  uid: 'wxapp-portrait-overview',
  title: '小程序画像总览 · Mini program portraits',
  description: 'All mini programs: what is unusual, how many new and active users they have, and whether their figures are up to date. Days are days of Beijing.',
  time: { from: 'now-30d/d', to: 'now' },
  variables: [
    sourceVariable,
    queryVariable({ name: 'team', label: '团队 Team', description: 'The label team of the apps in the configuration', query: 'label_values(wxapp_portrait_app_info, team)', all: '.*' }),
    textVariable({ name: 'filter', label: '筛选 Filter', description: 'A part of the name' }),
    choiceVariable({ name: 'rows', label: '行数 Rows', description: 'How long the lists get', choices: ['20', '50', '100', '200', '1000'].map((rows) => [rows, rows]) }),
    exporterVariable,
  ],
  annotations: [
    annotation({
      name: '告警 Alerts',
      color: 'red',
      expr: `count by (alertname, severity) (${dailyAlerts(aboutUsers, 'alertname, appid, cohort, name, severity', { grid: '1h' })})`,
      step: '1d',
      titleFormat: '{{alertname}}',
      textFormat: '',
      tagKeys: 'severity',
    }),
    holidays(daily('kind, holiday', 'wxapp_portrait_reference_day_info{kind=~"holiday|makeup_workday"}', {}, { grid: '6h' })),
  ],
  page: { title: 'exporter 页面 Exporter page', path: '/' },
  panels: [
    ...figures,
    ...lists,
    row(['波动', 'What moved']),
    ...moved,
    row(['全部', 'All']),
    all,
    row(['趋势', 'Trend']),
    totals('new', ['新增', 'New'], colors.new),
    totals('active', ['活跃', 'Active'], colors.active),
    eachOfLargest('new', ['新增', 'new']),
    eachOfLargest('active', ['活跃', 'active']),
    shareOfNew,
    row(['数据时效', 'Freshness']),
    oldest,
  ],
});
