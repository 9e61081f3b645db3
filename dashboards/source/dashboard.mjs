// What all dashboards have in common: variables, annotations, links, and the places of panels.

const datasource = { type: 'prometheus', uid: '${datasource}' };

/** Where people find the exporter's own pages. */
const exporter = 'http://localhost:10690';

export const sourceVariable = {
  name: 'datasource',
  type: 'datasource',
  label: 'Data source',
  query: 'prometheus',
  current: {},
  options: [],
  hide: 0,
  includeAll: false,
  multi: false,
  refresh: 1,
  regex: '',
};

export const exporterVariable = {
  name: 'exporter',
  type: 'constant',
  label: 'Exporter',
  description: 'Where the pages of the exporter are',
  query: exporter,
  current: { selected: false, text: exporter, value: exporter },
  options: [{ selected: true, text: exporter, value: exporter }],
  hide: 2,
  skipUrlSync: true,
};

/** A variable with the values of a label, or of a query and a regular expression. */
export const queryVariable = ({ query, all, ...rest }) => ({
  type: 'query',
  datasource,
  definition: query,
  query: { qryType: query.startsWith('label_values') ? 1 : 3, query, refId: 'PrometheusVariableQueryEditor-VariableQuery' },
  current: {},
  options: [],
  hide: 0,
  multi: Boolean(all),
  includeAll: Boolean(all),
  ...(all && { allValue: all }),
  refresh: 2,
  regex: '',
  sort: 1,
  ...rest,
});

/** A variable with given values, as `[text, value]`. */
export const choiceVariable = ({ choices, ...rest }) => ({
  type: 'custom',
  query: choices.map(([text, value]) => (text === value ? value : `${text} : ${value}`)).join(','),
  current: { selected: true, text: choices[0][0], value: choices[0][1] },
  options: choices.map(([text, value], i) => ({ selected: i === 0, text, value })),
  hide: 0,
  includeAll: false,
  multi: false,
  ...rest,
});

export const textVariable = (rest) => ({
  type: 'textbox',
  query: '',
  current: { selected: false, text: '', value: '' },
  options: [{ selected: true, text: '', value: '' }],
  hide: 0,
  ...rest,
});

export const annotation = ({ color, hidden = false, ...rest }) => ({ datasource, enable: !hidden, hide: false, iconColor: color, useValueForTime: false, ...rest });

/** Marks public holidays, and the workdays instead of them, on the day axis. */
export const holidays = (expr) =>
  annotation({
    name: '节假日 Holidays',
    color: 'rgba(87, 148, 242, 0.6)',
    expr,
    step: '1d',
    titleFormat: '{{holiday}} {{kind}}',
    textFormat: '',
    tagKeys: 'kind',
  });

/** Puts panels next to each other, from left to right and from top to bottom, and numbers them. */
function placed(panels) {
  let [x, y, height] = [0, 0, 0];
  return panels.map(({ gridPos: { w, h }, ...panel }, i) => {
    if (x + w > 24) [x, y, height] = [0, y + height, 0];
    const gridPos = { x, y, w, h };
    x += w;
    height = Math.max(height, h);
    return { id: i + 1, ...panel, gridPos };
  });
}

export const dashboard = ({ uid, title, description, time, refresh = '5m', variables, annotations, page, panels }) => ({
  id: null,
  uid,
  title,
  description,
  tags: ['wxapp-portrait'],
  // Days are days of Beijing.
  timezone: 'Asia/Shanghai',
  weekStart: 'monday',
  time,
  refresh,
  schemaVersion: 39,
  version: 1,
  editable: false,
  fiscalYearStartMonth: 0,
  graphTooltip: 1,
  links: [
    { type: 'dashboards', title: 'wxapp-portrait', tags: ['wxapp-portrait'], asDropdown: false, icon: 'external link', includeVars: false, keepTime: false, targetBlank: false, tooltip: '', url: '' },
    { type: 'link', title: page.title, url: `\${exporter}${page.path}`, tags: [], asDropdown: false, icon: 'external link', includeVars: false, keepTime: false, targetBlank: true, tooltip: '' },
  ],
  templating: { list: variables },
  annotations: {
    list: [
      { builtIn: 1, datasource: { type: 'grafana', uid: '-- Grafana --' }, enable: true, hide: true, iconColor: 'rgba(0, 211, 255, 1)', name: 'Annotations & Alerts', type: 'dashboard' },
      ...annotations,
    ],
  },
  panels: placed(panels),
});
