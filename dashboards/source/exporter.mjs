// The exporters: polls, WeChat's API, freshness, archive, cost.

import * as columns from './columns.mjs';
import { annotation, dashboard, exporterVariable, queryVariable, sourceVariable } from './dashboard.mjs';
import { bars, chart, row, stat, table, texts } from './panels.mjs';
import { dateOf, yesterday } from './promql.mjs';

const here = 'job=~"$job", instance=~"$instance"';
/** Of the exporter itself. */
const metric = (name) => `wxapp_portrait_${name}{${here}}`;
/** Of its apps, which have instances of their own where each is a target of /sd. */
const ofApps = (name, more) => `wxapp_portrait_${name}{job=~"$job", instance=~"($instance)(/.+)?"${more ? `, ${more}` : ''}}`;
const rate = (name) => `rate(${name}[$__rate_interval])`;
const increase = (name) => `increase(${name}[$__range])`;
const byWindow = (name) => `max by (appid, window) (${ofApps(name)})`;
/** Metrics that other programs have, too. */
const own = (name) => `${name}{${here}} and on (job, instance) ${metric('exporter_build_info')}`;

/** Of the scrapes of an exporter: one, and one for each app where it is a target of /sd. */
const byScrape = (aggregation, name) => `${aggregation} by (exporter) (
  label_replace(
    ${name}{job=~"$job", instance=~"($instance)(/.+)?"}
    and on (job, instance) (${metric('exporter_build_info')} or ${ofApps('app_info')}),
    "exporter", "$1", "instance", "([^/]+)(/.+)?"
  )
)`;

const windows = byWindow('archived_portraits');
const date = byWindow('reference_date_timestamp_seconds');
const lagging = `${windows} unless on (appid, window) ${date} >= ${yesterday}`;

const small = { w: 8, h: 9 };

const failed = `min by (appid) (${byWindow('last_poll_success')}) == 0`;
const ofFailed = (expr) => `${expr}\nand on (appid) ${failed}`;

const firsts = [
  stat({
    title: ['在线', 'Up'],
    about: ['时间范围内出现过的 exporter 中，最近一次抓取成功的比例。', 'How many of the exporters seen in the time range responded to the last scrape.'],
    unit: 'percentunit',
    steps: [[null, 'red'], [1, 'green']],
    expr: `avg(up{${here}} and on (job, instance) last_over_time(${metric('exporter_build_info')}[$__range]))`,
  }),
  stat({ title: ['小程序', 'Apps'], about: ['配置中的小程序数。', 'Apps in the configuration.'], expr: `count(count by (appid) (${ofApps('app_info')}))` }),
  stat({
    title: ['拉取正常', 'Poll success'],
    about: ['最近一次拉取取得画像或“数据尚未生成”的小程序与时间窗口的比例。', 'How many apps and windows got a portrait from their last poll, or the response that it is not ready yet.'],
    unit: 'percentunit',
    steps: [[null, 'red'], [0.9, 'orange'], [1, 'green']],
    expr: `avg(${byWindow('last_poll_success')})`,
  }),
  stat({
    title: ['缺昨日数据', 'Behind'],
    about: ['尚无昨日数据的小程序数；北京时间 10 点前属正常，有时到 15 点。', 'Apps without the figures of yesterday; usual until about 10:00 Beijing time, sometimes 15:00.'],
    steps: [[null, 'green'], [1, 'orange']],
    expr: `count(count by (appid) (${lagging})) or vector(0)`,
  }),
  stat({
    title: ['配置', 'Configuration'],
    about: ['最近一次读取的配置是否可用。', 'Whether the configuration was valid when it was last read.'],
    unit: 'short',
    mappings: texts({ 0: ['无效 invalid', 'red'], 1: ['有效 valid', 'green'] }),
    expr: `min(${metric('config_last_reload_successful')})`,
  }),
  stat({
    title: ['配置读取时间', 'Loaded'],
    about: ['最近一次成功读取配置的时间。', 'When a valid configuration was last read.'],
    unit: 'dateTimeFromNow',
    expr: `1000 * min(${metric('config_last_reload_success_timestamp_seconds')})`,
  }),
  stat({
    title: ['存档大小', 'Archive'],
    about: ['存档文件大小，含预写日志。', 'Size of the archive with its write-ahead log.'],
    unit: 'bytes',
    expr: `sum(${metric('archive_size_bytes')})`,
  }),
  stat({
    title: ['版本', 'Version'],
    about: ['正在运行的版本；多个 exporter 版本不同时列出多个。', 'What runs; several where exporters differ.'],
    unit: 'short',
    textMode: 'name',
    expr: `count by (version) (${metric('exporter_build_info')})`,
    legend: '{{version}}',
  }),
];

const polls = [
  chart({
    title: ['每分钟拉取', 'Polls per minute'],
    about: ['拉取次数与失败次数。', 'Polls, and those that brought no portrait.'],
    unit: 'short',
    interval: '1m',
    series: [
      { name: ['拉取', 'polls'], expr: `60 * sum(${rate(ofApps('polls_total'))})` },
      { name: ['失败', 'failures'], color: 'red', expr: `60 * sum(${rate(ofApps('poll_failures_total'))})` },
    ],
  }),
  chart({
    title: ['每分钟拉取失败（按原因）', 'Failed polls per minute by reason'],
    about: ['not_ready 与 empty 在上午属正常；credentials、ip_not_allowed、permission、configuration、quota、token 需人工处理。', 'not_ready and empty are usual in the morning; credentials, ip_not_allowed, permission, configuration, quota and token need somebody to act.'],
    unit: 'short',
    interval: '1m',
    stacking: 'normal',
    placement: 'right',
    series: [{ legend: '{{reason}}', expr: `60 * sum by (reason) (${rate(ofApps('poll_failures_total'))})` }],
  }),
  table({
    title: ['拉取失败的小程序', 'Failing apps'],
    about: ['最近一次拉取失败的小程序、原因与处理方法。', 'Apps whose last poll failed, why, and what to do.'],
    w: 24,
    h: 9,
    empty: '全部正常 · None failing',
    rank: `(${ofFailed(`max by (appid, reason) (${ofApps('last_poll_failure_info', 'reason!="not_ready"')})`)}) * on (appid) group_left (app) topk by (appid) (1, ${ofApps('app_info')})`,
    columns: [
      columns.app(),
      columns.reason,
      { title: ['失败次数', 'Failures'], decimals: 0, expr: ofFailed(`sum by (appid) (${increase(ofApps('poll_failures_total', 'reason!~"not_ready|empty"'))})`) },
      { title: ['数据日期', 'Day'], unit: 'time:YYYY-MM-DD', expr: ofFailed(dateOf(`min by (appid) (${ofApps('reference_date_timestamp_seconds')})`)) },
      { title: ['下次拉取', 'Next poll'], unit: 'dateTimeFromNow', expr: ofFailed(`1000 * min by (appid) (${ofApps('next_poll_timestamp_seconds')})`) },
      columns.appid,
    ],
  }),
  bars({
    title: ['修订', 'Revisions'],
    about: ['时间范围内，微信修订了已存档数据的次数。', 'Archived days that WeChat returned with other figures, within the time range.'],
    ...small, w: 12, unit: 'short', decimals: 0,
    expr: `sort_desc(sum by (window) (${increase(ofApps('revisions_total'))}))`,
    legend: '{{window}}',
  }),
  bars({
    title: ['修复', 'Repairs'],
    about: ['时间范围内，对微信返回内容的修复（重名、空名、无法识别的值）。', 'What had to be repaired in responses with new figures, within the time range.'],
    ...small, w: 12, unit: 'short', decimals: 0,
    expr: `sort_desc(sum by (repair) (${increase(ofApps('repairs_total'))}))`,
    legend: '{{repair}}',
  }),
];

const quantile = (q) => `histogram_quantile(${q}, sum by (endpoint, le) (${rate(metric('api_request_duration_seconds_bucket'))})) >= 0
or sum by (endpoint) (0 * ${rate(metric('api_request_duration_seconds_count'))})`;

const api = [
  chart({
    title: ['每分钟请求', 'Requests per minute'],
    about: ['对微信接口（或其替代地址）的请求。', 'Requests to WeChat, or to what replaces it.'],
    ...small, unit: 'short', interval: '1m',
    series: [{ legend: '{{endpoint}}', expr: `60 * sum by (endpoint) (${rate(metric('api_requests_total'))})` }],
  }),
  chart({
    title: ['每分钟失败请求（按错误码）', 'Failed requests per minute by code'],
    about: ['微信错误码，或 http_502、timeout、connect、body。61503 表示当日数据尚未生成，属正常。', 'WeChat’s number, or http_502, timeout, connect, body. 61503 is usual: a day is not computed yet.'],
    ...small, unit: 'short', interval: '1m', empty: '没有失败 · No failures',
    series: [{ legend: '{{endpoint}} {{errcode}}', expr: `60 * sum by (endpoint, errcode) (${rate(metric('api_request_failures_total'))})` }],
  }),
  chart({
    title: ['请求耗时', 'Duration of requests'],
    about: ['从发出请求到收完响应的中位数与 99 分位。', 'Median and 99th percentile of the time from sending a request to the last byte of its response; 0 without requests.'],
    ...small, unit: 's', interval: '1m',
    series: [{ legend: '{{endpoint}} p50', expr: quantile(0.5) }, { legend: '{{endpoint}} p99', expr: quantile(0.99) }],
  }),
];

const freshness = [
  chart({
    title: ['最旧数据', 'Age of the oldest figures'],
    about: ['最滞后小程序的数据日期距今多久；1 至 2.5 天属正常，超过两天微信不再保留。', 'How long ago the newest day of the app that is furthest behind began. One to two and a half days are usual; after two days WeChat forgets a day.'],
    ...small, unit: 'd',
    series: [{ legend: '{{window}}', expr: `max by (window) (time() - ${date}) / 86400` }],
  }),
  chart({
    title: ['缺昨日数据', 'Apps without yesterday'],
    about: ['尚无昨日数据的小程序数，上午应降至 0。', 'Apps without the figures of yesterday; falls to 0 in the morning, Beijing time.'],
    ...small, unit: 'short',
    series: [{ legend: '{{window}}', expr: `count by (window) (${lagging})\nor 0 * count by (window) (${windows})` }],
  }),
  chart({
    title: ['待确认', 'Apps with preliminary figures'],
    about: ['已有昨日数据但尚未确认（两次返回不一致）的小程序数，下午应降至 0。拉取失败的不计入。', 'Apps that have the figures of yesterday, of which two responses do not agree yet; falls to 0 in the afternoon, Beijing time. Those that fail are not counted.'],
    ...small, unit: 'short',
    series: [{ legend: '{{window}}', expr: `count by (window) (${byWindow('settled')} == 0 and on (appid, window) ${date} >= ${yesterday})\nor 0 * count by (window) (${windows})` }],
  }),
];

const archive = [
  chart({ title: ['存档大小', 'Size of the archive'], about: ['存档文件大小，含预写日志。', 'Size of the archive with its write-ahead log.'], ...small, unit: 'bytes', series: [{ legend: '{{instance}}', expr: `max by (instance) (${metric('archive_size_bytes')})` }] }),
  chart({
    title: ['存档天数', 'Archived days'],
    about: ['各小程序与时间窗口存档的最少与最多天数。', 'Fewest and most days that the archive has of an app and window.'],
    ...small, unit: 'short',
    series: [
      { name: ['最少', 'fewest'], expr: `min(${ofApps('archived_portraits')})` },
      { name: ['最多', 'most'], expr: `max(${ofApps('archived_portraits')})` },
    ],
  }),
  chart({
    title: ['每小时存档失败', 'Failures of the archive per hour'],
    about: ['存档操作失败次数；未能写入的数据暂存内存，稍后重试。', 'Failed operations. What could not be stored is served from memory and stored later.'],
    ...small, unit: 'short', interval: '1m',
    series: [{ legend: '{{operation}}', expr: `3600 * sum by (operation) (${rate(metric('archive_failures_total'))})` }],
  }),
];

const cost = [
  chart({ title: ['CPU 核数', 'CPU cores'], about: ['exporter 使用的 CPU 核数。', 'Cores that the exporter uses.'], ...small, w: 6, unit: 'short', interval: '1m', series: [{ legend: '{{instance}}', expr: `${rate(`process_cpu_seconds_total{${here}}`)} and on (job, instance) ${metric('exporter_build_info')}` }] }),
  chart({ title: ['内存', 'Memory'], about: ['exporter 常驻内存。', 'Resident memory of the exporter.'], ...small, w: 6, unit: 'bytes', series: [{ legend: '{{instance}}', expr: own('process_resident_memory_bytes') }] }),
  chart({
    title: ['抓取耗时', 'Duration of scrapes'],
    about: ['Prometheus 一次抓取的耗时（逐个抓取小程序时为最长的一次），含其自身写入样本的时间；scrape_timeout（默认 10 秒）只限制传输部分。', 'How long Prometheus takes for a scrape, or for the longest where apps are scraped one by one, its own work on the samples included; its time-out (10 s by default) limits the transfer only.'],
    ...small, w: 6, unit: 's',
    series: [{ legend: '{{exporter}}', expr: byScrape('max', 'scrape_duration_seconds') }],
  }),
  chart({ title: ['每次抓取样本数', 'Samples per scrape'], about: ['页面上的序列数，逐个抓取小程序时为总和；全部维度、一个时间窗口的小程序约 860 条。', 'Series on the page, or on those of all apps where they are scraped one by one; some 860 for an app with all dimensions and one window.'], ...small, w: 6, unit: 'short', series: [{ legend: '{{exporter}}', expr: byScrape('sum', 'scrape_samples_scraped') }] }),
];

const variable = (name, label, query) => queryVariable({ name, label, description: `The ${name}s of exporters`, query, all: '.+' });

export default dashboard({
  uid: 'wxapp-portrait-exporter',
  title: 'exporter 运行状态 · wxapp-portrait-exporter',
  description: 'Exporters of portraits: whether polls succeed, how fresh the figures are, and what it costs.',
  time: { from: 'now-24h', to: 'now' },
  refresh: '1m',
  variables: [
    sourceVariable,
    variable('job', 'Job', 'label_values(wxapp_portrait_exporter_build_info, job)'),
    variable('instance', 'Instance', 'label_values(wxapp_portrait_exporter_build_info{job=~"$job"}, instance)'),
    exporterVariable,
  ],
  annotations: [
    annotation({
      name: '告警 Alerts',
      color: 'red',
      expr: 'count by (alertname, severity) (ALERTS{alertname=~"WxappPortrait.+", alertname!~"WxappPortrait.+(Swing|Shift|Vanished|Appeared|Drift)", alertstate="firing"})',
      step: '1m',
      titleFormat: '{{alertname}}',
      textFormat: '',
      tagKeys: 'severity',
    }),
  ],
  page: { title: 'exporter 页面 Exporter page', path: '/' },
  panels: [
    ...firsts,
    row(['拉取', 'Polls']),
    ...polls,
    row(['微信接口', 'WeChat API']),
    ...api,
    row(['数据时效', 'Freshness']),
    ...freshness,
    row(['存档', 'Archive']),
    ...archive,
    row(['开销', 'Cost']),
    ...cost,
  ],
});
