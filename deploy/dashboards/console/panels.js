// One class for each kind of panel: builds its frame once, fetches its queries, and shows values, emptiness or an error.

const NOTHING = 'No data in this time.';

class Panel {
  constructor(panel) {
    this.panel = panel;
    this.body = element('div', { class: 'body' });
    this.node = element('section', { class: `panel ${panel.kind}`, id: panel.id, 'aria-busy': true },
      element('header', {}, element('h3', {}, panel.title), panel.help ? element('p', {}, panel.help) : null), this.body);
  }

  async refresh(time, variables) {
    this.state = 'shown';
    try {
      await this.show(time, variables);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.say('error', error.message);
    }
    this.node.dataset.state = this.state;
    this.node.removeAttribute('aria-busy');
  }

  say(state, text) {
    this.state = state;
    this.body.replaceChildren(element('p', { class: 'note' }, text));
  }

  ask(query, variables, time) {
    return queryNow(fillQuery(query.expr, time, variables));
  }
}

// Is `value` bad, by the rule of the panel or the column?
function isBad(rule, value, of, limit) {
  if (value === null || Number.isNaN(value)) return false;
  switch (rule) {
    case 'above-zero': return value >= 0.5;
    case 'zero': return value === 0;
    case 'below-of': return of !== null && value < of;
    case 'above-limit': return limit !== null && value > limit;
    default: return false;
  }
}

class StatPanel extends Panel {
  constructor(panel) {
    super(panel);
    this.value = element('div', { class: 'value' });
    this.aside = element('div', { class: 'aside' });
    this.spark = element('div', { class: 'sparkbox' });
  }

  async show(time, variables) {
    const find = (name) => this.panel.queries.find((query) => (name ? query[name] : !query.of && !query.limit && !query.spark));
    const first = async (query) => {
      if (!query) return null;
      const [one] = await this.ask(query, variables, time);
      return one && Number.isFinite(one.value) ? one.value : null;
    };
    const sparkQuery = find('spark') || find();
    const [value, of, limit, history] = await Promise.all([first(find()), first(find('of')), first(find('limit')),
      this.panel.nospark ? [] : queryRange(fillQuery(sparkQuery.expr, time, variables), time)]);
    const bad = isBad(this.panel.bad, value, of, limit);
    this.node.classList.toggle('bad', bad);
    this.value.replaceChildren(...number(value, this.panel.unit).filter(Boolean),
      ...(of === null ? [] : [element('span', { class: 'of' }, ' of ' + digits(of))]));
    const aside = [];
    if (limit !== null) aside.push('limit ' + formatText(limit, this.panel.unit));
    if (this.panel.period) aside.push(time.inWords);
    this.aside.textContent = aside.join(' \u00b7 ') || '\u00a0';
    const points = history.length > 0 ? history[0].points : [];
    this.spark.replaceChildren(...(points.length > 1 ? [sparkline(points, time, bad)] : []));
    this.body.replaceChildren(this.value, this.aside, this.spark);
  }
}

class GraphPanel extends Panel {
  constructor(panel) {
    super(panel);
    this.canvas = element('div', { class: 'canvas' });
    this.chart = new LineChart(this.canvas, panel);
  }

  async show(time, variables) {
    const found = await Promise.all(this.panel.queries.map(async (query) => {
      const result = await queryRange(fillQuery(query.expr, time, variables), time);
      return result.map((one) => ({ name: fillLegend(query.legend, one.labels), points: one.points, limit: query.limit }));
    }));
    const series = found.flat();
    if (!series.some((one) => !one.limit)) return this.say('empty', this.panel.empty || NOTHING);
    if (this.canvas.parentNode !== this.body) this.body.replaceChildren(this.canvas);
    this.chart.update(series, time);
  }
}

class DistributionPanel extends Panel {
  async show(time, variables) {
    const edges = (await this.ask(this.panel.queries[0], variables, time))
      .map((one) => ({ to: one.labels.le === '+Inf' ? Infinity : Number(one.labels.le), below: one.value }))
      .sort((a, b) => a.to - b.to);
    const total = edges.length > 0 ? edges[edges.length - 1].below : 0;
    if (!(total >= 0.5)) return this.say('empty', NOTHING);
    let before = 0;
    const buckets = edges.map((edge) => {
      const count = Math.max(0, edge.below - before);
      before = Math.max(before, edge.below);
      return { to: edge.to, count };
    });
    const middle = edges.find((edge) => edge.below >= total / 2);
    const tail = edges.find((edge) => edge.below >= total * 0.99);
    const within = (edge) => (edge.to === Infinity ? 'more than 10 s' : formatText(edge.to, this.panel.unit));
    const canvas = element('div', {});
    distribution(canvas, buckets, this.panel.unit);
    this.body.replaceChildren(canvas, element('p', { class: 'caption' }, element('b', {}, digits(Math.round(total))),
      ` measured, half within ${within(middle)}, 99 % within ${within(tail)}`));
  }
}

// Cells of columns by a key of labels.
async function columns(panel, keyOf, ask) {
  const rows = new Map();
  await Promise.all(panel.queries.map(async (query) => {
    for (const one of await ask(query)) {
      const key = keyOf(one.labels);
      if (!rows.has(key)) rows.set(key, { labels: one.labels, cells: {} });
      rows.get(key).cells[query.id] = query.unit.startsWith('label:') ? one.labels[query.unit.slice(6)] : one.value;
    }
  }));
  return [...rows.values()];
}

class HostsPanel extends Panel {
  async show(time, variables) {
    const rows = await columns(this.panel, (labels) => labels.instance, (query) => this.ask(query, variables, time));
    if (rows.length === 0) return this.say('empty', 'Prometheus scrapes no tsc-agent: see deploy/prometheus/prometheus.yml.');
    const trouble = (row) => (row.cells.up === 0 ? 3 : 0) + (row.cells.undecided > 0 ? 2 : 0) + (row.cells.trusted === 0 ? 1 : 0);
    rows.sort((a, b) => trouble(b) - trouble(a) || a.labels.instance.localeCompare(b.labels.instance, 'en', { numeric: true }));
    const shown = this.panel.queries.filter((query) => !query.hidden);
    this.body.replaceChildren(element('div', { class: 'scroll' }, element('table', {},
      element('thead', {}, element('tr', {}, element('th', { scope: 'col' }, 'Host'),
        shown.map((query) => element('th', { scope: 'col', class: this.isText(query) ? '' : 'num' }, query.title)))),
      element('tbody', {}, rows.map((row) => element('tr', {},
        element('th', { scope: 'row' }, element('a', { href: pageLink('tsc-host', row.labels.instance) }, row.labels.instance)),
        shown.map((query) => this.cell(query, row.cells))))))));
  }

  isText(query) {
    return query.unit === 'up' || query.unit.startsWith('label:');
  }

  cell(query, cells) {
    const value = cells[query.id];
    if (value === undefined || Number.isNaN(value)) return element('td', { class: this.isText(query) ? 'none' : 'num none' }, '\u2013');
    if (query.id === 'up') return element('td', {}, this.mark(value > 0, value > 0 ? 'up' : 'down'));
    if (query.id === 'status') {
      return element('td', {}, this.mark(cells.trusted !== 0, cells.trusted === 0 ? value + ', not trusted' : value));
    }
    if (query.unit.startsWith('label:')) return element('td', {}, value);
    if (query.limit && cells[query.limit] > 0) {
      const share = Math.min(1, value / cells[query.limit]);
      const level = share > 0.8 ? 'high' : '';
      return element('td', { class: 'num' }, element('span', { class: 'gauge ' + level, title: `limit ${formatText(cells[query.limit], query.unit)}` },
        element('i', { style: `width:${(share * 100).toFixed(1)}%` })), number(value, query.unit));
    }
    return element('td', { class: 'num' + (isBad(query.bad, value, null, null) ? ' bad' : '') }, number(value, query.unit));
  }

  mark(good, text) {
    return element('span', { class: 'state ' + (good ? 'good' : 'bad') }, text);
  }
}

class TablePanel extends Panel {
  async show(time, variables) {
    const rows = await columns(this.panel, (labels) => this.panel.rows.map((name) => labels[name]).join('/'),
      (query) => this.ask(query, variables, time));
    if (rows.length === 0) return this.say('empty', NOTHING);
    const order = ['capture', 'apply', 'commit', 'abort'];
    rows.sort((a, b) => order.indexOf(a.labels.phase) - order.indexOf(b.labels.phase) || b.labels.side.localeCompare(a.labels.side));
    this.body.replaceChildren(element('div', { class: 'scroll' }, element('table', {},
      element('thead', {}, element('tr', {}, this.panel.rows.map((name) => element('th', { scope: 'col' }, name[0].toUpperCase() + name.slice(1))),
        this.panel.queries.map((query) => element('th', { scope: 'col', class: 'num' }, query.title)))),
      element('tbody', {}, rows.map((row) => element('tr', {},
        this.panel.rows.map((name) => element('td', {}, row.labels[name])),
        this.panel.queries.map((query) => {
          const value = row.cells[query.id];
          const bad = isBad(query.bad, value === undefined ? null : value, null, null);
          return element('td', { class: 'num' + (bad ? ' bad' : '') }, number(value, query.unit));
        })))))));
  }
}

class StepsPanel extends Panel {
  async show(time, variables) {
    const steps = await Promise.all(this.panel.queries.map(async (query) => {
      const [one] = await this.ask(query, variables, time);
      return { lane: query.lane, name: query.legend, color: query.color, value: one && Number.isFinite(one.value) ? Math.max(0, one.value) : 0 };
    }));
    const total = steps.reduce((sum, step) => sum + step.value, 0);
    if (!(total > 0)) return this.say('empty', this.panel.empty || NOTHING);
    let before = 0;
    for (const step of steps) {
      step.from = before;
      before += step.value;
    }
    const lanes = [...new Set(steps.map((step) => step.lane))];
    this.body.replaceChildren(
      element('div', { class: 'lanes', role: 'img', 'aria-label': `In all ${formatText(total, 's')}` },
        lanes.map((lane) => this.lane(lane, steps.filter((step) => step.lane === lane), total))),
      element('p', { class: 'caption' }, element('b', {}, number(total, 's')), ' in all'));
  }

  lane(name, steps, total) {
    const percent = (value) => (value / total * 100).toFixed(2) + '%';
    const sum = steps.reduce((all, step) => all + step.value, 0);
    return element('div', { class: 'lane' },
      element('div', { class: 'lane-name' }, element('span', {}, name), element('b', {}, number(sum, 's'))),
      element('div', { class: 'track' }, steps.map((step) =>
        element('i', { class: `c${step.color}`, style: `left:${percent(step.from)};width:${percent(step.value)}`,
          title: `${step.name}: ${formatText(step.value, 's')}` }))),
      element('ul', { class: 'lane-steps' }, steps.map((step) => element('li', { class: step.value === 0 ? 'zero' : '' },
        element('i', { class: `swatch c${step.color}` }), element('span', { class: 'name' }, step.name),
        element('b', {}, number(step.value, 's'))))));
  }
}

const PANELS = { stat: StatPanel, graph: GraphPanel, distribution: DistributionPanel, hosts: HostsPanel, table: TablePanel, steps: StepsPanel };
