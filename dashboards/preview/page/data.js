// From the targets of a panel to its finished data frames, by the steps that Grafana takes.

import {
  FieldConfigOptionsRegistry,
  FieldType,
  applyFieldOverrides,
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
    transformation,
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
  frames = await new Promise((resolve, reject) => {
    transformDataFrame(panel.transformations ?? [], frames, { interpolate: replace }).subscribe({ next: resolve, error: reject });
  });
  const fieldConfig = configOf(panel);
  return applyFieldOverrides({
    data: frames,
    fieldConfig,
    fieldConfigRegistry: registry(fieldConfig),
    replaceVariables: replace,
    theme,
    timeZone,
  });
}

/** The time range of a panel: that of the dashboard, unless it has one of its own. */
export function panelRange(panel, dashboard, timeZone) {
  const { from, to } = panel.timeFrom ? { from: `now-${panel.timeFrom}`, to: 'now' } : dashboard.raw;
  const shift = (time) => (panel.timeShift ? time.replace(/^now/, `now-${panel.timeShift}`) : time);
  return panel.timeFrom || panel.timeShift ? timeRange(shift(from), shift(to), timeZone) : dashboard;
}

function queries({ target, panel, variables, scoped, width, range, ask }) {
  const type = target.datasource?.type;
  if (type && type !== 'prometheus') throw new Error(`query ${target.refId}: the preview does not know the data source ${type}`);
  if (!target.expr) throw new Error(`query ${target.refId}: no expression`);
  const points = panel.maxDataPoints ?? Math.max(width, 1);
  const replace = (text) => variables.replace(text, scoped);
  const least = replace(target.interval || panel.interval || SCRAPE_INTERVAL).replace(/^>/, '');
  const safe = rangeUtil.roundInterval((range.to - range.from) / 11000);
  const step = Math.max(rangeUtil.calculateInterval(range, points, least).intervalMs, safe) * (target.intervalFactor || 1);
  const seconds = step / 1000;
  const interval = rangeUtil.secondsToHms(seconds);
  const scrape = rangeUtil.intervalToSeconds(replace(target.interval || SCRAPE_INTERVAL));
  const rate = Math.max(seconds + scrape, 4 * scrape);
  const expr = variables.replace(
    target.expr,
    { ...scoped, ...scope({ __interval: interval, __interval_ms: step, __rate_interval: `${rate}s`, __rate_interval_ms: rate * 1000 }) },
    true,
  );
  const run = async (path, parameters) => {
    try {
      const { result, resultType } = await ask(path, { query: expr, ...parameters });
      return { target, expr, step, replace, result: resultType === 'scalar' ? [{ metric: {}, value: result }] : result };
    } catch (error) {
      throw new Error(`query ${target.refId}: ${error.message}`);
    }
  };
  // Grafana lets steps begin at midnight of the dashboard's time zone rather than of UTC.
  const offset = range.to.utcOffset() * 60;
  const aligned = (time) => Math.floor((time.valueOf() / 1000 + offset) / seconds) * seconds - offset;
  return [
    ...(target.instant ? [run('query', { time: range.to.valueOf() / 1000 })] : []),
    ...(target.range || !target.instant ? [run('query_range', { start: aligned(range.from), end: aligned(range.to), step: seconds })] : []),
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
