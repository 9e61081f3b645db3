#!/usr/bin/env node
// Writes the dashboards: `node dashboards/source/build.mjs [DIRECTORY]`, by default into `dashboards`.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import app from './app.mjs';
import exporter from './exporter.mjs';
import overview from './overview.mjs';

const directory = process.argv[2] ?? fileURLToPath(new URL('..', import.meta.url));
for (const dashboard of [overview, app, exporter]) {
  writeFileSync(join(directory, `${dashboard.uid}.json`), `${JSON.stringify(dashboard, null, 1)}\n`);
}
