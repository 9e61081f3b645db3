// From the targets of a panel to its finished data frames, by the steps that Grafana takes.

import {
  FieldConfigOptionsRegistry,
  FieldType,
  applyFieldOverrides,
  cacheFieldDisplayNames,
  rangeUtil,
  renderLegendFormat,
  standardTransformers,
  standardTransformersRegistry,
  transformDataFrame,
} from '@grafana/data';
import { scope, timeRange } from './variables.js';

// Some are in the list under two names.
standardTransformersRegistry.setInit(() =>
  [...new Set(Object.values(standardTransformers))].map((transformation) => ({
    id: transformation.id,
    name: transformation.name,
    transformation: async () => transformation,
  })),
);

const STANDARD = [
  'unit',
  'decimals',
  'min',
  'max',
  'fieldMinMax',
  'displayName',
  'noValue',
  'thresholds',
  'mappings',
  'color',
  'links',
  'description',
  'filterable',
  'actions',
];
const SCRAPE_INTERVAL = '15s'; // Grafana's default if the data source has none.

/** Runs the queries of a panel, transforms what comes and gives it its field configuration. */
export async function panelData({ panel, variables, scoped, width, theme, timeZone, range, ask }) {
  const targets = (panel.targets ?? []).filter(({ hide }) => !hide);
  const answers = await Promise.all(targets.flatMap((target) => queries({ target, panel, variables, scoped, width, range, ask })));
  const tables = answers.filter(({ target }) => target.format === 'table');
  let frames = answers.flatMap((answer) => (answer.target.format === 'table' ? table(answer, tables.length) : series(answer)));
  if (answers.length > 0 && frames.every(({ length }) => length === 0)) frames = [];
  const replace = (text, more) => variables.replace(text, { ...scoped, ...more });
  for (const { id, disabled } of panel.transformations ?? [])
    if (!disabled && !standardTransformersRegistry.getIfExists(id)) throw new Error(`the preview does not know the transformation ${id}`);
  frames = await new Promise((resolve, reject) => {
    transformDataFrame(panel.transformations ?? [], frames, { interpolate: replace }).subscribe({ next: resolve, error: reject });
  });
  const fieldConfig = configOf(panel);
  const finished = applyFieldOverrides({
    data: frames,
    fieldConfig,
    fieldConfigRegistry: registry(fieldConfig),
    replaceVariables: replace,
    theme,
    timeZone,
  });
  // Colours may depend on them.
  cacheFieldDisplayNames(finished);
  return finished;
}

/** The time range of a panel: that of the dashboard, unless it has one of its own. */
export function panelRange(panel, dashboard, timeZone) {
  const { from, to } = panel.timeFrom ? { from: `now-${panel.timeFrom}`, to: 'now' } : dashboard.raw;
  const shift = (time) => (panel.timeShift ? time.replace(/^now/, `now-${panel.timeShift}`) : time);
  return panel.timeFrom || panel.timeShift ? timeRange(shift(from), shift(to), timeZone) : dashboard;
}

/** The milliseconds between two samples, so that there are at most `points`, or as many as Prometheus allows. */
export function stepOf(range, points, least) {
  const safe = rangeUtil.roundInterval((range.to - range.from) / 11000);
  return Math.max(rangeUtil.calculateInterval(range, points, least.replace(/^>/, '')).intervalMs, safe);
}

/** The values of `$__interval` and the like, of a step in seconds and the interval between scrapes. */
export function intervals(step, scrapeInterval) {
  const scrape = rangeUtil.intervalToSeconds(scrapeInterval);
  const rate = Math.max(step + scrape, 4 * scrape);
  return scope({
    __interval: rangeUtil.secondsToHms(step),
    __interval_ms: step * 1000,
    __rate_interval: `${rate}s`,
    __rate_interval_ms: rate * 1000,
  });
}

/** The parameters of a range query. Grafana's steps begin at midnight of the time zone rather than of UTC. */
export function aligned(range, step) {
  const offset = range.to.utcOffset() * 60;
  const align = (time) => Math.floor((time.valueOf() / 1000 + offset) / step) * step - offset;
  return { start: align(range.from), end: align(range.to), step };
}

function queries({ target, panel, variables, scoped, width, range, ask }) {
  const type = target.datasource?.type;
  if (type && type !== 'prometheus') throw new Error(`query ${target.refId}: the preview does not know the data source ${type}`);
  if (!target.expr) throw new Error(`query ${target.refId}: no expression`);
  const points = panel.maxDataPoints ?? Math.max(width, 1);
  const replace = (text) => variables.replace(text, scoped);
  const least = replace(target.interval || panel.interval || SCRAPE_INTERVAL);
  const step = stepOf(range, points, least) * (target.intervalFactor || 1);
  const expr = variables.replace(target.expr, { ...scoped, ...intervals(step / 1000, replace(target.interval || SCRAPE_INTERVAL)) }, true);
  const run = async (path, parameters) => {
    try {
      const { result, resultType } = await ask(path, { query: expr, ...parameters });
      return { target, expr, step, replace, result: resultType === 'scalar' ? [{ metric: {}, value: result }] : result };
    } catch (error) {
      throw new Error(`query ${target.refId}: ${error.message}`);
    }
  };
  return [
    ...(target.instant ? [run('query', { time: range.to.valueOf() / 1000 })] : []),
    ...(target.range || !target.instant ? [run('query_range', aligned(range, step / 1000))] : []),
  ];
}

const samples = ({ value, values }) => values ?? [value];

/** A frame per series. */
function series({ target, expr, step, replace, result }) {
  return result.map((one) => {
    const { metric } = one;
    const name = legend(target.legendFormat, metric, expr, replace);
    const points = samples(one);
    return {
      refId: target.refId,
      name,
      length: points.length,
      fields: [
        { name: 'Time', type: FieldType.time, config: one.values ? { interval: step } : {}, values: points.map(([at]) => at * 1000) },
        {
          name: 'Value',
          type: FieldType.number,
          labels: metric,
          config: name ? { displayNameFromDS: name } : {},
          values: points.map(([, value]) => Number(value)),
        },
      ],
    };
  });
}

function legend(format, metric, expr, replace) {
  if (format === '__auto') return Object.keys(metric).length > 0 ? '' : expr;
  if (format) return renderLegendFormat(replace(format), metric);
  const { __name__ = '', ...labels } = metric;
  const inner = Object.entries(labels)
    .map(([label, value]) => `${label}="${value}"`)
    .join(', ');
  return inner ? `${__name__}{${inner}}` : __name__ || expr;
}

/** One frame with a row per sample and a column per label. */
function table({ target, result }, tables) {
  const rows = result.flatMap((one) => samples(one).map(([at, value]) => ({ metric: one.metric, at: at * 1000, value: Number(value) })));
  const labels = [...new Set(result.flatMap(({ metric }) => Object.keys(metric)))].sort();
  const value = tables > 1 ? `Value #${target.refId}` : 'Value';
  return {
    refId: target.refId,
    length: rows.length,
    fields: [
      { name: 'Time', type: FieldType.time, config: {}, values: rows.map(({ at }) => at) },
      ...labels.map((label) => ({
        name: label,
        type: FieldType.string,
        config: { filterable: true },
        values: rows.map(({ metric }) => metric[label] ?? ''),
      })),
      { name: value, type: FieldType.number, config: {}, values: rows.map((row) => row.value) },
    ],
  };
}

/** The field configuration of a panel, with what Grafana fills in for its type where the JSON is silent. */
export function configOf(panel) {
  const { defaults = {}, overrides = [] } = structuredClone(panel.fieldConfig ?? {});
  const classic = ['timeseries', 'barchart', 'piechart'].includes(panel.type);
  defaults.color ??= { mode: classic ? 'palette-classic' : 'thresholds' };
  defaults.thresholds ??= {
    mode: 'absolute',
    steps: [
      { color: 'green', value: null },
      { color: 'red', value: 80 },
    ],
  };
  const lists = [
    defaults.thresholds,
    ...overrides.flatMap(({ properties }) => properties.filter(({ id }) => id === 'thresholds').map(({ value }) => value)),
  ];
  // JSON knows no infinity.
  for (const { steps } of lists) if (steps?.length) steps[0].value = -Infinity;
  return { defaults, overrides };
}

/** Grafana's plugins define which properties they accept; here, those are accepted that this panel sets. */
function registry({ defaults, overrides }) {
  const item = (id, path, isCustom) => ({ id, path, isCustom, name: id, process: (value) => value, shouldApply: () => true });
  const custom = new Set([
    ...Object.keys(defaults.custom ?? {}).map((key) => `custom.${key}`),
    ...overrides.flatMap(({ properties }) => properties.map(({ id }) => id)).filter((id) => id.startsWith('custom.')),
  ]);
  // A name of a parent (custom.cellOptions) before one of its children (custom.cellOptions.mode).
  return new FieldConfigOptionsRegistry(() => [
    ...STANDARD.map((id) => item(id, id, false)),
    ...[...custom].sort().map((id) => item(id, id.slice(7), true)),
  ]);
}
