// The variables of a dashboard: their options, their values, and their names in texts and queries.

import { dateMath, dateTimeForTimeZone, dateTimeFormat, rangeUtil } from '@grafana/data';

const ALL = '$__all';
const NAME = /\$(\w+)|\[\[(\w+?)(?::(\w+))?\]\]|\$\{(\w+)(?:\.([^:^}]+))?(?::([^}]+))?\}/g;
const escapeRegex = (value) => value.replace(/[\\^$*+?.()|[\]{}/]/g, '\\$&');
const escapePromRegex = (value) => value.replace(/\\/g, '\\\\\\\\').replace(/[$^*{}[\]'+?.()|]/g, '\\\\$&');

const FORMATS = {
  raw: (values) => values.join(','),
  csv: (values) => values.join(','),
  pipe: (values) => values.join('|'),
  glob: (values) => (values.length > 1 ? `{${values.join(',')}}` : values.join('')),
  regex: (values) => (values.length > 1 ? `(${values.map(escapeRegex).join('|')})` : values.map(escapeRegex).join('')),
  json: (values) => JSON.stringify(values.length > 1 ? values : values[0]),
  doublequote: (values) => values.map((value) => `"${value.replaceAll('"', '\\"')}"`).join(','),
  singlequote: (values) => values.map((value) => `'${value.replaceAll("'", "\\'")}'`).join(','),
  percentencode: (values) => encodeURIComponent(values.join(',')),
  queryparam: (values, name) => values.map((value) => `var-${name}=${encodeURIComponent(value)}`).join('&'),
};

/** The time range `from` to `to`, both as Grafana writes them (`now-7d/d`), in a time zone. */
export function timeRange(from, to, timezone) {
  const now = Date.now();
  const parse = (text, roundUp) =>
    text.startsWith('now')
      ? dateMath.toDateTime(text, { roundUp, timezone, now })
      : dateTimeForTimeZone(timezone, /^\d+$/.test(text) ? Number(text) : text);
  const range = { from: parse(from, false), to: parse(to, true), raw: { from, to } };
  if (!range.from?.isValid() || !range.to?.isValid()) throw new Error(`no time range: ${from} to ${to}`);
  return range;
}

/** The values that go before all others while a panel is drawn: those of a repetition, and `$__interval` and the like. */
export const scope = (values) => Object.fromEntries(Object.entries(values).map(([name, value]) => [name, { values: [`${value}`] }]));

export class Variables {
  #known = {};

  constructor(range, timezone) {
    const seconds = Math.round(range.to.diff(range.from) / 1000);
    this.#known = scope({
      __from: range.from.valueOf(),
      __to: range.to.valueOf(),
      __range: `${seconds}s`,
      __range_s: seconds,
      __range_ms: seconds * 1000,
      __timezone: timezone,
      timezone,
    });
    this.range = range;
    this.timezone = timezone;
  }

  /** Finds the options and the value of each variable of `templating`, in its order; `wanted` goes before what is saved. Returns what failed. */
  async load(list, wanted, ask) {
    const faults = [];
    for (const variable of list) {
      try {
        const options = await this.#options(variable, ask);
        this.#known[variable.name] = this.#choose(variable, options, wanted[variable.name]);
      } catch (error) {
        this.#known[variable.name] = { values: [''], label: '?' };
        faults.push(`variable ${variable.name}: ${error.message}`);
      }
    }
    return faults;
  }

  /** What a repetition by `name` runs over. */
  values(name) {
    const { values, texts } = this.#known[name] ?? { values: [] };
    return values.map((value, i) => ({ value, text: texts?.[i] ?? value }));
  }

  /** Name and chosen text of each variable that is shown, for the head of the dashboard. */
  shown(list) {
    return list
      .filter(({ hide }) => hide !== 2 && hide !== 'hideVariable')
      .map(({ name, label }) => ({ name: label || name, text: this.#known[name]?.label ?? '' }));
  }

  /** Puts the values into a text. For a query (`prometheus`), lists and what a regular expression would read are escaped. */
  replace(text, scoped = {}, prometheus = false) {
    return text.replace(NAME, (match, plain, square, squareFormat, curly, path, curlyFormat) => {
      const name = plain ?? square ?? curly;
      if (scoped.__dataContext && name.startsWith('__')) {
        const found = fromData(name, path, scoped);
        if (found !== undefined) return found;
      }
      const variable = scoped[name] ?? this.#known[name];
      if (!variable?.values) return match;
      const [format, argument] = (squareFormat ?? curlyFormat ?? '').split(':');
      const { values } = variable;
      if (format === 'text') return variable.label ?? values.join(' + ');
      if (format === 'date') return dateTimeFormat(Number(values[0]), { timeZone: this.timezone, format: argument });
      if (FORMATS[format]) return FORMATS[format](values, name);
      if (variable.custom || !prometheus) return FORMATS.glob(values);
      if (!variable.list) return values[0].replace(/\\/g, '\\\\').replace(/'/g, "\\\\'");
      return values.length > 1 ? `(${values.map(escapePromRegex).join('|')})` : values.map(escapePromRegex).join('');
    });
  }

  async #options(variable, ask) {
    const { type, query, options } = variable;
    const list = (values) => values.map((value) => (typeof value === 'string' ? { value, text: value } : value));
    if (type === 'datasource') return list(['default']);
    if (type === 'constant' || type === 'textbox') return list([this.replace(query ?? '')]);
    if (type === 'interval') return list(query.split(',').map((item) => item.trim()));
    if (type === 'custom') {
      return list((query ?? '').match(/(?:\\,|[^,])+/g) ?? []).map(({ value }) => {
        const [, text, inner] = /^\s*(.+)\s:\s(.+)$/.exec(value) ?? [null, value, value];
        return { text: text.trim().replace(/\\,/g, ','), value: inner.trim().replace(/\\,/g, ',') };
      });
    }
    if (type === 'query') return sort(filter(list(await this.#query(variable, ask)), this.replace(variable.regex ?? '')), variable.sort);
    if (type === 'adhoc' || type === 'groupby') return [];
    throw new Error(`the preview does not know the type ${type}${options ? '' : ' without options'}`);
  }

  async #query({ query, refresh }, ask) {
    const text = this.replace(typeof query === 'string' ? query : (query?.query ?? ''), {}, true).trim();
    const time = { start: this.range.from.valueOf() / 1000, end: this.range.to.valueOf() / 1000 };
    let found;
    if ((found = /^label_values\((?:([^]+),\s*)?(\w+)\s*\)$/.exec(text))) {
      return ask(`label/${found[2]}/values`, { ...time, ...(found[1] && { 'match[]': found[1].trim() }) });
    }
    if ((found = /^label_names\(\)$/.exec(text))) return ask('labels', time);
    if ((found = /^metrics\((.*)\)$/.exec(text))) {
      return (await ask('label/__name__/values', time)).filter((name) => new RegExp(found[1]).test(name));
    }
    if ((found = /^query_result\(([^]+)\)$/.exec(text))) {
      const { result } = await ask('query', { query: found[1], time: time.end });
      return result.map(({ metric, value: [at, value] }) => {
        const { __name__ = '', ...labels } = metric;
        return `${__name__}{${Object.entries(labels)
          .map(([label, of]) => `${label}="${of}"`)
          .join(',')}} ${value} ${at * 1000}`;
      });
    }
    throw new Error(`the preview does not know the query ${text}`);
  }

  #choose(variable, options, wanted) {
    const { type, multi, includeAll, allValue, current } = variable;
    const list = Boolean(multi || includeAll);
    const single = (value) => ({ values: [value], label: value, list });
    if (type === 'textbox' || type === 'constant') return single(wanted?.[0] ?? current?.value ?? options[0].value);
    if (type === 'datasource') return { values: ['default'], label: 'Prometheus', list: false };
    const all = () => ({
      values: allValue ? [allValue] : options.map(({ value }) => value),
      texts: options.map(({ text }) => text),
      label: 'All',
      list,
      custom: Boolean(allValue),
    });
    let values = wanted ?? [current?.value ?? []].flat();
    if (values.includes(ALL)) return all();
    // What was asked for is taken at its word; what was saved may be gone.
    if (!wanted) values = values.filter((value) => options.some((option) => option.value === value));
    if (values.length === 0) {
      if (includeAll) return all();
      if (options.length === 0) return { values: [''], label: 'None', list };
      values = [options[0].value];
    }
    if (type === 'interval' && values[0] === 'auto')
      values = [rangeUtil.calculateInterval(this.range, variable.auto_count ?? 30, variable.auto_min).interval];
    const texts = values.map((value) => options.find((option) => option.value === value)?.text ?? value);
    return { values, texts, label: texts.join(' + '), list };
  }
}

/** `${__field.name}`, `${__field.labels.x}`, `${__data.fields.x}` and the like, of the field that is being drawn. */
function fromData(name, path, { __dataContext, __calc }) {
  const { field, frame, rowIndex = 0 } = __dataContext.value;
  if (name === '__calc') return __calc?.value;
  if (name === '__field' && path?.startsWith('labels')) return field.labels?.[path.replace(/^labels\.?\[?"?|"?\]$/g, '')] ?? '';
  if (name === '__field' || name === '__series') return field.config.displayNameFromDS ?? field.name;
  const cell = /^fields[.[]"?([^"\]]+)/.exec(path ?? '')?.[1];
  if (name === '__data' && cell)
    return `${(frame.fields.find((other) => other.name === cell) ?? frame.fields[cell])?.values[rowIndex] ?? ''}`;
  if (name === '__value') return `${field.values[rowIndex] ?? ''}`;
  return undefined;
}

function filter(options, regex) {
  const [, body, flags] = /^\/(.*?)\/([gimsuy]*)$/s.exec(regex) ?? [null, regex, ''];
  if (!body) return options;
  const pattern = new RegExp(body, flags.replace('g', ''));
  const kept = options.flatMap(({ value }) => {
    const found = pattern.exec(value);
    if (!found) return [];
    const { value: named, text } = found.groups ?? {};
    return [{ value: named ?? text ?? found[1] ?? value, text: text ?? named ?? found[1] ?? value }];
  });
  return kept.filter(({ value }, i) => kept.findIndex((other) => other.value === value) === i);
}

function sort(options, order = 0) {
  const number = ({ text }) => Number(/\d+/.exec(text)?.[0] ?? -1);
  const by = {
    1: (a, b) => (a.text < b.text ? -1 : 1),
    3: (a, b) => number(a) - number(b),
    5: (a, b) => (a.text.toLowerCase() < b.text.toLowerCase() ? -1 : 1),
    7: (a, b) => a.text.localeCompare(b.text, undefined, { numeric: true }),
  }[order % 2 ? order : order - 1];
  const sorted = by ? [...options].sort(by) : options;
  return order && order % 2 === 0 ? sorted.reverse() : sorted;
}
