// node browse.mjs URL DIRECTORY PREFIX [PAGE...]: opens the console pages of the Prometheus at URL in headless Chromium, all
// that can be reached unless PAGEs are given, uses what can be used there, and writes pictures of each to DIRECTORY, for a
// laptop and a wall screen, light and dark, as PREFIX-PAGE-WIDTH-SCHEME.png. At last it takes Prometheus away.
//
// Prints one JSON object: {pages: [{page, alerts, panels: [{id, state, text}], links}], unreachable, problems}. A problem is
// whatever the console, the network or the pages themselves complain of.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const [url, directory, prefix, ...only] = process.argv.slice(2);
const SIZES = [{ width: 1440, height: 900 }, { width: 2560, height: 1440 }];
const PHONE = { width: 420, height: 800 };
const problems = [];
let expectFailures = false;  // while a page is left, or Prometheus is away

function watch(page) {
  const note = (text) => { if (!expectFailures) problems.push(text); };
  page.on('console', (message) => { if (['error', 'warning'].includes(message.type())) note(`console: ${message.text()}`); });
  page.on('pageerror', (error) => problems.push(`script: ${error.message}`));
  page.on('requestfailed', (request) => note(`network: ${request.url()} ${request.failure().errorText}`));
  page.on('response', (response) => { if (response.status() >= 400) note(`status ${response.status()}: ${response.url()}`); });
}

// All queries have been answered since `after`.
async function settled(page, after = 0) {
  await page.waitForFunction((since) => Number(document.body.dataset.ready) > since, after, { timeout: 60000 });
}

async function changed(page, action) {
  const before = await page.evaluate(() => Number(document.body.dataset.ready) || 0);
  await action();
  await settled(page, before);
}

async function leave(page, action) {
  expectFailures = true;
  await action();
  expectFailures = false;
  await settled(page);
}

const visit = (page, name) => leave(page, () => page.goto(`${url}/consoles/${name}.html`));

// Nothing but tables and code may scroll sideways.
async function checkWidth(page, name) {
  const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  if (over > 0) problems.push(`${name} is ${over} pixels wider than a window of ${page.viewportSize().width}`);
}

// Graphs follow the size of their place in the next frame.
const drawn = (page) => page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));

async function pictures(page, name) {
  await page.evaluate(() => window.scrollTo(0, 0));
  for (const size of SIZES) {
    await page.setViewportSize(size);
    await checkWidth(page, name);
    for (const scheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme: scheme });
      await drawn(page);
      await page.screenshot({ path: join(directory, `${prefix}-${name}-${size.width}-${scheme}.png`), fullPage: true });
    }
  }
  await page.setViewportSize(PHONE);
  await checkWidth(page, name);
  await page.setViewportSize(SIZES[0]);
  await page.emulateMedia({ colorScheme: 'light' });
}

async function useView(page) {
  const ranges = page.locator('.segments button');
  if (await ranges.count() > 0) {
    await changed(page, () => ranges.first().click());
    // What happened before the pages were opened is still to be seen at the last of them.
    await changed(page, () => ranges.nth(1).click());
  }
  const hosts = page.locator('#instance');
  if (await hosts.count() > 0) {
    const values = await hosts.locator('option').evaluateAll((options) => options.map((option) => option.value));
    if (values.length > 1) {
      await changed(page, () => hosts.selectOption(values[1]));
      await changed(page, () => hosts.selectOption(values[0]));
    }
  }
  for (const graph of await page.locator('svg.plot').all()) await graph.hover();
  await page.mouse.move(0, 0);
}

// Both colours by the switch, then the system's again.
async function useTheme(page) {
  const grounds = [];
  for (const theme of ['light', 'dark', '']) {
    await page.locator('#theme').selectOption(theme);
    grounds.push(await page.evaluate(() => getComputedStyle(document.body).backgroundColor));
  }
  if (grounds[0] === grounds[1]) problems.push('light and dark look the same');
}

async function look(page, name) {
  await useTheme(page);
  await useView(page);
  await pictures(page, name);
  return page.evaluate((known) => ({
    page: known,
    alerts: document.getElementById('alerts')?.innerText || '',
    panels: [...document.querySelectorAll('.panel')].map((panel) => ({
      id: panel.id, state: panel.dataset.state, text: panel.querySelector('.body').innerText })),
    links: [...document.querySelectorAll('main a[href]')].map((link) => link.getAttribute('href')),
  }), name);
}

async function lookAtTabs(page, pages) {
  await visit(page, 'tsc-fleet');
  const tabs = await page.locator('nav a').evaluateAll((all) => all.map((link) => link.dataset.page));
  for (const tab of tabs) {
    await leave(page, async () => {
      await page.locator(`nav a[data-page="${tab}"]`).click();
      await page.waitForURL(`**/${tab}.html*`);
    });
    pages.push(await look(page, tab));
  }
}

// Every one is reached from the list.
async function readRunbooks(page, pages) {
  await visit(page, 'tsc-runbooks');
  const names = await page.locator('main a[href^="tsc-runbook-"]').evaluateAll((all) => all.map((link) => link.getAttribute('href').slice(0, -5)));
  for (const name of names) {
    await visit(page, name);
    await checkWidth(page, name);
    pages.push({ page: name, alerts: '', panels: [],
      links: await page.locator('main a[href]').evaluateAll((all) => all.map((link) => link.getAttribute('href'))) });
  }
}

// What an open page says when Prometheus is gone.
async function takeAway(page) {
  await visit(page, 'tsc-fleet');
  expectFailures = true;
  await page.route('**/api/**', (route) => route.abort());
  await changed(page, () => page.locator('.segments button').first().click());
  const text = await page.locator('#alerts').innerText();
  await page.unroute('**/api/**');
  await changed(page, () => page.locator('.segments button').nth(1).click());
  expectFailures = false;
  return text;
}

const profile = mkdtempSync(join(tmpdir(), 'tsc-browser-'));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.TSC_CHROMIUM || '/usr/bin/chromium', headless: true, viewport: SIZES[0], locale: 'en-GB',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'],
});
const pages = [];
let unreachable = '';
try {
  const page = browser.pages()[0] || await browser.newPage();
  watch(page);
  if (only.length === 0) {
    await lookAtTabs(page, pages);
    await readRunbooks(page, pages);
  }
  for (const name of only) {
    await visit(page, name);
    pages.push(await look(page, name));
  }
  unreachable = await takeAway(page);
} catch (error) {
  problems.push(`driver: ${error.message}`);
} finally {
  await browser.close();
  rmSync(profile, { recursive: true, force: true });
}
console.log(JSON.stringify({ pages, unreachable, problems }));
