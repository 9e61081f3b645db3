// The charts with axes. Time series are drawn by uPlot, which is what Grafana draws them with.

import { FieldType, dateTimeFormat, formattedValueToString, getFieldDisplayName, getFieldSeriesColor } from '@grafana/data';
import uPlot from 'uplot';
import { alpha, fontFamily, html, svg, textWidth } from './html.js';
import { Empty, addLegend, legendItems } from './panels.js';

const [SECOND, MINUTE, DAY, YEAR] = [1000, 60_000, 86_400_000, 31_536_000_000];

/** The fields with numbers, each with its name, in the order of their colours. */
function numbers(frames) {
  return frames.flatMap((frame) =>
    frame.fields
      .filter(({ type }) => type === FieldType.number)
      .map((field) => ({ field, frame, name: getFieldDisplayName(field, frame, frames) })),
  );
}

/** How far a value axis reaches, by the rules of Grafana: some room above, and from zero if that is near. */
function span(low, high, { min, max, custom = {} }) {
  const end = (hard, soft) => ({ pad: 0.1, hard: hard ?? undefined, soft: soft ?? 0, mode: soft === undefined || soft === null ? 3 : 1 });
  const from = end(min, custom.axisSoftMin);
  const to = end(max, custom.axisSoftMax);
  const range = uPlot.rangeNum(min ?? low, max ?? high, {
    min: { ...from, hard: from.hard ?? -Infinity },
    max: { ...to, hard: to.hard ?? Infinity },
  });
  const [first, last] = [min ?? range[0], max ?? range[1]];
  return first < last ? [first, last] : [first, first + 1];
}

function timeFormat(step, length) {
  if (step < SECOND) return 'HH:mm:ss.SSS';
  if (step <= MINUTE) return 'HH:mm:ss';
  if (length <= DAY) return 'HH:mm';
  if (step <= DAY) return 'MM/DD HH:mm';
  if (length < YEAR) return 'MM/DD';
  return step < YEAR ? 'YYYY-MM' : 'YYYY';
}

export function timeseries({ panel, body, frames, theme, timeZone, range, annotations }) {
  const fields = numbers(frames).filter(({ field, frame }) => frame.length > 0 && !field.config.custom?.hideFrom?.viz);
  if (fields.length === 0) throw new Empty();
  const options = panel.options ?? {};
  const { width, height } = addLegend(body, options.legend ?? {}, legendItems(fields, options.legend, theme));

  // All series on one time axis. A hole of more than a step ends a line (null); a time that a series just has not, does not (undefined).
  const columns = fields.map(({ field, frame }) => {
    const time = frame.fields.find(({ type }) => type === FieldType.time);
    const points = new Map();
    time.values.forEach((at, i) => {
      const step = time.config.interval;
      const before = time.values[i - 1];
      if (i > 0 && step && at - before > step && !field.config.custom?.spanNulls) points.set(before + step, null);
      points.set(at, Number.isFinite(field.values[i]) ? field.values[i] : null);
    });
    return points;
  });
  const times = [...new Set(columns.flatMap((points) => [...points.keys()]))].sort((a, b) => a - b);
  const data = columns.map((points) => times.map((at) => points.get(at)));

  const scales = { x: { time: true, range: [range.from.valueOf(), range.to.valueOf()] } };
  const axes = [
    {
      scale: 'x',
      size: 26,
      space: (u, axis, min, max, size) => textWidth(timeFormat((max - min) / (size / 80), max - min), 12) + 18,
      values: (u, splits, axis, space, step) =>
        splits.map((at) => dateTimeFormat(at, { format: timeFormat(step, range.to - range.from), timeZone })),
    },
  ];
  const bands = [];
  const stacks = {};
  const series = fields.map(({ field, name }, i) => {
    const { custom = {}, unit = '', min, max, thresholds } = field.config;
    const { axisPlacement = 'auto', axisSoftMin, axisSoftMax, axisLabel = '', stacking = {} } = custom;
    const scale = JSON.stringify([unit, min, max, axisSoftMin, axisSoftMax, axisPlacement, axisLabel, custom.scaleDistribution]);
    const { color } = getFieldSeriesColor(field, theme);
    if (stacking.mode && stacking.mode !== 'none') {
      const key = JSON.stringify([stacking, scale, custom.drawStyle]);
      const below = stacks[key]?.at(-1);
      (stacks[key] ??= []).push(i);
      if (stacking.mode === 'normal')
        data[i] = data[i].map((value, at) =>
          below === undefined ? value : value == null && data[below][at] == null ? value : (value ?? 0) + (data[below][at] ?? 0),
        );
      if (below !== undefined) bands.push({ series: [i + 1, below + 1] });
    }
    if (!scales[scale]) {
      const log = custom.scaleDistribution?.type === 'log';
      scales[scale] = {
        distr: log ? 3 : 1,
        log: custom.scaleDistribution?.log ?? 10,
        ...(!log && { range: (u, low, high) => span(stacking.mode === 'percent' ? Math.min(low, 0) : low, high, field.config) }),
      };
      const right = axisPlacement === 'right' || (axisPlacement === 'auto' && axes.some(({ scale: other }) => other !== 'x'));
      if (axisPlacement !== 'hidden') {
        axes.push({
          scale,
          side: right ? 1 : 3,
          label: axisLabel || undefined,
          labelSize: 20,
          labelGap: 0,
          labelFont: `12px ${fontFamily()}`,
          space: 40,
          grid: { show: !right },
          values: (u, splits) => {
            if (stacking.mode === 'percent') return splits.map((value) => `${Math.round(value * 100)}%`);
            const decimals = field.config.decimals ?? Math.max(0, ...splits.map((value) => (`${value}`.split('.')[1] ?? '').length));
            return splits.map((value) => (value === null ? '' : formattedValueToString(field.display(value, Math.min(decimals, 4)))));
          },
          size: (u, values) => Math.max(...(values ?? ['']).map((value) => textWidth(value ?? '', 12))) + 18,
        });
      }
    }
    const {
      drawStyle = 'line',
      lineWidth = 1,
      fillOpacity = 0,
      gradientMode = 'none',
      lineInterpolation = 'linear',
      showPoints = 'auto',
      pointSize = 5,
    } = custom;
    const paths = {
      linear: uPlot.paths.linear(),
      smooth: uPlot.paths.spline(),
      stepBefore: uPlot.paths.stepped({ align: -1 }),
      stepAfter: uPlot.paths.stepped({ align: 1 }),
    }[lineInterpolation];
    // The colours by value, as far as the axis shows them.
    const scheme = gradientMode === 'scheme' && field.config.color?.mode === 'thresholds' && thresholds.mode === 'absolute';
    const byValue = (opacity) => (u) => {
      const { min: low, max: high } = u.scales[scale];
      const place = (value) => 1 - Math.min(Math.max((value - low) / (high - low), 0), 1);
      const stops = thresholds.steps.flatMap(({ color: step, value }, at) => {
        const paint = alpha(theme.visualization.getColorByName(step), opacity);
        return [
          [place(value), paint],
          [place(thresholds.steps[at + 1]?.value ?? Infinity), paint],
        ];
      });
      return shade(u, stops.reverse());
    };
    const fill = (percent) => {
      if (!percent) return undefined;
      if (scheme) return byValue(percent / 100);
      if (gradientMode === 'none') return alpha(color, percent / 100);
      const stops = [
        [0, alpha(color, percent / 100)],
        [1, alpha(color, 0)],
      ];
      return (u) => shade(u, stops);
    };
    const line = scheme ? byValue(1) : color;
    const { fillBelowTo } = custom;
    const lower = fields.findLastIndex((other) => [other.name, other.field.config.displayNameFromDS, other.field.name].includes(fillBelowTo));
    if (fillBelowTo && lower >= 0) bands.push({ series: [i + 1, lower + 1] });
    const bars = drawStyle === 'bars';
    return {
      label: name,
      scale,
      stroke: drawStyle === 'points' ? undefined : line,
      width: lineWidth,
      dash: custom.lineStyle?.fill && custom.lineStyle.fill !== 'solid' ? (custom.lineStyle.dash ?? [10, 10]) : undefined,
      fill: fill(!fillBelowTo ? fillOpacity : lower >= 0 ? fillOpacity || 35 : 0),
      paths:
        drawStyle === 'points'
          ? () => null
          : bars
            ? uPlot.paths.bars({ size: [custom.barWidthFactor ?? 0.6, custom.barMaxWidth ?? 200], align: custom.barAlignment ?? 0 })
            : paths,
      points: {
        show: !bars && (showPoints === 'always' || drawStyle === 'points' ? true : showPoints === 'never' ? false : undefined),
        size: pointSize,
        fill: line,
        stroke: line,
        // A point between two holes would not be seen at all.
        ...(showPoints === 'never' || bars ? {} : { filter: (u, one, show, gaps) => (show ? null : lonely(u.data[one])) }),
      },
      spanGaps: custom.spanNulls === true,
    };
  });
  for (const list of Object.values(stacks)) {
    if (fields[list[0]].field.config.custom.stacking.mode !== 'percent') continue;
    const totals = times.map((_, at) => list.reduce((sum, i) => sum + (data[i][at] ?? 0), 0));
    let below = times.map(() => 0);
    for (const i of list) data[i] = below = data[i].map((value, at) => (totals[at] ? below[at] + (value ?? 0) / totals[at] : value));
  }

  const place = html('div', {});
  body.prepend(place);
  const grid = { stroke: theme.isDark ? 'rgba(240, 250, 255, 0.09)' : 'rgba(0, 10, 23, 0.09)', width: 1 };
  const chart = new uPlot(
    {
      width,
      height,
      ms: 1,
      tzDate: (at) => uPlot.tzDate(new Date(at), timeZone),
      legend: { show: false },
      cursor: { show: false },
      padding: [8, 12, 0, 0],
      scales,
      series: [{}, ...series],
      bands,
      axes: axes.map((axis) => ({
        stroke: theme.colors.text.primary,
        font: `12px ${fontFamily()}`,
        gap: 5,
        ticks: { ...grid, size: 4 },
        ...axis,
        grid: { ...grid, ...axis.grid },
      })),
      hooks: { drawClear: [(u) => drawThresholds(u, fields, series, theme)], draw: [(u) => drawAnnotations(u, annotations)] },
    },
    [times, ...data],
    place,
  );
  chart.root.style.fontFamily = 'inherit';
}

/** A gradient from the top of a chart (0) to its bottom (1). */
function shade({ ctx, bbox }, stops) {
  const gradient = ctx.createLinearGradient(0, bbox.top, 0, bbox.top + bbox.height);
  for (const [place, color] of stops) gradient.addColorStop(place, color);
  return gradient;
}

const lonely = (values) => values.flatMap((value, i) => (value != null && values[i - 1] == null && values[i + 1] == null ? [i] : []));

function drawThresholds(u, fields, series, theme) {
  const modeOf = ({ field }) => field.config.custom?.thresholdsStyle?.mode ?? 'off';
  const at = fields.findIndex((one) => modeOf(one) !== 'off');
  if (at < 0) return;
  const { field } = fields[at];
  const mode = modeOf(fields[at]);
  const { scale } = series[at];
  const { ctx, bbox } = u;
  const { steps } = field.config.thresholds;
  const y = (value) => Math.min(Math.max(u.valToPos(value, scale, true), bbox.top), bbox.top + bbox.height);
  const { min, max } = u.scales[scale];
  ctx.save();
  steps.forEach(({ value, color: name }, i) => {
    const color = theme.visualization.getColorByName(name);
    if (mode.includes('area')) {
      const [bottom, top] = [y(Math.max(value, min)), y(steps[i + 1]?.value ?? max)];
      ctx.fillStyle = color === 'transparent' ? color : alpha(color, 0.15);
      ctx.fillRect(bbox.left, top, bbox.width, Math.max(bottom - top, 0));
    }
    if (/line|dashed/.test(mode) && value >= min && value <= max) {
      ctx.strokeStyle = color;
      ctx.lineWidth = 2;
      ctx.setLineDash(mode.includes('dashed') ? [10, 10] : []);
      ctx.beginPath();
      ctx.moveTo(bbox.left, y(value));
      ctx.lineTo(bbox.left + bbox.width, y(value));
      ctx.stroke();
    }
  });
  ctx.restore();
}

function drawAnnotations(u, annotations) {
  const { ctx, bbox } = u;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height + 8);
  ctx.clip();
  for (const { from, to, color } of annotations) {
    const [left, right] = [from, to].map((at) => Math.round(u.valToPos(at, 'x', true)));
    ctx.strokeStyle = ctx.fillStyle = color;
    ctx.setLineDash([5, 5]);
    for (const x of new Set([left, right])) {
      ctx.beginPath();
      ctx.moveTo(x + 0.5, bbox.top);
      ctx.lineTo(x + 0.5, bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.globalAlpha = 0.1;
    ctx.fillRect(left, bbox.top, right - left, bbox.height);
    ctx.globalAlpha = 1;
    ctx.fillRect(left - 2, bbox.top + bbox.height, Math.max(right - left, 5), 5);
  }
  ctx.restore();
}

export function barchart({ panel, body, frames, theme }) {
  const {
    xField,
    orientation = 'auto',
    stacking = 'none',
    showValue = 'auto',
    barWidth = 0.97,
    groupWidth = 0.7,
    xTickLabelRotation = 0,
    colorByField,
    legend = {},
  } = panel.options ?? {};
  const [frame] = frames;
  if (!frame?.length) throw new Empty();
  const named = frame.fields.map((field) => ({ field, name: getFieldDisplayName(field, frame, frames) }));
  const categories =
    named.find(({ name }) => name === xField) ??
    named.find(({ field }) => field.type === FieldType.string) ??
    named.find(({ field }) => field.type === FieldType.time);
  const bars = named.filter(
    ({ field, name }) =>
      field.type === FieldType.number && field !== categories?.field && name !== colorByField && !field.config.custom?.hideFrom?.viz,
  );
  if (!categories || bars.length === 0) throw new Error('a bar chart needs a field with names and one with numbers');
  const coloring = named.find(({ name }) => name === colorByField)?.field;
  const { width, height } = addLegend(body, legend, legendItems(bars, legend, theme));
  const across = orientation === 'horizontal' || (orientation === 'auto' && width / height < 1);
  const labels = [...categories.field.values].map((value) => formattedValueToString(categories.field.display(value)));
  const count = labels.length;
  const stacked = stacking !== 'none';
  const total = (row) => bars.reduce((sum, { field }) => sum + (field.values[row] ?? 0), 0);
  const valueOf = (field, row) => (stacking === 'percent' ? field.values[row] / total(row) : field.values[row]);
  const all = stacked ? labels.map((_, row) => (stacking === 'percent' ? 1 : total(row))) : bars.flatMap(({ field }) => [...field.values]);
  const [min, max] = span(Math.min(0, ...all), Math.max(0, ...all), bars[0].field.config);
  const format = (value) => (stacking === 'percent' ? `${Math.round(value * 100)}%` : formattedValueToString(bars[0].field.display(value)));
  const step =
    [1, 2, 2.5, 5, 10]
      .map((one) => one * 10 ** Math.floor(Math.log10((max - min) / ((across ? width : height) / 50))))
      .find((one) => (max - min) / one <= (across ? width : height) / 45) ?? max - min;
  const ticks = Array.from({ length: Math.floor(max / step) - Math.ceil(min / step) + 1 }, (_, i) => (Math.ceil(min / step) + i) * step);

  const left = Math.max(...(across ? labels : ticks.map(format)).map((label) => textWidth(label, 12))) + 14;
  const tilt = (Math.abs(xTickLabelRotation) * Math.PI) / 180;
  const bottom = across ? 24 : 24 + Math.sin(tilt) * Math.max(...labels.map((label) => textWidth(label, 12)));
  const plot = { left, top: 12, width: width - left - (across ? 40 : 8), height: height - bottom - 16 };
  const along = across ? plot.height : plot.width;
  const far = across ? plot.width : plot.height;
  const at = (value) => ((value - min) / (max - min)) * far;
  // Of a box along the categories and across the values, its position in the picture.
  const box = (start, size, low, high) =>
    across
      ? { x: plot.left + low, y: plot.top + start, width: high - low, height: size }
      : { x: plot.left + start, y: plot.top + far - high, width: size, height: high - low };
  const line = theme.isDark ? 'rgba(240, 250, 255, 0.09)' : 'rgba(0, 10, 23, 0.09)';
  const drawing = svg('svg', { width, height });
  for (const tick of ticks) {
    const { x, y } = box(0, along, at(tick), at(tick));
    drawing.append(svg('rect', { ...(across ? { x, y, width: 1, height: along } : { x, y, width: along, height: 1 }), fill: line }));
    drawing.append(
      svg(
        'text',
        { ...(across ? { x, y: height - 6, 'text-anchor': 'middle' } : { x: left - 8, y: y + 4, 'text-anchor': 'end' }), 'font-size': 12 },
        format(tick),
      ),
    );
  }
  const slot = along / count;
  const group = slot * (bars.length > 1 && !stacked ? groupWidth : barWidth);
  const one = stacked ? group : (group / bars.length) * (bars.length > 1 ? barWidth : 1);
  labels.forEach((label, row) => {
    const start = row * slot + (slot - group) / 2;
    let base = 0;
    bars.forEach(({ field }, i) => {
      const value = valueOf(field, row);
      if (!Number.isFinite(value)) return;
      const color = coloring
        ? coloring.display(coloring.values[row]).color
        : (field.config.color?.mode ?? '').match(/threshold|continuous/)
          ? field.display(value).color
          : getFieldSeriesColor(field, theme).color;
      const { fillOpacity = 80, lineWidth = 1 } = field.config.custom ?? {};
      const from = stacked ? start : start + (group / bars.length) * i + (group / bars.length - one) / 2;
      const place = box(from, one, at(Math.min(base, base + value)), at(Math.max(base, base + value)));
      drawing.append(svg('rect', { ...place, fill: color, 'fill-opacity': fillOpacity / 100, stroke: color, 'stroke-width': lineWidth }));
      const shown = stacking === 'percent' ? format(value) : formattedValueToString(field.display(value));
      if (showValue === 'always' || (showValue === 'auto' && textWidth(shown, 12) < (stacked ? place.width : across ? 40 : one))) {
        const middle = stacked
          ? { x: place.x + place.width / 2, y: place.y + place.height / 2 + 4 }
          : across
            ? { x: place.x + place.width + 4, y: place.y + place.height / 2 + 4 }
            : { x: place.x + place.width / 2, y: place.y - 4 };
        const size = across ? Math.min(12, one) : Math.min(12, (one / textWidth(shown, 12)) * 12);
        drawing.append(
          svg('text', { ...middle, 'font-size': Math.max(size, 8), 'text-anchor': across && !stacked ? 'start' : 'middle' }, shown),
        );
      }
      if (stacked) base += value;
    });
    const middle = row * slot + slot / 2;
    const spot = across
      ? { x: left - 8, y: plot.top + middle + 4, 'text-anchor': 'end' }
      : {
          x: plot.left + middle,
          y: plot.top + far + 18,
          'text-anchor': tilt ? 'end' : 'middle',
          ...(tilt && { transform: `rotate(${-Math.abs(xTickLabelRotation)} ${plot.left + middle} ${plot.top + far + 18})` }),
        };
    drawing.append(svg('text', { ...spot, 'font-size': 12 }, label));
  });
  body.prepend(drawing);
}

export function stateTimeline({ panel, body, frames, theme, timeZone, range }) {
  const { rowHeight = 0.9, showValue = 'auto', mergeValues = true, legend = {} } = panel.options ?? {};
  const rows = frames.flatMap((frame) => {
    const time = frame.fields.find(({ type }) => type === FieldType.time);
    return frame.fields
      .filter((field) => field !== time && frame.length > 0)
      .map((field) => ({ field, time, name: getFieldDisplayName(field, frame, frames) }));
  });
  if (rows.length === 0) throw new Empty();
  const states = new Map();
  const blocks = rows.map(({ field, time }) => {
    const list = [];
    field.values.forEach((value, i) => {
      if (value === null || value === undefined) return;
      const display = field.display(value);
      const shown = formattedValueToString(display);
      states.set(shown, display.color);
      const [from, step] = [time.values[i], time.config.interval ?? 0];
      const to = Math.min(time.values[i + 1] ?? from + step, step ? from + step : Infinity);
      const last = list.at(-1);
      if (mergeValues && last?.shown === shown && last.to >= from) last.to = to;
      else list.push({ from, to, shown, color: display.color });
    });
    return list;
  });
  const { width, height } = addLegend(
    body,
    legend,
    [...states].map(([name, color]) => ({ name, color, values: [] })),
  );
  const left = Math.max(...rows.map(({ name }) => textWidth(name, 12))) + 12;
  const slot = (height - 24) / rows.length;
  const x = (at) => left + ((at - range.from) / (range.to - range.from)) * (width - left - 8);
  const drawing = svg('svg', { width, height });
  blocks.forEach((list, row) => {
    const y = row * slot + (slot * (1 - rowHeight)) / 2;
    drawing.append(svg('text', { x: left - 8, y: row * slot + slot / 2 + 4, 'text-anchor': 'end', 'font-size': 12 }, rows[row].name));
    for (const { from, to, shown, color } of list) {
      const [start, end] = [Math.max(x(from), left), Math.min(x(to), width - 8)];
      if (end <= start) continue;
      drawing.append(
        svg('rect', {
          x: start,
          y,
          width: end - start,
          height: slot * rowHeight,
          fill: color,
          'fill-opacity': (rows[row].field.config.custom?.fillOpacity ?? 70) / 100,
        }),
      );
      if (showValue !== 'never' && textWidth(shown, 12) + 8 < end - start)
        drawing.append(
          svg(
            'text',
            {
              x: (start + end) / 2,
              y: row * slot + slot / 2 + 4,
              'font-size': 12,
              'text-anchor': 'middle',
              fill: theme.colors.getContrastText(color),
            },
            shown,
          ),
        );
    }
  });
  const count = Math.max(Math.floor((width - left) / 110), 2);
  for (let i = 0; i < count; i++) {
    const at = range.from + ((range.to - range.from) * (i + 0.5)) / count;
    drawing.append(
      svg(
        'text',
        { x: x(at), y: height - 6, 'font-size': 12, 'text-anchor': 'middle' },
        dateTimeFormat(at, { format: timeFormat((range.to - range.from) / count, range.to - range.from), timeZone }),
      ),
    );
  }
  body.prepend(drawing);
}
