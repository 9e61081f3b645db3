// One mini program.

import * as columns from './columns.mjs';
import { annotation, choiceVariable, dashboard, exporterVariable, holidays, queryVariable, sourceVariable } from './dashboard.mjs';
import { bars, change, changes, colors, dateStat, dayChart, groups, pie, row, stat, table, texts } from './panels.mjs';
import { aboutUsers, cohortUsers, daily, dailyAlerts, dataState, dateOf, firing, ofNewest, referenceDate, urgency, users } from './promql.mjs';
import * as words from './words.mjs';

const app = 'appid="$appid"';
const of = { app };
const cohort = '$cohort';
const window = '$window';

/** Of what two exporters know, the larger figure. */
const max = (labels, metric) => `max by (${labels}) (${metric})`;

const total = (cohort, window = '1d') => `max(${ofNewest(cohortUsers({ app, window, cohort }), { app, window })})`;
const usual = (cohort) => `max(${ofNewest(`wxapp_portrait_expected_cohort_users{${app}, cohort="${cohort}", bound="usual"}`, of)})`;

/** The part of each name in its dimension. */
const share = (metric) => `${metric} / on () group_left () sum(${metric})`;

const firsts = [
  dateStat({
    title: ['数据日期', 'Day'],
    about: ['最新一天数据的日期（北京时间）。', 'The last day with figures, a day of Beijing.'],
    expr: dateOf(`max(${referenceDate(of)})`),
  }),
  stat({ title: ['新增用户', 'New users'], about: ['当日新增用户数。', 'New users of that day.'], expr: total('new') }),
  change({
    title: ['新增较往常', 'vs usual'],
    about: ['与往常相比；往常由 exporter 根据可比日计算，节假日无往常值。', 'Against what is usual, as the exporter computes it from comparable days; there is nothing usual on public holidays.'],
    expr: `${total('new')} / (${usual('new')} > 0) - 1`,
  }),
  stat({ title: ['活跃用户', 'Active users'], about: ['当日活跃用户数。', 'Active users of that day.'], expr: total('active') }),
  change({
    title: ['活跃较往常', 'vs usual'],
    about: ['与往常相比；往常由 exporter 根据可比日计算，节假日无往常值。', 'Against what is usual, as the exporter computes it from comparable days; there is nothing usual on public holidays.'],
    expr: `${total('active')} / (${usual('active')} > 0) - 1`,
  }),
  stat({
    title: ['新增占比', 'New share'],
    about: ['新增用户占活跃用户的比例。', 'How many of the active users are new.'],
    unit: 'percentunit',
    decimals: 1,
    expr: `${total('new')} / (${total('active')} > 0)`,
  }),
  stat({
    title: ['用户粘性', 'Stickiness'],
    about: ['日活跃 ÷ 30 日活跃；需要时间窗口 30d。', 'Active users of the day by those of 30 days; needs the window 30d.'],
    unit: 'percentunit',
    decimals: 1,
    empty: '需时间窗口 30d · needs window 30d',
    expr: `${total('active')} / (${total('active', '30d')} > 0)`,
  }),
  stat({
    title: ['告警中', 'Firing'],
    about: ['正在告警的数量。', 'Alerts of this mini program that fire.'],
    steps: [[null, 'green'], [1, 'red']],
    expr: `count(${firing('alertname=~"WxappPortrait.+"', app)}) or 0 * count(wxapp_portrait_app_info{${app}})`,
  }),
];

const anyWindow = { app, window: '' };
const date = max('window', referenceDate(anyWindow));
const newestSettled = `max by (window) (wxapp_portrait_settled{${app}} and on (job, instance, window) (${referenceDate(anyWindow)} == on (window) group_left () ${date}))`;
const polled = max('window', `wxapp_portrait_archived_portraits{${app}}`);

const state = [
  table({
    title: ['数据状态', 'State of the data'],
    about: [
      '各时间窗口的数据是否最新；拉取失败时的原因与处理方法。',
      'Whether the figures of each window are up to date; if a poll failed, why and what to do.',
    ],
    w: 24,
    h: 5,
    empty: '不在配置中 · Not in the configuration',
    rank: `time() - (${date} or 0 * ${polled})`,
    columns: [
      { label: 'window', title: ['时间窗口', 'Window'], width: 130 },
      {
        title: ['状态', 'State'],
        mappings: texts(words.states),
        steps: [[null, 'text']],
        width: 300,
        expr: dataState('window', date, newestSettled, polled),
      },
      { title: ['数据日期', 'Day'], unit: 'time:YYYY-MM-DD', width: 130, expr: dateOf(date) },
      { label: 'kind', title: ['日期类型', 'Kind of day'], mappings: texts(words.kinds), width: 170 },
      { label: 'holiday', title: ['节日', 'Holiday'], width: 120 },
      { label: 'reason', title: ['拉取失败的原因与处理', 'Why the last poll failed, and what to do'], mappings: texts(words.reasons), width: 470 },
      { title: ['上次成功', 'Last success'], unit: 'dateTimeFromNow', expr: `1000 * ${max('window', `wxapp_portrait_last_success_timestamp_seconds{${app}}`)}` },
      { title: ['下次拉取', 'Next poll'], unit: 'dateTimeFromNow', expr: `1000 * ${polled} ^ 0 * on () group_left () min(wxapp_portrait_next_poll_timestamp_seconds{${app}})` },
      { title: ['存档天数', 'Archived days'], expr: polled },
      { hidden: true, title: ['reason'], expr: max('window, reason', `wxapp_portrait_last_poll_failure_info{${app}}`) },
      { hidden: true, title: ['kind'], expr: `label_replace(${max('kind, holiday', ofNewest(`wxapp_portrait_reference_day_info{${app}}`, of))}, "window", "1d", "", "")` },
    ],
  }),
  table({
    title: ['告警', 'Alerts'],
    about: [
      '正在告警的事项及其数值。占比异常的变化为百分点。',
      'What fires, with its figures. The change of a share is in percentage points.',
    ],
    w: 24,
    h: 6,
    empty: '没有告警 · No alerts',
    rank: urgency(app),
    columns: [
      ...columns.alerts(app),
      { label: 'appid', hidden: true },
    ],
  }),
];

/** Bounds are known for the window 1d: no series has two windows, so for others there are none. */
const bounds = (cohort, bound) => daily('appid', `wxapp_portrait_expected_cohort_users{${app}, cohort="${cohort}", bound="${bound}"}`, { app: `${app}, window="$window"` });

const usersOfDays = (cohort, [zh, en], color) =>
  dayChart({
    title: [`${zh}用户`, `${en} users · $window`],
    about: [
      '柱：每天的用户数；灰色区间：正常区间；虚线：往常、上周同日。正常区间与往常仅用于时间窗口 1d。竖线：节假日与告警。',
      'Bars: users of each day; grey: the expected range; dashed: usual, and the same day of the week before. What is expected is known for the window 1d. Vertical lines: holidays and alerts.',
    ],
    series: [
      { name: [zh, en.toLowerCase()], draw: 'bars', color, expr: daily('appid', cohortUsers({ app, window, cohort }), { app, window }) },
      { name: ['下限', 'lower bound'], draw: 'edge', color: colors.usual, expr: bounds(cohort, 'lower') },
      { name: ['上限', 'upper bound'], draw: 'edge', above: ['下限', 'lower bound'], color: colors.usual, expr: bounds(cohort, 'upper') },
      { name: ['往常', 'usual'], draw: 'dashed', color: colors.usual, expr: bounds(cohort, 'usual') },
      { name: ['上周同日', 'week before'], draw: 'dashed', color: colors.week, expr: daily('appid', cohortUsers({ app, window, cohort }), { app, window }, { weeks: 1 }) },
    ],
  });

const platforms = daily('name', users({ app, window, cohort, dimension: 'platform' }), { app, window });
const wholeDaily = (cohort, window) => daily('appid', cohortUsers({ app, window, cohort }), { app, window });

const trends = [
  usersOfDays('new', ['新增', 'New'], colors.new),
  usersOfDays('active', ['活跃', 'Active'], colors.active),
  dayChart({
    title: ['平台占比', 'Share of platforms · ${cohort:text}, $window'],
    about: ['各平台用户占比。', 'How the users of each day divide into platforms.'],
    unit: 'percentunit',
    max: 1,
    drawing: 'bars',
    stacking: 'normal',
    series: [{ legend: '{{name}}', expr: `${platforms}\n/ on () group_left () sum(${platforms})` }],
  }),
  dayChart({
    title: ['平台用户数', 'Users of platforms · ${cohort:text}, $window'],
    about: ['各平台每天的用户数。', 'The users of each platform, day by day.'],
    series: [{ legend: '{{name}}', expr: platforms }],
  }),
  dayChart({
    title: ['新增占比与粘性', 'Share of new users, and stickiness'],
    about: ['新增占比：新增 ÷ 活跃；粘性：日活跃 ÷ 30 日活跃，需要时间窗口 30d。', 'New by active users; active users of a day by those of 30 days, which needs the window 30d.'],
    unit: 'percentunit',
    series: [
      { name: ['新增占比', 'new'], color: colors.new, expr: `${wholeDaily('new', '1d')}\n/ (${wholeDaily('active', '1d')} > 0)` },
      { name: ['用户粘性', 'stickiness'], color: colors.active, expr: `${wholeDaily('active', '1d')}\n/ (${wholeDaily('active', '30d')} > 0)` },
    ],
  }),
  dayChart({
    title: ['持续下滑', 'Drift'],
    about: [
      '最近 7 个可比日总体较往常的偏离；低于阈值（虚线）即为持续下滑。需要约五周存档。',
      'How far the last seven comparable days together are from usual; below the limit (dashed) it is a slow decline. Needs five weeks of archive.',
    ],
    unit: 'percentunit',
    min: undefined,
    empty: '暂无数据（需约五周存档） · No data (needs five weeks of archive)',
    series: [
      ...[['new', '新增'], ['active', '活跃']].flatMap(([cohort, zh]) => [
        { name: [zh, cohort], color: colors[cohort], expr: daily('appid', `wxapp_portrait_drift_ratio{${app}, cohort="${cohort}"}`, of) },
        { name: [`${zh}阈值`, `${cohort} limit`], draw: 'dashed', color: colors[cohort], expr: daily('appid', `wxapp_portrait_drift_limit_ratio{${app}, cohort="${cohort}"}`, of) },
      ]),
    ],
  }),
];

const today = max('dimension, name', ofNewest(users({ app, cohort }), of));
const past = (daysAgo) => ofNewest(`wxapp_portrait_past_users{${app}, cohort="${cohort}", days_ago=~"${daysAgo}"}`, of);
const weekAgo = max('dimension, name', past('7'));
const fourWeeks = max('dimension, name, days_ago', past('7|14|21|28'));
const median = `quantile by (dimension, name) (0.5, ${fourWeeks})`;

const shareToday = `${today} / on (dimension) group_left () sum by (dimension) (${today})`;
const pastShares = `${fourWeeks} / on (dimension, days_ago) group_left () sum by (dimension, days_ago) (${fourWeeks})`;
const usualShare = `quantile by (dimension, name) (0.5, ${pastShares})`;
const shift = `${shareToday} - on (dimension, name) ${usualShare}`;
const moved = `topk(30, abs(${shift}))`;
const withoutPast = `sum by (dimension) (${today}) unless on (dimension) ${median}`;

const compared = [
  table({
    title: ['占比变化最大', 'What moved most by share · ${cohort:text}'],
    about: [
      '各维度中占比较前四周同期（周几相同）中位数变化最大的项，按百分点排序，因此不重复整体涨跌。仅含配置项 past.dimensions 中的维度；某周没有的项不计入该周。',
      'Names whose share of their dimension differs most from the median of the same weekday of the last four weeks, in percentage points, so that it does not repeat what the whole does. Only dimensions in `past.dimensions` of the configuration; weeks that lack a name do not count for it.',
    ],
    w: 12,
    h: 15,
    rank: `${moved}
or on (dimension) 0 * label_replace(${withoutPast}, "name", "暂无历史，见 past.dimensions · no past days", "", "")`,
    columns: [
      { label: 'dimension', title: ['维度', 'Dimension'], mappings: texts(words.dimensions) },
      { label: 'name', title: ['名称', 'Name'] },
      { title: ['当日占比', 'Share'], unit: 'percentunit', decimals: 1, expr: `${shareToday}\nand on (dimension, name) ${moved}` },
      { title: ['同期占比', 'Four weeks'], unit: 'percentunit', decimals: 1, expr: `${usualShare}\nand on (dimension, name) ${moved}` },
      { title: ['变化', 'Change'], unit: 'percentunit', decimals: 1, steps: [[null, 'red'], [-0.05, 'text'], [0.05, 'green']], minus: [['当日占比', 'Share'], ['同期占比', 'Four weeks']] },
      { title: ['用户数', 'Users'], expr: `${today}\nand on (dimension, name) ${moved}` },
    ],
  }),
  table({
    title: ['对比上周同日与同期', 'Against a week ago and four weeks · ${cohort:text}'],
    about: [
      '与上周同日、前四周同期（周几相同）中位数的对比，时间窗口 1d；按用户数排序。',
      'The day against the same weekday a week before, and against the median of the same weekdays of the last four weeks; window 1d; by users.',
    ],
    w: 12,
    h: 15,
    rank: `${today}\nand on (dimension) ${median}`,
    columns: [
      { label: 'dimension', title: ['维度', 'Dimension'], mappings: texts(words.dimensions) },
      { label: 'name', title: ['名称', 'Name'] },
      { title: ['当日', 'Day'], expr: `${today}\nand on (dimension) ${median}` },
      { title: ['上周同日', 'Week ago'], expr: weekAgo },
      { title: ['较上周', 'Change'], unit: 'percentunit', decimals: 1, expr: `${today} / (${weekAgo} > 0) - 1` },
      { title: ['前四周同期', 'Four weeks'], decimals: 0, expr: median },
      { title: ['较同期', 'Change'], unit: 'percentunit', decimals: 1, steps: changes, expr: `${today} / (${median} > 0) - 1` },
    ],
  }),
];

const names = (cohort, dimension) => max('name', ofNewest(users({ app, window, cohort, dimension }), { app, window }));
const places = (title, dimension, listed) =>
  table({
    title: [title[0], `${title[1]} · \${cohort:text}, $window`],
    about: ['用户数、占比，以及新增占活跃的比例。', 'Users, their share, and how many of the active ones are new.'],
    w: 12,
    h: 13,
    rank: listed,
    columns: [
      { label: 'name', title },
      { title: ['用户数', 'Users'], expr: listed },
      { title: ['占比', 'Share'], unit: 'percentunit', decimals: 1, bar: colors.active, expr: `${listed} / on () group_left () sum(${names(cohort, dimension)})` },
      { title: ['新增占比', 'New'], unit: 'percentunit', decimals: 1, expr: `${names('new', dimension)} / (${names('active', dimension)} > 0)\nand on (name) ${listed}` },
    ],
  });

const structure = [
  places(['省份', 'Provinces'], 'province', names(cohort, 'province')),
  places(['城市', 'Cities'], 'city', `topk(50, ${names(cohort, 'city')})`),
  bars({ title: ['机型', 'Devices · ${cohort:text}, $window'], about: ['各机型的用户数。', 'Users by device.'], w: 8, h: 14, expr: `sort_desc(${names(cohort, 'device')})`, legend: '{{name}}' }),
  groups({
    title: ['年龄', 'Ages, new against active · $window'],
    about: ['新增与活跃用户的年龄分布对比。', 'How new and active users divide into ages: where the bars differ, new users are younger or older than the others.'],
    w: 10,
    h: 14,
    unit: 'percentunit',
    decimals: 1,
    names: { label: 'name', title: ['年龄', 'Age'] },
    columns: [
      { title: ['新增', 'new'], color: colors.new, expr: share(names('new', 'age')) },
      { title: ['活跃', 'active'], color: colors.active, expr: share(names('active', 'age')) },
    ],
  }),
  pie({ title: ['性别', 'Gender · ${cohort:text}, $window'], about: ['各性别的用户数。', 'Users by gender.'], w: 6, h: 14, expr: names(cohort, 'gender'), legend: '{{name}}' }),
];

export default dashboard({
  uid: 'wxapp-portrait-app',
  title: '小程序画像 · Mini program portrait',
  description: 'One mini program: its new and active users day by day, against what is usual, and who they are. Days are days of Beijing; every dimension divides the same people.',
  time: { from: 'now-30d/d', to: 'now' },
  variables: [
    sourceVariable,
    queryVariable({
      name: 'appid',
      label: '小程序 App',
      description: 'The mini program',
      // Imported history has a sample an hour.
      query: 'query_result(max by (app, appid) (last_over_time(wxapp_portrait_app_info[2h])))',
      // Names may have quotes, which Prometheus escapes, commas and braces.
      regex: '/app="(?<text>.*)",\\s*appid="(?<value>[^"]+)"/',
    }),
    choiceVariable({ name: 'cohort', label: '用户类型 Cohort', description: 'New or active users', choices: [['新增 new', 'new'], ['活跃 active', 'active']] }),
    queryVariable({ name: 'window', label: '时间窗口 Window', description: 'Days that the figures cover', query: `label_values({__name__=~"wxapp_portrait_(archived_portraits|reference_date_timestamp_seconds)", ${app}}, window)` }),
    exporterVariable,
  ],
  annotations: [
    annotation({
      name: '告警 Alerts',
      color: 'red',
      expr: dailyAlerts(aboutUsers, 'alertname, cohort, name, severity', of),
      step: '1d',
      titleFormat: '{{alertname}}',
      textFormat: '{{cohort}} {{name}}',
      tagKeys: 'severity,cohort',
    }),
    holidays(daily('kind, holiday', `wxapp_portrait_reference_day_info{${app}, kind=~"holiday|makeup_workday"}`, of)),
  ],
  page: { title: '小程序页面 App page', path: '/apps/${appid}' },
  panels: [
    ...firsts,
    ...state,
    row(['趋势', 'Trend']),
    ...trends,
    row(['历史对比', 'Against the past']),
    ...compared,
    row(['用户构成', 'Who they are']),
    ...structure,
  ],
});
