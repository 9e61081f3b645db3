// Checks dashboards against the types of several versions of Grafana.
//
// Usage: node types.mjs DASHBOARD.json...
//
// Prints a line for every property that a version's @grafana/schema does not know or gives another type, and exits 1 if
// there is one. Does not know what the dashboards show. The packages are installed by tests/run.

import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const files = process.argv.slice(2);
if (files.length === 0) {
  console.error("usage: node types.mjs DASHBOARD.json...");
  process.exit(2);
}
const packages = fileURLToPath(new URL("../../target/tools/dashboards/node_modules/", import.meta.url));
const VERSIONS = ["schema-10", "schema-11", "schema-12", "schema-13"];
// @grafana/schema has no types for what these show.
const WITHOUT_TYPES = ["alertlist"];

// Grafana fills in whatever is missing, and JSON has the values of enumerations instead of their names.
const COMMON = `
type Plain<T> = unknown extends T ? T
  : T extends string ? \`\${T}\`
  : T extends (infer Item)[] ? Plain<Item>[]
  : T extends object ? { [Key in keyof T]?: Plain<T[Key]> }
  : T;
type Named<T, Prefix extends string> = { [Key in keyof T & string]-?: { id: \`\${Prefix}\${Key}\`; value?: T[Key] } }[keyof T & string];
// One that all versions of Grafana know, and @grafana/schema forgets.
type Defaults = Omit<Plain<grafana.FieldConfig>, "custom"> & { fieldMinMax?: boolean };
export type Panel<Options, Custom> = Omit<Plain<grafana.Panel>, "options" | "fieldConfig"> & {
  options?: Plain<Options>;
  fieldConfig?: {
    defaults: Defaults & { custom?: Plain<Custom> };
    overrides: {
      matcher: Plain<grafana.MatcherConfig>;
      properties: (Named<Defaults, ""> | Named<Plain<Custom>, "custom.">)[];
    }[];
  };
};
export type Row = Omit<Plain<grafana.RowPanel>, "panels"> & { panels: [] };
// The rest of annotations and variables is up to their data source, here Prometheus.
type Annotation = Plain<grafana.AnnotationQuery> & {
  expr?: string;
  step?: string;
  tagKeys?: string;
  textFormat?: string;
  titleFormat?: string;
  useValueForTime?: boolean;
};
type Variable = Plain<grafana.VariableModel> & { definition?: string };
export type Dashboard = Omit<Plain<grafana.Dashboard>, "annotations" | "panels" | "templating"> & {
  annotations?: { list: Annotation[] };
  panels: [];
  templating?: { list: Variable[] };
};
`;

function read(file) {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch (error) {
    console.error(`${file}: ${error.message}`);
    return process.exit(2);
  }
}

/** The declarations in a package, which are at another place in each version. */
function declarations(version) {
  const found = readdirSync(join(packages, version, "dist"), { recursive: true }).filter((file) => file.endsWith(".d.ts"));
  const path = (pattern) => {
    const file = found.find((one) => pattern.test(one));
    return file && join(packages, version, "dist", file);
  };
  return {
    index: path(/^(esm|types)\/index\.d\.ts$/),
    dashboard: path(/\/raw\/dashboard\/x\/(dashboard_)?types\.gen\.d\.ts$/),
    panel: (type) => path(new RegExp(`/raw/composable/${type.replaceAll("-", "")}/panelcfg/x/\\w*types\\.gen\\.d\\.ts$`)),
  };
}

/** The dashboard and its panels, each with its name in messages. */
function parts(file) {
  const { panels = [], ...dashboard } = read(file);
  const all = panels.flatMap((panel) => (panel.type === "row" ? [{ ...panel, panels: [] }, ...(panel.panels ?? [])] : [panel]));
  return [
    { place: file, json: { ...dashboard, panels: [] } },
    ...all.map((panel) => ({ place: `${file}: panel "${panel.title}" (${panel.id})`, type: panel.type, json: panel })),
  ];
}

/** The program that has `json` as a value of its type. */
function program({ type, json }, { panel }) {
  const value = `= ${JSON.stringify(json, null, 1)};`;
  if (!type) return `import type { Dashboard } from "./common.js";\nexport const dashboard: Dashboard ${value}`;
  if (type === "row") return `import type { Row } from "./common.js";\nexport const row: Row ${value}`;
  const path = panel(type);
  if (!path) return undefined;
  const custom = /\binterface FieldConfig\b/.test(readFileSync(path, "utf8")) ? "plugin.FieldConfig" : "Record<string, never>";
  return `import type { Panel } from "./common.js";
import type * as plugin from ${JSON.stringify(path)};
export const panel: Panel<plugin.Options, ${custom}> ${value}`;
}

async function check(version, all, directory) {
  const { version: released } = read(join(packages, version, "package.json"));
  const found = declarations(version);
  mkdirSync(directory);
  const findings = [];
  const programs = new Map();
  all.forEach((part, at) => {
    const name = `${at}.ts`;
    const text = program(part, found);
    if (text) {
      programs.set(name, { place: part.place, lines: text.split("\n") });
      writeFileSync(join(directory, name), text);
    } else if (!WITHOUT_TYPES.includes(part.type)) {
      findings.push(`${part.place}: Grafana ${released} has no panel of the type ${part.type}`);
    }
  });
  writeFileSync(join(directory, "common.ts"), `import type * as grafana from ${JSON.stringify(found.dashboard)};\n${COMMON}`);
  const compilerOptions = {
    module: "esnext",
    moduleResolution: "bundler",
    noEmit: true,
    paths: { "@grafana/schema": [found.index] },
    skipLibCheck: true,
    strict: true,
    target: "esnext",
    types: [],
  };
  writeFileSync(join(directory, "tsconfig.json"), JSON.stringify({ compilerOptions, include: ["*.ts"] }));
  const compiler = join(packages, "typescript/bin/tsc");
  const { stdout } = await promisify(execFile)(process.execPath, [compiler, "--pretty", "false", "--project", directory], {
    cwd: directory,
    maxBuffer: 2 ** 26,
  }).catch((error) => {
    if (!error.stdout) throw error;
    return error;
  });
  // What follows a line with the place of an error, indented, are its details.
  for (const message of stdout.trim().split(/\n(?! )/)) {
    if (!message) continue;
    const [, file, line, what] = /^([^(]+)\((\d+),\d+\): error TS\d+: ([^]*)$/.exec(message) ?? [];
    const { place, lines } = programs.get(basename(file ?? "")) ?? {};
    if (!place) throw new Error(`${version}: ${message}`);
    // A type without the property can be long, and says nothing more.
    const why = what.replace(/\n\s*/g, " ").replace(/ in type [^]*/, "");
    findings.push(`${place}: Grafana ${released}: ${lines[line - 1].trim().replace(/,$/, "")}: ${why}`);
  }
  return findings;
}

const all = files.flatMap(parts);
const directory = mkdtempSync(join(tmpdir(), "dashboard-types-"));
try {
  const findings = await Promise.all(VERSIONS.map((version) => check(version, all, join(directory, version))));
  for (const finding of findings.flat()) console.log(finding);
  process.exitCode = findings.flat().length > 0 ? 1 : 0;
} finally {
  rmSync(directory, { recursive: true });
}
