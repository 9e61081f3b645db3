// Checks pages for people in Debian's Chromium, and takes pictures of them.
//
// Usage: node check.mjs [--pictures DIRECTORY] [--step PIXELS] [--alternate] URL PATH...
//
// Prints a line for every finding, with the path, width, scheme, language and element, and exits 1 if there is one. Does not
// know what the pages say. Pages are measured at every width from 320 px on in steps of 16 px, or of other ones.
// Axe audits them in each language in light and dark and at two widths; with --alternate in one of the languages each,
// and in the other one on the next page. The packages are installed by tests/run.

import { existsSync, mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { parseArgs } from "node:util";

const require = createRequire(new URL("../../target/tools/pages/", import.meta.url));
const axe = require("axe-core");
const { HtmlValidate, StaticConfigLoader } = require("html-validate");
const { chromium } = require("playwright-core");

const LANGUAGES = { zh: "zh-CN", en: "en-US" };
const SCHEMES = ["light", "dark"];
const NARROW = 320;
const WIDE = 1280;
const HEIGHT = 900;
// A4 without the margins of 1 cm that Chromium adds.
const PAPER = 718;
const AUDITS = [["light", NARROW], ["light", WIDE], ["dark", WIDE]];
const PICTURES = [320, 800, 1024, 1920];
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa", "best-practice"];

const validator = new HtmlValidate(
  new StaticConfigLoader({
    root: true,
    extends: ["html-validate:standard"],
    elements: ["html5"],
  }),
);

const { values: options, positionals } = parseArgs({
  options: { pictures: { type: "string" }, step: { type: "string", default: "16" }, alternate: { type: "boolean" } },
  allowPositionals: true,
});
const [url, ...paths] = positionals;
const step = Number(options.step);
const WIDTHS = Array.from({ length: Math.floor((1920 - 320) / step) + 1 }, (_, index) => 320 + index * step);
if (paths.length === 0) {
  console.error("usage: node check.mjs [--pictures DIRECTORY] [--step PIXELS] [--alternate] URL PATH...");
  process.exit(2);
}

// Findings without their widths, and the widths.
const findings = new Map();

const browser = await chromium.launch({
  executablePath: process.env.PATH.split(":").map((directory) => join(directory, "chromium")).find(existsSync),
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
});
try {
  for (const [place, path] of paths.entries()) {
    await Promise.all(
      Object.keys(LANGUAGES).map((language, turn) =>
        check(path, language, AUDITS.filter((_, index) => !options.alternate || (index + turn + place) % 2 === 0)),
      ),
    );
  }
} finally {
  await browser.close();
}
for (const [finding, widths] of findings) {
  const [path, scheme, language, ...what] = JSON.parse(finding);
  const width = [...new Set([Math.min(...widths), Math.max(...widths)])].join("-");
  console.log(`${path} ${width}px ${scheme} ${language} ${what.join(": ").replace(/\s+/g, " ")}`);
}
process.exitCode = findings.size > 0 ? 1 : 0;

/** Checks a page in a language, with audits of these schemes and widths. */
async function check(path, language, audits) {
  for (const scheme of SCHEMES) {
    const widths = audits.filter(([of]) => of === scheme).map(([, width]) => width);
    // All else is checked in light.
    if (scheme === "dark" && widths.length === 0 && !options.pictures) {
      continue;
    }
    const report = (width, kind, element, message) => {
      const finding = JSON.stringify([path, scheme, language, kind, element, message]);
      findings.set(finding, new Set(findings.get(finding)).add(width));
    };
    const context = await browser.newContext(settings(language, scheme, true));
    try {
      const page = await context.newPage();
      const served = await open(page, path, report);
      if (scheme === "light") {
        await validate(served, report);
        await withoutScripts(page, path, language, served, report);
        await sweep(page, report);
        await tab(page, report);
      }
      for (const width of widths) {
        await page.setViewportSize({ width, height: HEIGHT });
        await audit(page, (...finding) => report(width, ...finding));
      }
      if (options.pictures) {
        await takePictures(page, path, `${scheme}-${language}`);
      }
    } finally {
      await context.close();
    }
  }
}

function settings(language, colorScheme, javaScriptEnabled) {
  return {
    locale: LANGUAGES[language],
    colorScheme,
    javaScriptEnabled,
    viewport: { width: WIDE, height: HEIGHT },
  };
}

/** Opens a page; returns what was served. Reports what is requested elsewhere, and errors. */
async function open(page, path, report) {
  const address = new URL(path, url);
  page.on("request", (request) => {
    const { origin, protocol } = new URL(request.url());
    if (protocol !== "data:" && origin !== address.origin) {
      report(WIDE, "request", request.url(), "is not of this host");
    }
  });
  page.on("console", (message) => {
    if (message.type() === "error") {
      report(WIDE, "console", "page", message.text());
    }
  });
  page.on("pageerror", (error) => report(WIDE, "console", "page", String(error)));
  const response = await page.goto(address.href, { waitUntil: "load" });
  if (response.status() !== 200) {
    report(WIDE, "status", "page", String(response.status()));
  }
  return { status: response.status(), headers: await response.allHeaders(), body: await response.text() };
}

async function validate({ body }, report) {
  const { results } = await validator.validateString(body);
  for (const { line, message, ruleId, selector } of results.flatMap(({ messages }) => messages)) {
    report(WIDE, "html", selector ?? `line ${line}`, `${message} (${ruleId})`);
  }
}

/** Compares the text with that of the same bytes without JavaScript. */
async function withoutScripts(page, path, language, served, report) {
  const context = await browser.newContext(settings(language, "light", false));
  try {
    const plain = await context.newPage();
    await plain.route("**", (route) => (route.request().isNavigationRequest() ? route.fulfill(served) : route.continue()));
    await plain.goto(new URL(path, url).href);
    const [words, plainWords] = await Promise.all([page, plain].map(wordsOf));
    const place = words.findIndex((word, index) => word !== plainWords[index]);
    if (place >= 0 || words.length !== plainWords.length) {
      const from = place >= 0 ? place : words.length;
      const [there, here] = [plainWords, words].map((all) => all.slice(from, from + 6).join(" "));
      report(WIDE, "javascript", "body", `without JavaScript "${there}", with it "${here}"`);
    }
  } finally {
    await context.close();
  }
}

async function wordsOf(page) {
  return (await page.locator("body").innerText()).split(/\s+/).filter((word) => word !== "");
}

/** Reports at every width what is wider than the page and what is cut off; then with all details open, and on paper. */
async function sweep(page, report) {
  await measure(page, WIDTHS, "", report);
  await page.evaluate(() => document.querySelectorAll("details").forEach((details) => details.toggleAttribute("open")));
  // Tables that are seldom open are large, so not as often.
  await measure(page, WIDTHS.filter((width) => width % 80 === 0), "", report);
  await page.emulateMedia({ media: "print" });
  await measure(page, [PAPER], "print ", report);
  await page.emulateMedia({ media: null });
  await page.evaluate(() => document.querySelectorAll("details").forEach((details) => details.toggleAttribute("open")));
}

async function measure(page, widths, medium, report) {
  for (const width of widths) {
    // Less to paint.
    await page.setViewportSize({ width, height: 200 });
    for (const [kind, element, message] of await page.evaluate(beyond)) {
      report(width, `${medium}${kind}`, element, message);
    }
  }
}

/** Reports links and controls that the Tab key does not reach, and those that do not show that it did. */
async function tab(page, report) {
  await page.setViewportSize({ width: WIDE, height: HEIGHT });
  const count = await page.evaluate(findControls);
  // A page may make a scroll container reachable, too.
  for (let step = 0; step < 2 * count + 10; step++) {
    await page.keyboard.press("Tab");
    if (!(await page.evaluate(visit))) {
      break;
    }
  }
  for (const [element, message] of await page.evaluate(unvisited)) {
    report(WIDE, "keyboard", element, message);
  }
}

async function audit(page, report) {
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate((values) => globalThis.axe.run({ runOnly: { type: "tag", values }, resultTypes: ["violations"] }), RULES);
  for (const { id, help, nodes } of violations) {
    for (const { target } of nodes) {
      report("axe", target.join(" "), `${help} (${id})`);
    }
  }
}

async function takePictures(page, path, name) {
  mkdirSync(options.pictures, { recursive: true });
  const file = path.replace(/[^0-9A-Za-z]+/g, "-").replace(/^-|-$/g, "") || "index";
  for (const width of PICTURES) {
    await page.setViewportSize({ width, height: HEIGHT });
    await page.screenshot({ path: join(options.pictures, `${file}-${width}-${name}.png`), fullPage: true });
  }
}

// What follows runs in the page.

/** Returns what reaches beyond the page, and text that is cut off. */
function beyond() {
  const found = [];
  const wide = new Set();
  const name = (element) => {
    const classes = [...element.classList].map((one) => `.${one}`).join("");
    const text = element.textContent.trim().replace(/\s+/g, " ").slice(0, 30);
    return `${element.localName}${element.id && `#${element.id}`}${classes}${text && ` "${text}"`}`;
  };
  const ancestor = (element, accepts) => {
    for (let above = element.parentElement; above; above = above.parentElement) {
      if (accepts(above)) {
        return above;
      }
    }
    return null;
  };
  const root = document.scrollingElement;
  const width = root.clientWidth;
  const overflow = (element) => getComputedStyle(element).overflowX;
  const scrolls = (element) => ["auto", "scroll"].includes(overflow(element));
  const clips = (element) => ["hidden", "clip"].includes(overflow(element));
  // For screen readers only.
  const isHidden = (element) => clips(element) && element.clientWidth <= 1 && element.clientHeight <= 1;
  const isShown = (element) =>
    element.checkVisibility({ visibilityProperty: true, contentVisibilityAuto: true }) && !isHidden(element) && !ancestor(element, isHidden);
  const drawings = [...document.querySelectorAll("svg")].filter(clips);
  for (const text of drawings.flatMap((drawing) => [...drawing.querySelectorAll("text")])) {
    const [box, frame] = [text, text.ownerSVGElement].map((element) => element.getBoundingClientRect());
    const isOutside =
      box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1;
    if (box.width > 0 && isOutside && isShown(text)) {
      found.push(["cut", name(text), "is outside of its drawing"]);
    }
  }
  // Closed details have no layout, and are slow to ask for one.
  const closed = "details:not([open]) > :not(summary)";
  for (const element of document.body.querySelectorAll(`:is(*:not(svg *), svg text):not(${closed}, ${closed} *)`)) {
    const { left, right, bottom, height } = element.getBoundingClientRect();
    // Beside or above the page is what is shown when it has the focus.
    const isBeyond = right > width + 0.5 || (left < -0.5 && right > 0);
    if (isBeyond && height > 0 && bottom > 0 && isShown(element) && !ancestor(element, scrolls)) {
      // What is in it is as wide.
      if (!wide.has(element.parentElement)) {
        found.push(["overflow", name(element), "reaches beyond the page"]);
      }
      wide.add(element);
    }
    const isCut = element.scrollWidth > element.clientWidth + 1 && clips(element) && getComputedStyle(element).textOverflow === "clip";
    if (isCut && element.innerText && isShown(element)) {
      found.push(["cut", name(element), "cuts text off"]);
    }
  }
  if (root.scrollWidth > width && !found.some(([kind]) => kind === "overflow")) {
    found.push(["overflow", "html", "is wider than the page"]);
  }
  return found;
}

/** Remembers links and controls and how they look; returns how many there are. */
function findControls() {
  const all = "a[href], button, input, select, textarea, summary, [tabindex]";
  const looks = (element) => {
    const { outlineStyle, outlineWidth, outlineColor, boxShadow } = getComputedStyle(element);
    return { outlineStyle, outlineWidth, outlineColor, boxShadow };
  };
  const controls = [...document.querySelectorAll(all)].filter(
    (element) => element.checkVisibility({ visibilityProperty: true }) && !element.disabled,
  );
  globalThis.tabs = { looks, before: new Map(controls.map((element) => [element, looks(element)])), reached: new Map() };
  document.activeElement?.blur();
  return controls.length;
}

/** Remembers how the element looks that has the focus; returns whether it is another one than before. */
function visit() {
  const { looks, reached } = globalThis.tabs;
  const element = document.activeElement;
  if (!element || element === document.body || reached.has(element)) {
    return false;
  }
  reached.set(element, looks(element));
  return true;
}

/** Returns the links and controls that were not reached, and those without a sign of the focus. */
function unvisited() {
  const { before, reached } = globalThis.tabs;
  const found = [];
  const name = (element) => `${element.localName} "${(element.innerText || element.name || element.id || "").trim().slice(0, 30)}"`;
  // The Tab key reaches one of a group.
  const isOfReachedGroup = (element) =>
    element.type === "radio" && [...reached.keys()].some((other) => other.type === "radio" && other.name === element.name);
  for (const [element, unfocused] of before) {
    const focused = reached.get(element);
    if (!focused) {
      if (!isOfReachedGroup(element)) {
        found.push([name(element), "is not reached by the Tab key"]);
      }
      continue;
    }
    const hasOutline =
      focused.outlineStyle !== "none" && parseFloat(focused.outlineWidth) >= 1 && !/, 0\)$|^transparent$/.test(focused.outlineColor);
    if (!hasOutline && (focused.boxShadow === "none" || focused.boxShadow === unfocused.boxShadow)) {
      found.push([name(element), "does not show that it has the focus"]);
    }
  }
  return found;
}
