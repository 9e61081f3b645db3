// Lays a dashboard out in the page, panel by panel, and reports its problems.

import '@fontsource/inter/latin-400.css';
import '@fontsource/inter/latin-500.css';
import { createTheme, dateTimeFormat } from '@grafana/data';
import 'uplot/dist/uPlot.min.css';
import { barchart, stateTimeline, timeseries } from './charts.js';
import { aligned, configOf, intervals, panelData, panelRange, stepOf } from './data.js';
import { fontFamily, html, loadFonts } from './html.js';
import { Empty, alertlist, bargauge, gauge, markdown, piechart, stat, table } from './panels.js';
import './style.css';
import { Variables, timeRange } from './variables.js';

const DRAW = { timeseries, stat, bargauge, gauge, table, piechart, barchart, 'state-timeline': stateTimeline, text: markdown, alertlist };
const WITHOUT_DATA = ['text', 'alertlist'];
const [ROW, GAP] = [30, 8];

/** Whether Chinese characters can be drawn: those that no font has look all the same. */
window.hasChineseFont = async () => {
  try {
    await loadFonts();
  } catch {
    return false;
  }
  const pictures = ['用', '户', '市'].map((character) => {
    const canvas = html('canvas', { width: 40, height: 40 });
    const context = canvas.getContext('2d');
    context.font = `30px ${fontFamily()}`;
    context.fillText(character, 0, 32);
    return canvas.toDataURL();
  });
  return new Set(pictures).size === pictures.length;
};

/** Draws a dashboard; returns a line for each panel, variable or annotation that failed, and for each panel that has a text for being empty and is. */
window.preview = async (dashboard, { theme: mode, variables: wanted, from, to, timezone, collapsed }) => {
  const ask = window.ask;
  const [faults, empty] = [[], []];
  const theme = createTheme({ colors: { mode } });
  setColors(theme);
  const zone = timezone ?? dashboard.timezone;
  const timeZone = zone && zone !== 'browser' ? zone : Intl.DateTimeFormat().resolvedOptions().timeZone;
  const range = timeRange(from ?? dashboard.time?.from ?? 'now-6h', to ?? dashboard.time?.to ?? 'now', timeZone);
  const variables = new Variables(range, timeZone);
  const list = dashboard.templating?.list ?? [];
  for (const name of Object.keys(wanted)) if (!list.some((variable) => variable.name === name)) faults.push(`there is no variable ${name}`);
  faults.push(...(await variables.load(list, wanted, ask)));
  const annotations = await loadAnnotations(dashboard, variables, theme, ask, faults);

  document.body.append(head(dashboard, variables.shown(list), range, timeZone));
  for (const { row, panels } of sections(dashboard.panels ?? [], variables)) {
    const closed = collapsed && row?.collapsed;
    if (row) document.body.append(html('div', { class: 'row' }, closed ? '› ' : '⌄ ', variables.replace(row.title ?? '', row.scoped)));
    if (closed) continue;
    const grid = html('div', { class: 'grid' });
    document.body.append(grid);
    grid.style.height = `${place(panels)}px`;
    const cell = (grid.clientWidth + GAP) / 24;
    for (const panel of panels) {
      const { x, w, h } = panel.gridPos;
      const size = { left: x * cell, top: panel.top, width: w * cell - GAP, height: h * (ROW + GAP) - GAP };
      const title = variables.replace(panel.title ?? '', panel.scoped);
      const body = html('div', { class: 'body' });
      const marks = [
        panel.description && html('span', { class: 'info' }, 'i'),
        (panel.timeFrom || panel.timeShift) &&
          !panel.hideTimeOverride &&
          html('span', { class: 'weak' }, `Last ${panel.timeFrom ?? ''} ${panel.timeShift ?? ''}`),
      ];
      grid.append(
        html(
          'div',
          { class: `panel ${panel.transparent ? 'transparent' : ''}`, style: size },
          (title || marks[0]) && html('div', { class: 'title' }, html('h2', {}, title), marks),
          body,
        ),
      );
      const { fault, noValue } = await draw({ panel, body, theme, timeZone, range, variables, annotations, ask });
      if (fault) {
        body.replaceChildren(html('div', { class: 'message fault' }, fault));
        body.parentElement.classList.add('faulty');
        faults.push(`panel "${title}" (${panel.id}): ${fault}`);
      } else if (noValue !== undefined) empty.push(`panel "${title}" (${panel.id}) is empty: ${noValue}`);
    }
  }
  return { faults, empty };
};

/** Draws a panel; returns its fault, or the text that is there because it is empty. */

async function draw({ panel, body, variables, theme, timeZone, range: whole, annotations, ask }) {
  const { scoped } = panel;
  const paint = DRAW[panel.type];
  if (!paint) return { fault: `the preview does not know panels of the type ${panel.libraryPanel ? 'library panel' : panel.type}` };
  const fieldConfig = configOf(panel);
  const { noValue } = fieldConfig.defaults;
  const asks = !WITHOUT_DATA.includes(panel.type);
  try {
    const range = panelRange(panel, whole, timeZone);
    const replace = (text, more) => variables.replace(text, { ...scoped, ...more });
    const frames = asks ? await panelData({ panel, variables, scoped, width: body.clientWidth, theme, timeZone, range, ask }) : [];
    await paint({ panel, body, frames, fieldConfig, theme, timeZone, range, annotations, replace, ask });
    return asks && !frames.some(({ length }) => length > 0) ? { noValue } : {};
  } catch (error) {
    if (!(error instanceof Empty)) return { fault: error.message };
    if (noValue === undefined) return { fault: 'No data' };
    body.replaceChildren(html('div', { class: 'message' }, noValue));
    return { noValue };
  }
}

/** The panels under each row, and in it while it is collapsed; what repeats is repeated. */
function sections(panels, variables) {
  const found = [{ panels: [] }];
  const sorted = (list) => [...list].sort((a, b) => a.gridPos.y - b.gridPos.y || a.gridPos.x - b.gridPos.x);
  for (const panel of sorted(panels)) {
    if (panel.type === 'row') found.push({ row: panel, panels: sorted(panel.panels ?? []) });
    else found.at(-1).panels.push(panel);
  }
  const each = (item, draw) =>
    item?.repeat
      ? variables
          .values(item.repeat)
          .map(({ value, text }, i, all) => draw({ [item.repeat]: { values: [value], label: text, list: true } }, i, all.length))
      : [draw({}, 0, 1)];
  return found.flatMap(({ row, panels: own }) =>
    each(row, (outer) => ({
      row: row && { ...row, scoped: outer },
      panels: own.flatMap((panel) =>
        each(panel, (inner, i, count) => {
          const { x, y, w, h } = panel.gridPos;
          const scoped = { ...outer, ...inner };
          if (!panel.repeat) return { ...panel, scoped };
          if (panel.repeatDirection === 'v') return { ...panel, scoped, gridPos: { x, y: y + i * h, w, h } };
          const across = Math.min(count, panel.maxPerRow ?? 4);
          return { ...panel, scoped, gridPos: { x: (i % across) * (24 / across), y: y + Math.floor(i / across) * h, w: 24 / across, h } };
        }),
      ),
    })),
  );
}

/** Places panels one after the other, each as far up as it goes, as Grafana does; returns the height of all. */
function place(panels) {
  const bottoms = Array(24).fill(0);
  for (const panel of panels) {
    const { x, w, h } = panel.gridPos;
    const columns = [...Array(24).keys()].slice(x, x + w);
    const top = Math.max(...columns.map((column) => bottoms[column]));
    for (const column of columns) bottoms[column] = top + h;
    panel.top = top * (ROW + GAP);
  }
  return Math.max(...bottoms) * (ROW + GAP);
}

function head(dashboard, shown, range, timeZone) {
  const time = (at) => dateTimeFormat(at, { format: 'YYYY-MM-DD HH:mm', timeZone });
  return html(
    'header',
    {},
    html(
      'div',
      { class: 'line' },
      html('h1', {}, dashboard.title ?? ''),
      html('span', { class: 'weak' }, `${time(range.from)} to ${time(range.to)} ${timeZone}`),
    ),
    html(
      'div',
      { class: 'line variables' },
      shown.map(({ name, text }) => html('span', {}, html('b', {}, name), html('span', {}, text))),
    ),
  );
}

/** Runs the annotations that ask Prometheus. Samples other than 0 that follow each other are one stretch of time. */
async function loadAnnotations(dashboard, variables, theme, ask, faults) {
  const { range } = variables;
  const list = (dashboard.annotations?.list ?? []).filter(({ enable, expr, target }) => enable && (expr ?? target?.expr));
  const found = await Promise.all(
    list.map(async ({ name, expr, target, step = '60s', iconColor, useValueForTime }) => {
      try {
        // At most a sample per pixel of the window.
        const seconds = stepOf(range, window.innerWidth, step) / 1000;
        const query = variables.replace(expr ?? target.expr, intervals(seconds, step), true);
        const { result } = await ask('query_range', { query, ...aligned(range, seconds) });
        const color = theme.visualization.getColorByName(iconColor ?? 'red');
        return result.flatMap(({ values }) => {
          const stretches = [];
          for (const [at, value] of values.filter(([, of]) => Number(of) > 0)) {
            const time = useValueForTime ? Number(value) : at * 1000;
            const last = stretches.at(-1);
            if (last && time - last.to <= seconds * 1000) last.to = time;
            else stretches.push({ from: time, to: time, color });
          }
          return stretches;
        });
      } catch (error) {
        faults.push(`annotation ${name}: ${error.message}`);
        return [];
      }
    }),
  );
  return found.flat();
}

function setColors({ colors }) {
  const set = {
    canvas: colors.background.canvas,
    primary: colors.background.primary,
    secondary: colors.background.secondary,
    text: colors.text.primary,
    weak: colors.text.secondary,
    link: colors.text.link,
    border: colors.border.weak,
    red: colors.error.text,
  };
  for (const [name, value] of Object.entries(set)) document.documentElement.style.setProperty(`--${name}`, value);
}
