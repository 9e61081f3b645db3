// Panels, with what all of a kind have in common. Options that Grafana has by default are left out.

const datasource = { type: 'prometheus', uid: '${datasource}' };

/** A text in both languages, as titles have it. */
export const both = (texts) => texts.join(' ').trim();

const noData = '暂无数据 · No data';

export const colors = { new: '#FF9830', active: '#5794F2', usual: '#8E8E8E', week: '#B877D9', few: '#B0B0B0' };

/** Colours for changes: what falls or rises as much as a swing is coloured. */
export const changes = [[null, 'red'], [-0.35, 'text'], [0.54, 'green']];

const absolute = (steps) => ({ mode: 'absolute', steps: steps.map(([value, color]) => ({ color, value })) });

const fixed = (color) => ({ mode: 'fixed', fixedColor: color });

/** How Grafana calls the queries of a panel. */
const letter = (i) => String.fromCharCode(65 + i);

const byName = (name) => ({ id: 'byName', options: both(name) });

const override = (matcher, properties) => ({
  matcher,
  properties: Object.entries(properties).map(([id, value]) => ({ id, value })),
});

/** Texts for values. */
export const texts = (byValue) => [
  {
    type: 'value',
    options: Object.fromEntries(Object.entries(byValue).map(([value, text], index) => [value, { index, ...(Array.isArray(text) ? { text: text[0], color: text[1] } : { text }) }])),
  },
];

/** For missing values, which would have the colour of the smallest. */
const dash = [{ type: 'special', options: { match: 'null+nan', result: { index: 0, text: '–', color: 'text' } } }];

function targets(queries, settings) {
  return queries.map(({ expr, legend }, i) => ({
    refId: letter(i),
    datasource,
    editorMode: 'code',
    expr,
    legendFormat: legend,
    instant: true,
    range: false,
    format: 'time_series',
    ...settings,
  }));
}

function panel(type, { title, about, w, h, unit = 'locale', decimals, min, max, empty = noData, mappings, steps = [[null, 'text']], color = { mode: 'thresholds' }, custom, overrides = [], options, queries, query, interval, transformations }) {
  return {
    type,
    title: both(title),
    description: about.join('\n\n'),
    datasource,
    gridPos: { w, h },
    fieldConfig: {
      defaults: { unit, decimals, min, max, noValue: empty, color, mappings, thresholds: absolute(steps), custom },
      overrides,
    },
    options,
    interval,
    targets: targets(queries, query),
    transformations,
  };
}

/** A row, under which panels follow. */
export const row = (title) => ({ type: 'row', title: both(title), collapsed: false, panels: [], gridPos: { w: 24, h: 1 } });

/** One figure. */
export const stat = ({ expr, legend = '__auto', textMode = 'value', ...rest }) =>
  panel('stat', {
    w: 3,
    h: 4,
    queries: [{ expr, legend }],
    options: {
      colorMode: 'value',
      graphMode: 'none',
      justifyMode: 'center',
      orientation: 'auto',
      textMode,
      wideLayout: true,
      showPercentChange: false,
      reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false },
    },
    ...rest,
  });

/** A date, from its time in milliseconds. */
export const dateStat = (rest) =>
  stat({
    unit: 'dateTimeAsLocal',
    legend: 'day',
    overrides: [override({ id: 'byName', options: 'day' }, { unit: 'time:YYYY-MM-DD' })],
    ...rest,
  });

/** A change from what is usual. */
export const change = (rest) => stat({ unit: 'percentunit', decimals: 1, steps: changes, mappings: dash, empty: '–', ...rest });

const legend = (placement = 'bottom') => ({ displayMode: 'list', placement, showLegend: true, calcs: [] });

const line = { drawStyle: 'line', lineWidth: 1, fillOpacity: 0, showPoints: 'auto', pointSize: 4 };

/** How a series of a chart is drawn. */
const drawings = {
  bars: { drawStyle: 'bars', fillOpacity: 70, lineWidth: 0, barAlignment: 0, barWidthFactor: 0.7 },
  line,
  dashed: { ...line, showPoints: 'never', lineStyle: { fill: 'dash', dash: [6, 4] } },
  edge: { ...line, lineWidth: 0, showPoints: 'never', hideFrom: { legend: true, tooltip: false, viz: false } },
};

/**
 * A chart. Series of one name (`name`) have an own drawing and colour; those with a `legend` alone are drawn as the chart is by default. A
 * series `above` another one fills the space between both. Where the label `note` is its legend, this says which days are not complete.
 */
export function chart({ series, drawing = 'line', stacking = 'none', placement, ...rest }) {
  const overrides = series.flatMap(({ name, draw = drawing, color, above }) => {
    if (!name) return [];
    const custom = { ...drawings[draw], ...(above && { fillBelowTo: both(above), fillOpacity: 12 }) };
    const properties = Object.fromEntries(Object.entries(custom).map(([key, value]) => [`custom.${key}`, value]));
    return [override(byName(name), { ...(color && { color: fixed(color) }), ...properties })];
  });
  const partial = series.some(({ legend: format }) => format === '{{note}}')
    ? [override({ id: 'byRegexp', options: '/未到齐/' }, { color: fixed(colors.few) })]
    : [];
  return panel('timeseries', {
    w: 12,
    h: 9,
    min: 0,
    color: { mode: 'palette-classic-by-name' },
    custom: { ...drawings[drawing], spanNulls: false, stacking: { mode: stacking, group: 'A' } },
    overrides: [...overrides, ...partial],
    queries: series.map(({ expr, name, legend: format }) => ({ expr, legend: format ?? both(name) })),
    query: { instant: false, range: true },
    options: { legend: legend(placement), tooltip: { mode: 'multi', sort: 'none' } },
    ...rest,
  });
}

/** A chart with a point a day. */
export const dayChart = (rest) => chart({ interval: '1d', ...rest });

/**
 * A table of at least two queries. `rank` decides which rows there are, and their order, the highest first. A column is either a label
 * of the queries, the value of one (`expr`), or the difference of two other columns (`minus`); a query of a hidden one has labels only.
 */
export function table({ rank, columns, ...rest }) {
  const queries = [rank, ...columns.map(({ expr }) => expr).filter(Boolean)].map((expr) => ({ expr, legend: '__auto' }));
  let query = 0;
  const fields = columns.map((column) => {
    if (column.expr) query += 1;
    return { ...column, field: column.label ?? (column.minus ? 'difference' : `Value #${letter(query)}`) };
  });
  const shown = fields.filter(({ hidden }) => !hidden);
  const hidden = fields.filter(({ hidden }) => hidden).map(({ field }) => [field, true]);
  const fieldOf = (title) => shown.find((column) => both(column.title) === both(title)).field;
  const differences = shown
    .filter(({ minus }) => minus)
    .map(({ field, minus: [left, right] }) => ({
      id: 'calculateField',
      options: { mode: 'binary', alias: field, binary: { left: fieldOf(left), operator: '-', right: fieldOf(right) } },
    }));
  const overrides = shown.map(({ title, label, unit, decimals, width, mappings, steps, bar, links }) => {
    const properties = {
      noValue: '–',
      ...(unit && { unit }),
      ...(decimals !== undefined && { decimals }),
      ...(width && { 'custom.width': width }),
      ...(!label && mappings && { 'custom.align': 'left' }),
      ...((mappings || !label) && { mappings: [...(mappings ?? []), ...(label ? [] : dash)] }),
      ...(steps && { thresholds: absolute(steps), 'custom.cellOptions': { type: 'color-text' } }),
      ...(bar && { min: 0, fieldMinMax: true, color: fixed(bar), 'custom.cellOptions': { type: 'gauge', mode: 'basic', valueDisplayMode: 'text' } }),
      ...(links && { links }),
    };
    return override(byName(title), properties);
  });
  return panel('table', {
    custom: { align: 'auto', cellOptions: { type: 'auto' }, filterable: false, inspect: false, minWidth: 60 },
    overrides,
    queries,
    query: { format: 'table' },
    options: { cellHeight: 'sm', showHeader: true },
    transformations: [
      { id: 'merge', options: {} },
      ...differences,
      { id: 'sortBy', options: { fields: {}, sort: [{ field: 'Value #A', desc: true }] } },
      {
        id: 'organize',
        options: {
          excludeByName: { Time: true, 'Value #A': true, ...Object.fromEntries(hidden) },
          indexByName: Object.fromEntries(shown.map(({ field }, i) => [field, i])),
          renameByName: Object.fromEntries(shown.map(({ field, title }) => [field, both(title)])),
        },
      },
    ],
    ...rest,
  });
}

/** Bars with names, the longest first. */
export const bars = ({ expr, legend: name, ...rest }) =>
  panel('bargauge', {
    min: 0,
    color: { mode: 'continuous-BlPu' },
    queries: [{ expr, legend: name }],
    options: {
      displayMode: 'basic',
      orientation: 'horizontal',
      valueMode: 'color',
      showUnfilled: true,
      minVizHeight: 16,
      minVizWidth: 8,
      namePlacement: 'auto',
      sizing: 'auto',
      reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false },
    },
    ...rest,
  });

export const pie = ({ expr, legend: name, ...rest }) =>
  panel('piechart', {
    color: { mode: 'palette-classic-by-name' },
    queries: [{ expr, legend: name }],
    options: {
      pieType: 'donut',
      displayLabels: ['name', 'percent'],
      legend: { ...legend(), values: ['value'] },
      reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false },
      tooltip: { mode: 'single', sort: 'none' },
    },
    ...rest,
  });

/** Bars beside each other, by name; a column each. */
export function groups({ names, columns, ...rest }) {
  const name = both(names.title);
  const fields = columns.map((column, i) => ({ ...column, field: `Value #${letter(i)}` }));
  return panel('barchart', {
    min: 0,
    color: { mode: 'palette-classic' },
    custom: { fillOpacity: 70, lineWidth: 0 },
    overrides: columns.map(({ title, color }) => override(byName(title), { color: fixed(color) })),
    queries: columns.map(({ expr }) => ({ expr, legend: '__auto' })),
    query: { format: 'table' },
    options: {
      xField: name,
      orientation: 'auto',
      showValue: 'always',
      stacking: 'none',
      groupWidth: 0.7,
      barWidth: 0.9,
      fullHighlight: false,
      xTickLabelRotation: 0,
      xTickLabelSpacing: 0,
      legend: legend(),
      tooltip: { mode: 'multi', sort: 'none' },
    },
    transformations: [
      { id: 'merge', options: {} },
      { id: 'sortBy', options: { fields: {}, sort: [{ field: names.label, desc: false }] } },
      {
        id: 'organize',
        options: {
          excludeByName: { Time: true },
          indexByName: Object.fromEntries([[names.label, 0], ...fields.map(({ field }, i) => [field, i + 1])]),
          renameByName: Object.fromEntries([[names.label, name], ...fields.map(({ field, title }) => [field, both(title)])]),
        },
      },
    ],
    ...rest,
  });
}
