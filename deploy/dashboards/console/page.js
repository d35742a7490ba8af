// The page: what was chosen stands in its address, so that a link shows the same; it is refreshed by itself.

const RANGES = [
  { name: '5 min', words: 'in 5 minutes', seconds: 300 }, { name: '15 min', words: 'in 15 minutes', seconds: 900 }, { name: '1 h', words: 'in an hour', seconds: 3600 },
  { name: '6 h', words: 'in 6 hours', seconds: 21600 }, { name: '24 h', words: 'in 24 hours', seconds: 86400 },
  { name: '7 d', words: 'in 7 days', seconds: 604800 },
];
const REFRESH_MS = 10000;
const POINTS = 240;

const chosen = new URLSearchParams(location.search);

function rangeSeconds() {
  const seconds = Number(chosen.get('range'));
  return seconds >= 60 && seconds <= 31536000 ? seconds : 3600;
}

function pageLink(page, instance) {
  const parameters = new URLSearchParams();
  if (instance && !(instance === '.*' && page !== 'tsc-handoff')) parameters.set('instance', instance);
  if (chosen.has('range')) parameters.set('range', chosen.get('range'));
  const query = parameters.toString();
  return page + '.html' + (query ? '?' + query : '');
}

function timeNow() {
  const range = rangeSeconds();
  const step = Math.max(10, Math.ceil(range / POINTS / 10) * 10);
  const end = Math.floor(Date.now() / 1000 / step) * step;
  const known = RANGES.find((one) => one.seconds === range);
  return { start: end - range, end, step, range, window: Math.max(60, step * 4), inWords: known ? known.words : 'in this time' };
}

function choose(name, value) {
  chosen.set(name, value);
  history.replaceState(null, '', location.pathname + '?' + chosen);
  for (const link of document.querySelectorAll('nav a')) {
    link.href = pageLink(link.dataset.page, link.dataset.page === 'tsc-fleet' ? '' : chosen.get('instance'));
  }
}

// System, light or dark. The choice stays in this browser.
function themeSwitch() {
  const names = { '': 'System', light: 'Light', dark: 'Dark' };
  const current = () => document.documentElement.dataset.theme || '';
  const select = element('select', { id: 'theme', 'aria-label': 'Colours', onchange: () => {
    document.documentElement.dataset.theme = select.value;
    localStorage.setItem('tsc-theme', select.value);
  } }, Object.entries(names).map(([value, text]) => element('option', { value, selected: value === current() }, text)));
  return select;
}

function rangeSwitch(changed) {
  const group = element('div', { class: 'segments', role: 'group', 'aria-label': 'Time range' });
  const show = () => group.replaceChildren(...RANGES.map((range) => element('button', {
    type: 'button', 'aria-pressed': String(range.seconds === rangeSeconds()),
    onclick: () => { choose('range', range.seconds); show(); changed(); } }, range.name)));
  show();
  return group;
}

async function instancePicker(view, changed) {
  const names = (await queryNow('up{job="tsc-agent"}')).map((one) => one.labels.instance);
  names.sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
  let current = chosen.get('instance');
  if (!current) {
    current = view.all ? '.*' : names[0] || '';
    if (current) choose('instance', current);
  }
  const options = view.all ? [['.*', 'All hosts'], ...names.map((name) => [name, name])] : names.map((name) => [name, name]);
  if (current && !options.some(([value]) => value === current)) options.push([current, current + ' (not scraped)']);
  const select = element('select', { id: 'instance', 'aria-label': 'Host', onchange: () => { choose('instance', select.value); changed(); } },
    options.map(([value, text]) => element('option', { value, selected: value === current }, text)));
  return select;
}

// As a PromQL string has it.
function inQuotes(text) {
  return text.replace(/[\\"]/g, '\\$&');
}

// As a pattern in a PromQL string that matches just this.
function asPattern(text) {
  return inQuotes(text.replace(/[.*+?^$()|[\]{}\\]/g, '\\$&'));
}

function buildSections(view, root) {
  const panels = [];
  for (const section of view.sections) {
    const built = section.panels.map((panel) => new PANELS[panel.kind](panel));
    panels.push(...built);
    const kinds = new Set(section.panels.map((panel) => panel.kind));
    root.append(element('section', { class: 'section' }, section.title ? element('h2', {}, section.title) : null,
      element('div', { class: 'panels ' + [...kinds].join(' '), 'data-count': built.length }, built.map((panel) => panel.node))));
  }
  return panels;
}

async function startView(view) {
  const band = new AlertsBand(document.getElementById('alerts'));
  const panels = buildSections(view, document.getElementById('view'));
  const updated = document.getElementById('updated');
  let running = false;
  let again = false;
  const refresh = async () => {
    if (running) { again = true; return; }
    running = true;
    try {
      do {
        again = false;
        await show();
      } while (again);
    } finally {
      running = false;
    }
    // What is shown is what was last chosen.
    document.body.dataset.ready = String(Date.now());
  };
  const show = async () => {
    const instance = chosen.get('instance') || '';
    const variables = { instance: view.all && instance !== '.*' ? asPattern(instance) : inQuotes(instance) };
    const time = timeNow();
    await Promise.all([band.refresh(view.variable && instance !== '.*' ? instance : ''), ...panels.map((panel) => panel.refresh(time, variables))]);
    updated.textContent = 'Updated ' + clockTime(Date.now(), true);
  };
  const controls = document.getElementById('controls');
  if (view.variable) {
    try {
      controls.append(await instancePicker(view, refresh));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;  // the band says what is wrong
    }
  }
  controls.append(rangeSwitch(refresh), themeSwitch());
  await refresh();
  setInterval(() => { if (!document.hidden) refresh(); }, REFRESH_MS);
  document.addEventListener('visibilitychange', () => { if (!document.hidden) refresh(); });
}

const viewData = document.getElementById('view-data');
if (viewData) {
  startView(JSON.parse(viewData.textContent));
} else {
  document.getElementById('controls').append(themeSwitch());
  document.body.dataset.ready = String(Date.now());
}
