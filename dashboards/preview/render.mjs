#!/usr/bin/env node
// Draws Grafana dashboards into pictures, from their JSON and a Prometheus, without Grafana: `--help`.
//
// What knows dashboards runs in the browser (page/); here are arguments, requests to Prometheus, the browser and the files.

import { build } from 'esbuild';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';
import sharp from 'sharp';

const usage = `Usage: node render.mjs [options] DASHBOARD.json...

  --prometheus URL   the data source of every panel (default http://localhost:9090)
  --out DIR          where DASHBOARD.png is written (default .)
  --var NAME=VALUE   the value of a variable, again for more values; All is "$__all"
  --from, --to TIME  instead of the time range of the dashboard, such as now-7d
  --timezone NAME    instead of that of the dashboard: utc, browser (that of this machine), or a name such as Asia/Shanghai
  --theme NAME       dark or light (default dark)
  --width PIXELS     width of the picture (default 1600)
  --collapsed        leaves collapsed rows closed
  --font FILE        a font with Chinese characters, where the system has none
  --chromium PATH    the browser (default: chromium, chromium-browser or google-chrome)

Exits with 1, and a line for each on stderr, if a panel can not be drawn, fails or is empty.
One that is empty and has a text for that has a line, too, but is no failure.`;

function fail(message, code = 2) {
  console.error(message);
  process.exit(code);
}

function commandLine() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        prometheus: { type: 'string', default: 'http://localhost:9090' },
        out: { type: 'string', default: '.' },
        var: { type: 'string', multiple: true, default: [] },
        from: { type: 'string' },
        to: { type: 'string' },
        timezone: { type: 'string' },
        theme: { type: 'string', default: 'dark' },
        width: { type: 'string', default: '1600' },
        collapsed: { type: 'boolean', default: false },
        font: { type: 'string' },
        chromium: { type: 'string' },
        help: { type: 'boolean', short: 'h' },
      },
    });
  } catch (error) {
    return fail(`${error.message}\n\n${usage}`);
  }
}

function findChromium() {
  for (const name of ['chromium', 'chromium-browser', 'google-chrome']) {
    try {
      return execFileSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).trim();
    } catch {
      // The next name, then.
    }
  }
  return fail('no chromium on the PATH: install it, or name the browser by --chromium');
}

/** The first font of a collection, which browsers don't read: its directory and its tables, from multiples of four bytes on. */
function single(font) {
  if (font.toString('latin1', 0, 4) !== 'ttcf') return font;
  const start = font.readUInt32BE(12);
  const tables = font.readUInt16BE(start + 4);
  const directory = Buffer.from(font.subarray(start, start + 12 + 16 * tables));
  const parts = [directory];
  let end = directory.length;
  for (let at = 12; at < directory.length; at += 16) {
    const [from, length] = [directory.readUInt32BE(at + 8), directory.readUInt32BE(at + 12)];
    const table = Buffer.alloc(Math.ceil(length / 4) * 4);
    font.copy(table, 0, from, from + length);
    directory.writeUInt32BE(end, at + 8);
    end += table.length;
    parts.push(table);
  }
  return Buffer.concat(parts);
}

/** Bundles the page's script and styles, fonts included, into one document that needs no server. */
async function bundle(font) {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL('page/main.js', import.meta.url))],
    bundle: true,
    minify: true,
    charset: 'utf8',
    write: false,
    outdir: 'out',
    logLevel: 'error',
    define: { 'process.env.NODE_ENV': '"production"' },
    loader: { '.woff2': 'dataurl', '.woff': 'empty' },
  });
  const [js, css] = ['.js', '.css'].map((end) => outputFiles.find((file) => file.path.endsWith(end)).text);
  const given = font ? `@font-face { font-family: Given; src: url(data:font/ttf;base64,${font.toString('base64')}); }` : '';
  return `<!doctype html><meta charset="utf-8"><style>${css}${given}</style><body><script>${js.replaceAll('</script', '<\\/script')}</script>`;
}

/** Asks Prometheus and returns its data; the page has what is thrown here as the message of the panel. */
async function ask(prometheus, path, parameters) {
  const url = new URL(`${prometheus.replace(/\/$/, '')}/api/v1/${path}`);
  const headers = {};
  if (url.username) {
    headers.authorization = `Basic ${Buffer.from(`${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`).toString('base64')}`;
    url.username = url.password = '';
  }
  url.search = new URLSearchParams(parameters);
  let answer;
  try {
    answer = await fetch(url, { headers });
  } catch (error) {
    throw new Error(`Prometheus can not be reached: ${error.cause?.message ?? error.message}`);
  }
  const text = await answer.text();
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    throw new Error(`Prometheus returned ${answer.status}: ${text.slice(0, 200)}`);
  }
  if (body.status !== 'success') throw new Error(body.error ?? `Prometheus returned ${answer.status}`);
  return body.data;
}

const { values: args, positionals: files } = commandLine();
if (args.help) {
  console.log(usage);
  process.exit(0);
}
if (files.length === 0) fail(`no dashboard given\n\n${usage}`);
if (!['dark', 'light'].includes(args.theme)) fail('--theme is dark or light');
const width = Number(args.width);
if (!Number.isInteger(width) || width < 400) fail('--width is a number of pixels, 400 at least');
if (args.timezone && !['utc', 'browser'].includes(args.timezone)) {
  try {
    new Intl.DateTimeFormat('en', { timeZone: args.timezone });
  } catch {
    fail(`--timezone ${args.timezone}: write utc, browser or a name such as Asia/Shanghai`);
  }
}
const variables = {};
for (const pair of args.var) {
  const [name, ...value] = pair.split('=');
  if (value.length === 0) fail(`--var ${pair}: write NAME=VALUE`);
  (variables[name] ??= []).push(value.join('='));
}
function read(file, parse) {
  try {
    return parse(readFileSync(file));
  } catch (error) {
    return fail(`${file}: ${error.message}`);
  }
}
const dashboards = files.map((file) => ({ name: basename(file, '.json'), json: read(file, JSON.parse) }));
const font = args.font && read(args.font, single);

const home = mkdtempSync(join(tmpdir(), 'dashboard-preview-'));
let faults = 0;
let browser;
try {
  const document = join(home, 'page.html');
  writeFileSync(document, await bundle(font));
  browser = await chromium.launch({
    executablePath: args.chromium ?? findChromium(),
    // Chromium has none for root.
    chromiumSandbox: process.getuid?.() !== 0,
    args: ['--disable-gpu', '--disable-background-networking', '--no-first-run', '--hide-scrollbars'],
  });
  mkdirSync(args.out, { recursive: true });
  for (const { name, json } of dashboards) {
    const page = await browser.newPage({ viewport: { width, height: 800 } });
    await page.exposeFunction('ask', (path, parameters) => ask(args.prometheus, path, parameters));
    await page.goto(`file://${document}`);
    if (!(await page.evaluate(() => window.hasChineseFont()))) {
      throw new Error(
        font
          ? `${args.font} is not a font with Chinese characters that Chromium can read: name another by --font`
          : 'Chromium has no font with Chinese characters and would draw boxes: install one ' +
              '(on Debian the package fonts-wqy-microhei or fonts-noto-cjk), or name a file by --font',
      );
    }
    const { theme, from, to, timezone, collapsed } = args;
    const settings = { theme, variables, from, to, timezone, collapsed };
    const found = await page.evaluate((all) => window.preview(...all), [json, settings]);
    for (const line of [...found.faults, ...found.empty]) console.error(`${name}: ${line}`);
    faults += found.faults.length;
    const picture = join(args.out, `${name}.png`);
    // With a palette the file is a third as large.
    await sharp(await page.screenshot({ fullPage: true }))
      .png({ palette: true, dither: 0 })
      .toFile(picture);
    console.log(picture);
    await page.close();
  }
} catch (error) {
  console.error(error.message);
  faults += 1;
} finally {
  await browser?.close();
  rmSync(home, { recursive: true, force: true });
}
process.exit(faults ? 1 : 0);
