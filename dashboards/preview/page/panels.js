// How each type of panel looks, but for charts with axes.

import {
  FieldType,
  ReducerID,
  fieldReducers,
  formattedValueToString,
  getDisplayProcessor,
  getFieldDisplayName,
  getFieldDisplayValues,
  getFieldSeriesColor,
  reduceField,
  renderTextPanelMarkdown,
} from '@grafana/data';
import { alpha, fit, html, svg, textWidth } from './html.js';

const text = formattedValueToString;

/** What a panel shows instead of a value it has not. */
export class Empty extends Error {}

/** One display value per series or row, as stat, gauges and pies take them. */
function displayValues({ panel, frames, theme, timeZone, fieldConfig, replace }, sparkline) {
  const { calcs = ['lastNotNull'], fields = '', values = false, limit } = panel.options?.reduceOptions ?? {};
  const empty = !frames.some(({ length }) => length > 0);
  if (empty && (panel.type === 'piechart' || fieldConfig.defaults.noValue === undefined)) throw new Empty();
  return getFieldDisplayValues({
    data: frames,
    fieldConfig,
    reduceOptions: { calcs, fields, values, limit },
    replaceVariables: replace,
    sparkline,
    percentChange: panel.options?.showPercentChange,
    theme,
    timeZone,
  });
}

/** Draws `count` cells in a row or a column, or in both with `grid`, as Grafana repeats one visualization. */
function repeater(body, count, orientation, gap, draw, { least = 0, most = Infinity, grid = false } = {}) {
  const { clientWidth: width, clientHeight: height } = body;
  const column = orientation === 'horizontal' || (orientation !== 'vertical' && height >= width);
  const whole = column ? height : width;
  const size = Math.min(Math.max((whole - gap * (count - 1)) / count, least), most);
  const line = (i) => {
    const at = i * (size + gap);
    return column ? { left: 0, top: at, w: width, h: size } : { left: at, top: 0, w: size, h: height };
  };
  const boxes = grid && orientation === 'auto' ? squares(width, height, gap, count) : Array.from({ length: count }, (_, i) => line(i));
  boxes.forEach(({ left, top, w, h }, i) => {
    // What the panel would have to be scrolled for is left out.
    if (left >= width || top >= height) return;
    const cell = html('div', { class: 'cell', style: { left, top, width: w, height: h } });
    body.append(cell);
    draw(cell, i, { w, h });
  });
}

/** Where Grafana places `count` cells in as many rows and columns as make them most square. */
function squares(width, height, gap, count) {
  const side = (across, along) => {
    const parts = Math.ceil(Math.sqrt((count * across) / along));
    const rows = (parts * along) / across;
    return Math.floor(rows) * parts < count ? along / Math.ceil(rows) : across / parts;
  };
  const rows = Math.ceil(count / Math.floor(width / Math.max(side(width, height), side(height, width))));
  const columns = Math.ceil(count / rows);
  const part = (whole, parts) => (whole + gap) / parts - gap;
  const h = part(height, rows);
  return Array.from({ length: count }, (_, i) => {
    const row = Math.floor(i / columns);
    const w = part(width, row === rows - 1 ? count - row * columns : columns);
    return { left: (i % columns) * (w + gap), top: row * (h + gap), w, h };
  });
}

export function stat(context) {
  const { panel, body, theme } = context;
  const {
    graphMode = 'area',
    colorMode = 'value',
    textMode = 'auto',
    orientation = 'auto',
    justifyMode = 'auto',
    wideLayout = true,
    text: sizes = {},
  } = panel.options ?? {};
  const values = displayValues(context, graphMode !== 'none');
  // All have the size at which the longest fits.
  const longest = (texts) => texts.reduce((most, one) => (textWidth(one, 14) > textWidth(most, 14) ? one : most), '');
  const [longestTitle, longestValue] = [
    longest(values.map(({ display }) => display.title ?? '')),
    longest(values.map(({ display }) => text(display))),
  ];
  const centered = justifyMode === 'center' || (justifyMode === 'auto' && values.length === 1);
  const drawCell = (cell, i, { w, h }) => {
    const { display, sparkline, field } = values[i];
    const mode = textMode === 'auto' ? (values.length === 1 ? 'value' : 'value_and_name') : textMode;
    const title = mode.includes('name') ? display.title : '';
    const value = mode === 'none' || mode === 'name' ? '' : text(display);
    const color = display.color ?? theme.colors.text.primary;
    const filled = colorMode.startsWith('background');
    const ink = filled ? theme.colors.getContrastText(color) : colorMode === 'value' ? color : theme.colors.text.primary;
    if (filled)
      cell.style.background =
        colorMode === 'background' ? `linear-gradient(120deg, ${color}, color-mix(in srgb, ${color}, black 15%))` : color;
    const wide = wideLayout && w / h > 2.5;
    const chart = sparkline?.y.values.length > 1;
    const inner = { w: w - 16, h: (h - 8) * (chart ? (wide ? 0.6 : 0.75) : 1) };
    const titleSize = title && (sizes.titleSize ?? fit(longestTitle, inner.w * (wide ? 0.6 : 1), wide ? inner.h : inner.h * 0.3, 30));
    const valueSize =
      value &&
      (sizes.valueSize ??
        fit(longestValue, inner.w * (wide && title ? 0.4 : 1), wide ? inner.h * 0.8 : inner.h - (titleSize || 0) * 1.21, 120));
    if (chart) cell.append(sparklineOf(sparkline, field, w, h * (wide ? 0.45 : 0.25), filled ? 'white' : color));
    const change = display.percentChange;
    cell.append(
      html(
        'div',
        { class: `stat ${wide ? 'wide' : ''} ${centered ? 'centered' : ''}`, style: { height: chart ? inner.h + 8 : h } },
        title && html('div', { class: 'name', style: { 'font-size': titleSize, ...(filled && { color: ink }) } }, title),
        value && html('div', { style: { color: ink, 'font-size': valueSize } }, value),
        Number.isFinite(change) &&
          html(
            'div',
            { style: { color: filled ? ink : theme.visualization.getColorByName(change < 0 ? 'red' : 'green') } },
            `${change < 0 ? '↓' : '↑'} ${Number(change.toPrecision(3))}%`,
          ),
      ),
    );
  };
  repeater(body, values.length, orientation, 3, drawCell, { grid: true });
}

function sparklineOf({ x, y }, { min, max }, w, h, color) {
  const from = min ?? Math.min(...y.values);
  const to = max ?? Math.max(...y.values);
  const [first, last] = [x.values[0], x.values[x.values.length - 1]];
  const points = y.values
    .map((value, i) => `${((x.values[i] - first) / (last - first || 1)) * w},${h - ((value - from) / (to - from || 1)) * (h - 2) - 1}`)
    .join(' ');
  return svg(
    'svg',
    { class: 'sparkline', width: w, height: h },
    svg('polygon', { points: `0,${h} ${points} ${w},${h}`, fill: color, 'fill-opacity': 0.2 }),
    svg('polyline', { points, fill: 'none', stroke: color }),
  );
}

/** The colours from the least value to `percent` of the range, as a gauge shows them. */
function gradient(field, color, theme, direction) {
  const { min = 0, max = 100, thresholds, color: mode } = field;
  if (mode?.mode !== 'thresholds') return `linear-gradient(${direction}, ${alpha(color, 0.4)}, ${color})`;
  const place = (value) => (thresholds.mode === 'percentage' ? value : ((value - min) / (max - min || 1)) * 100);
  const stops = thresholds.steps.map(
    ({ color: name, value }) => `${theme.visualization.getColorByName(name)} ${Math.max(place(value), 0)}%`,
  );
  return `linear-gradient(${direction}, ${stops.join(', ')})`;
}

const share = (display, { min = 0, max = 100 }) => Math.min(Math.max((display.numeric - min) / (max - min || 1), 0), 1) || 0;

/** The bar of a bar gauge or of a table cell: `w` × `h` pixels. */
function bar({ display, field, theme, mode, w, h, vertical = false, unfilled = true }) {
  const color = display.color ?? theme.colors.text.primary;
  const length = Math.max(share(display, field) * (vertical ? h : w), 1);
  const behind = unfilled && mode !== 'lcd' ? theme.colors.background.secondary : 'none';
  const box = html('div', { class: 'bar', style: { width: w, height: h, background: behind } });
  if (mode === 'lcd') {
    const count = Math.floor((vertical ? h : w) / 10);
    for (let i = 0; i < count; i++) {
      const on = i / count < share(display, field);
      const value = (field.min ?? 0) + ((field.max ?? 100) - (field.min ?? 0)) * (i / count);
      const lamp =
        field.color?.mode === 'thresholds'
          ? (getDisplayProcessor({ field: { type: FieldType.number, config: field }, theme })(value).color ?? color)
          : color;
      const style = vertical ? { left: 0, bottom: i * 10, width: w, height: 8 } : { top: 0, left: i * 10, width: 8, height: h };
      box.append(html('div', { class: 'fill', style: { ...style, background: alpha(lamp, on ? 1 : 0.15) } }));
    }
    return box;
  }
  const size = vertical ? { left: 0, bottom: 0, width: w, height: length } : { left: 0, top: 0, width: length, height: h };
  const edge = { [vertical ? 'border-top' : 'border-right']: `2px solid ${color}` };
  const paint =
    mode === 'gradient'
      ? {
          background: gradient(field, color, theme, vertical ? 'to top' : 'to right'),
          'background-size': vertical ? `100% ${h}px` : `${w}px 100%`,
          'background-position': 'left bottom',
        }
      : { background: alpha(color, 0.35) };
  box.append(html('div', { class: 'fill', style: { ...size, ...paint, ...edge } }));
  return box;
}

export function bargauge(context) {
  const { panel, body, theme } = context;
  const {
    orientation = 'auto',
    displayMode = 'gradient',
    valueMode = 'color',
    namePlacement = 'auto',
    showUnfilled = true,
  } = panel.options ?? {};
  const { minVizHeight = 16, maxVizHeight = 300, minVizWidth = 8 } = panel.options ?? {};
  const values = displayValues(context);
  const across = orientation === 'horizontal' || (orientation === 'auto' && body.clientHeight >= body.clientWidth);
  const widest = (of, size) => Math.max(...values.map((value) => textWidth(of(value), size)));
  repeater(
    body,
    values.length,
    orientation,
    displayMode === 'lcd' ? 2 : 10,
    (cell, i, { w, h }) => {
      const { display, field } = values[i];
      const title = display.title ?? '';
      const value = valueMode === 'hidden' ? '' : text(display);
      const ink = { color: valueMode === 'color' ? (display.color ?? '') : '' };
      const common = { display, field, theme, mode: displayMode, unfilled: showUnfilled };
      if (!across) {
        const size = fit(value, w, 30, 18);
        cell.append(
          html(
            'div',
            { class: 'column' },
            html('div', { style: { ...ink, 'font-size': size } }, value),
            bar({ ...common, w, h: h - 22 - 25, vertical: true }),
            html('div', { class: 'name', style: { 'max-width': w } }, title),
          ),
        );
        return;
      }
      const above = namePlacement === 'top' || (namePlacement === 'auto' && h > 40);
      const room = above ? h - 20 : h;
      const nameSize = above ? 14 : Math.min(Math.max(h * 0.6, 10), 14);
      const nameWidth = above ? 0 : Math.min(widest((one) => one.display.title ?? '', nameSize) + 15, w * 0.4);
      const valueSize = Math.min(room * 0.7, 18);
      const valueWidth = value ? widest((one) => text(one.display), valueSize) + 12 : 0;
      const name = html('div', { class: 'name', style: { 'font-size': nameSize, 'flex-basis': above ? 'auto' : nameWidth } }, title);
      cell.append(
        above ? name : '',
        html(
          'div',
          { class: 'line', style: { height: room } },
          above ? '' : name,
          bar({ ...common, w: w - nameWidth - valueWidth, h: room }),
          html('div', { class: 'value', style: { ...ink, 'font-size': valueSize, width: valueWidth } }, value),
        ),
      );
    },
    across ? { least: minVizHeight, most: maxVizHeight } : { least: minVizWidth },
  );
}

export function gauge(context) {
  const { panel, body, theme } = context;
  const { showThresholdMarkers = true, showThresholdLabels = false, orientation = 'auto' } = panel.options ?? {};
  const values = displayValues(context);
  repeater(
    body,
    values.length,
    orientation === 'auto' && body.clientWidth > body.clientHeight ? 'vertical' : orientation,
    8,
    (cell, i, { w, h }) => {
      const { display, field } = values[i];
      const { min = 0, max = 100, thresholds } = field;
      const title = values.length > 1 || field.displayName ? display.title : '';
      const space = h - (title ? 24 : 0);
      const r = Math.min(w / 2.1, space / 1.75) * (showThresholdLabels ? 0.75 : 1);
      const [cx, cy] = [w / 2, r + (space - r * 1.65) / 2];
      const [start, sweep] = [0.83 * Math.PI, 1.34 * Math.PI];
      const arc = (from, to, radius, width, stroke) => {
        const at = (part) => `${cx + radius * Math.cos(start + sweep * part)} ${cy + radius * Math.sin(start + sweep * part)}`;
        return svg('path', {
          d: `M ${at(from)} A ${radius} ${radius} 0 ${sweep * (to - from) > Math.PI ? 1 : 0} 1 ${at(to)}`,
          fill: 'none',
          stroke,
          'stroke-width': width,
        });
      };
      const place = (value) => Math.min(Math.max(thresholds?.mode === 'percentage' ? value / 100 : (value - min) / (max - min || 1), 0), 1);
      const drawing = svg('svg', { width: w, height: space }, arc(0, 1, r * 0.78, r * 0.25, theme.colors.background.secondary));
      if (share(display, field) > 0) drawing.append(arc(0, share(display, field), r * 0.78, r * 0.25, display.color));
      thresholds?.steps.forEach(({ color, value }, step) => {
        const [from, to] = [place(value), place(thresholds.steps[step + 1]?.value ?? Infinity)];
        if (showThresholdMarkers && to > from) drawing.append(arc(from, to, r * 0.95, r * 0.05, theme.visualization.getColorByName(color)));
        if (showThresholdLabels && from > 0) {
          const angle = start + sweep * from;
          drawing.append(
            svg(
              'text',
              {
                x: cx + r * 1.03 * Math.cos(angle),
                y: cy + r * 1.03 * Math.sin(angle),
                'font-size': 11,
                class: 'weak',
                'text-anchor': Math.cos(angle) < 0 ? 'end' : 'start',
              },
              `${value}`,
            ),
          );
        }
      });
      const size = fit(text(display), r * 1.1, r * 0.6, 100);
      drawing.append(
        svg(
          'text',
          { x: cx, y: cy + size * 0.35, 'font-size': size, 'text-anchor': 'middle', fill: display.color, 'font-weight': 500 },
          text(display),
        ),
      );
      cell.append(drawing, title ? html('div', { class: 'centered name' }, title) : '');
    },
  );
}

export function piechart(context) {
  const { panel, body, theme } = context;
  const { pieType = 'pie', displayLabels = [], legend = {}, sort = 'desc' } = panel.options ?? {};
  const values = displayValues(context).filter(({ field }) => !field.custom?.hideFrom?.viz);
  if (sort !== 'none') values.sort((a, b) => (b.display.numeric - a.display.numeric) * (sort === 'asc' ? -1 : 1));
  const sum = values.reduce((before, { display }) => before + display.numeric, 0);
  const percent = ({ display, field }) =>
    text({ ...display, prefix: '', suffix: '%', text: ((display.numeric / sum) * 100).toFixed(field.decimals ?? 0) });
  const columns = (legend.values ?? []).map((name) => ({
    name: name === 'percent' ? 'Percent' : 'Value',
    of: (value) => (name === 'percent' ? percent(value) : text(value.display)),
  }));
  const { width, height } = addLegend(
    body,
    legend,
    values.map((value) => ({
      name: value.display.title,
      color: value.display.color,
      values: columns.map(({ name, of }) => [name, of(value)]),
    })),
  );
  const r = Math.min(width, height) / 2 - 8;
  const hole = pieType === 'donut' ? r * 0.6 : 0;
  const drawing = svg('svg', { width, height });
  let at = 0;
  for (const value of values) {
    const part = value.display.numeric / sum;
    const [a, b] = [at, at + part].map((turn) => turn * 2 * Math.PI - Math.PI / 2);
    at += part;
    const point = (radius, angle) => `${width / 2 + radius * Math.cos(angle)} ${height / 2 + radius * Math.sin(angle)}`;
    const large = part > 0.5 ? 1 : 0;
    // A whole turn has no arc.
    const end = part > 0.9999 ? b - 0.0001 : b;
    drawing.append(
      svg('path', {
        d: `M ${point(r, a)} A ${r} ${r} 0 ${large} 1 ${point(r, end)} L ${point(hole, end)} A ${hole} ${hole} 0 ${large} 0 ${point(hole, a)} Z`,
        fill: value.display.color,
        stroke: theme.colors.background.primary,
      }),
    );
    const lines = [
      displayLabels.includes('name') && value.display.title,
      displayLabels.includes('value') && text(value.display),
      displayLabels.includes('percent') && percent(value),
    ].filter(Boolean);
    if (part < 0.03) continue;
    const middle = (a + b) / 2;
    const size = Math.min(Math.max(r * 0.1, 8), 16);
    lines.forEach((line, i) => {
      const [x, y] = point((r + hole) / 2 + (hole ? 0 : r * 0.15), middle)
        .split(' ')
        .map(Number);
      drawing.append(
        svg(
          'text',
          {
            x,
            y: y + (i - (lines.length - 1) / 2) * size * 1.2 + size * 0.35,
            'font-size': size,
            'text-anchor': 'middle',
            fill: theme.colors.getContrastText(value.display.color),
          },
          line,
        ),
      );
    });
  }
  body.prepend(drawing);
}

/** Puts a legend into the body and returns the room that it leaves. */
export function addLegend(body, { showLegend = true, displayMode = 'list', placement = 'bottom', width: wanted, sortBy, sortDesc }, items) {
  const { clientWidth: width, clientHeight: height } = body;
  if (!showLegend || displayMode === 'hidden' || items.length === 0) return { width, height };
  const rows = [...items];
  if (sortBy)
    rows.sort((a, b) => {
      const of = ({ name, values }) => (sortBy === 'Name' ? name : (values.find(([title]) => title === sortBy)?.[2] ?? 0));
      return (of(a) < of(b) ? -1 : 1) * (sortDesc ? -1 : 1);
    });
  const right = placement === 'right';
  const dash = (color) => html('span', { class: 'dash', style: { background: color } });
  const box = html('div', {
    class: `legend ${right ? 'right' : 'bottom'}`,
    style: right
      ? { 'max-width': wanted ?? width * 0.45, ...(wanted && { width: wanted }), 'max-height': height }
      : { 'max-height': Math.max(height * 0.35, 24) },
  });
  if (displayMode === 'table') {
    const titles = items[0].values.map(([title]) => title);
    box.append(
      html(
        'table',
        {},
        html(
          'tr',
          {},
          html('th', {}, right || titles.length > 0 ? 'Name' : ''),
          titles.map((title) => html('th', {}, title)),
        ),
        rows.map(({ name, color, values }) =>
          html(
            'tr',
            {},
            html('td', {}, dash(color), name),
            values.map(([, value]) => html('td', {}, value)),
          ),
        ),
      ),
    );
  } else {
    const line = ({ name, color, values }) =>
      html(
        'span',
        { class: 'item' },
        dash(color),
        name,
        values.map(([title, value]) => html('span', { class: 'weak' }, ` ${title}: ${value}`)),
      );
    box.append(html('div', { class: 'list' }, rows.map(line)));
  }
  body.append(box);
  body.classList.toggle('beside', right);
  return right ? { width: width - box.offsetWidth - 8, height } : { width, height: height - box.offsetHeight - 4 };
}

/** The names and calculated values of the fields that a legend shows. */
export function legendItems(fields, { calcs = [] } = {}, theme) {
  return fields
    .filter(({ field }) => !field.config.custom?.hideFrom?.legend && !field.config.custom?.hideFrom?.viz)
    .map(({ field, name }) => {
      const results = calcs.length > 0 ? reduceField({ field, reducers: calcs }) : {};
      return {
        name,
        color: getFieldSeriesColor(field, theme).color,
        values: calcs.map((calc) => [fieldReducers.get(calc).name, text(field.display(results[calc])), results[calc]]),
      };
    });
}

const HEIGHT = { sm: 36, md: 42, lg: 48 };

export function table({ panel, body, frames, theme }) {
  const { showHeader = true, cellHeight = 'sm', sortBy = [], footer = {}, frameIndex = 0 } = panel.options ?? {};
  const frame = frames[frameIndex] ?? frames[0];
  if (!frame?.length) throw new Empty();
  const fields = frame.fields
    .filter(({ config: { custom } }) => !custom?.hidden && !custom?.hideFrom?.viz)
    .map((field) => ({ field, custom: field.config.custom ?? {}, name: getFieldDisplayName(field, frame, frames) }));
  const rows = [...Array(frame.length).keys()];
  for (const { displayName, desc } of [...sortBy].reverse()) {
    const values = fields.find(({ name }) => name === displayName)?.field.values;
    if (values) rows.sort((a, b) => (values[a] === values[b] ? 0 : values[a] < values[b] ? -1 : 1) * (desc ? -1 : 1));
  }
  // As Grafana does: what has no width of its own shares what is left, 150 pixels at least.
  const width = body.clientWidth;
  const free = fields.filter(({ custom }) => !custom.width);
  const left = width - fields.reduce((sum, { custom }) => sum + (custom.width ?? 0), 0);
  const columns = fields.map(({ custom }) => custom.width ?? Math.max(left / free.length, custom.minWidth ?? 150));
  const height = HEIGHT[cellHeight] ?? 36;
  const side = ({ field, custom }) =>
    custom.align && custom.align !== 'auto'
      ? custom.align
      : field.type === FieldType.number && custom.cellOptions?.type !== 'gauge'
        ? 'right'
        : 'left';
  const line = (of, cells) => html('div', { class: of, style: { height } }, cells);
  body.classList.add('table');
  if (showHeader) {
    body.append(
      line(
        'header',
        fields.map((one, i) =>
          html('div', { class: 'td', style: { width: columns[i], 'justify-content': side(one) } }, html('span', {}, one.name)),
        ),
      ),
    );
  }
  const shown = Math.floor((body.clientHeight - (showHeader ? height : 0) - (footer.show ? height : 0)) / height);
  for (const row of rows.slice(0, shown + 1)) {
    const tinted = fields.find(({ custom }) => custom.cellOptions?.type === 'color-background' && custom.cellOptions.applyToRow);
    const across = tinted?.field.display(tinted.field.values[row]).color;
    body.append(
      line(
        'tr',
        fields.map((one, i) => {
          const { field, custom } = one;
          const { type, mode, valueDisplayMode = 'color' } = custom.cellOptions ?? {};
          const display = field.display(field.values[row]);
          const cell = html('div', { class: 'td', style: { width: columns[i], 'justify-content': side(one) } });
          const value = html('span', field.config.links?.length ? { class: 'link' } : {}, text(display));
          if (type === 'gauge' && field.type === FieldType.number) {
            const numbers = rows.map((other) => text(field.display(field.values[other])));
            const room = valueDisplayMode === 'hidden' ? 0 : Math.max(...numbers.map((number) => textWidth(number, 14))) + 12;
            const config = {
              ...field.config,
              min: field.config.min ?? field.state?.range?.min,
              max: field.config.max ?? field.state?.range?.max,
            };
            cell.append(bar({ display, field: config, theme, mode: mode ?? 'gradient', w: columns[i] - 12 - room, h: height - 12 }));
            if (room)
              cell.append(
                html(
                  'span',
                  { class: 'value', style: { width: room, color: valueDisplayMode === 'color' ? display.color : '' } },
                  text(display),
                ),
              );
            return cell;
          }
          if (type === 'color-text' && display.color) value.style.color = display.color;
          const background = across ?? (type === 'color-background' ? display.color : undefined);
          if (background) {
            cell.style.background =
              mode === 'gradient' ? `linear-gradient(120deg, ${background}, color-mix(in srgb, ${background}, black 15%))` : background;
            value.style.color = theme.colors.getContrastText(background);
          }
          cell.append(value);
          return cell;
        }),
      ),
    );
  }
  if (footer.show) {
    const reducer = footer.reducer?.[0] ?? ReducerID.sum;
    const counted = (name) => !footer.fields?.length || footer.fields.includes(name);
    const foot = ({ field, name }, i) =>
      footer.countRows
        ? i === 0
          ? `Count: ${frame.length}`
          : ''
        : field.type === FieldType.number && counted(name)
          ? text(field.display(reduceField({ field, reducers: [reducer] })[reducer]))
          : i === 0
            ? fieldReducers.get(reducer).name
            : '';
    body.append(
      line(
        'header footer',
        fields.map((one, i) => html('div', { class: 'td', style: { width: columns[i], 'justify-content': side(one) } }, foot(one, i))),
      ),
    );
  }
}

export function markdown({ panel, body, replace }) {
  const { mode = 'markdown', content = '' } = panel.options ?? {};
  const box = html('div', { class: 'markdown' });
  if (mode === 'code') box.append(html('pre', {}, replace(content)));
  else box.innerHTML = mode === 'html' ? replace(content) : renderTextPanelMarkdown(replace(content));
  body.append(box);
}

/** The alerts of Prometheus, which is what this panel shows when it is set to a Prometheus data source. */
export async function alertlist({ panel, body, ask, theme, timeZone }) {
  const { alertName = '', stateFilter = {}, maxItems = 20 } = panel.options ?? {};
  const { alerts } = await ask('alerts', {});
  const shown = alerts
    .filter(({ state, labels }) => stateFilter[state] !== false && labels.alertname.includes(alertName))
    .slice(0, maxItems);
  if (shown.length === 0) body.append(html('div', { class: 'message' }, 'No alerts matching filters'));
  for (const { state, labels, activeAt } of shown) {
    const { alertname, ...others } = labels;
    const color = theme.visualization.getColorByName(state === 'firing' ? 'red' : 'orange');
    const since = getDisplayProcessor({ field: { type: FieldType.time, config: { unit: 'dateTimeFromNow' } }, theme, timeZone })(activeAt);
    body.append(
      html(
        'div',
        { class: 'alert' },
        html('b', {}, alertname),
        html('span', { style: { color } }, ` ${state} `),
        html(
          'span',
          { class: 'weak' },
          `${text(since)} · ${Object.entries(others)
            .map(([name, value]) => `${name}=${value}`)
            .join(' ')}`,
        ),
      ),
    );
  }
}
