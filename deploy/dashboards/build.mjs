// node deploy/dashboards/build.mjs [DIRECTORY]: writes the Grafana dashboards to DIRECTORY/grafana, and the console pages and
// their library to DIRECTORY/prometheus. DIRECTORY is deploy/ unless it is given. What is there is checked in, and a test
// compares it with what this writes. Needs `npm ci`.
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { library, runbookPages, viewPage } from './consoles.mjs';
import { grafanaDashboard } from './grafana.mjs';
import { views } from './views.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const target = process.argv[2] || dirname(here);

function write(path, text) {
  mkdirSync(dirname(join(target, path)), { recursive: true });
  writeFileSync(join(target, path), text);
}

for (const view of views) {
  write(`grafana/${view.id}.json`, JSON.stringify(grafanaDashboard(view, views), null, 2) + '\n');
  write(`prometheus/consoles/${view.id}.html`, viewPage(view, views));
}
for (const [name, text] of runbookPages(join(dirname(here), 'runbooks'), views)) write(`prometheus/consoles/${name}`, text);
write('prometheus/console_libraries/tsc-handoff.lib', library(here));
