// Graphs in SVG: lines over time, sparklines, bars of a histogram. They fill their element, and are drawn anew when its
// size changes.

const MOST_LINES = 10;
const SERIES_COLORS = 6;

function rem() {
  return parseFloat(getComputedStyle(document.documentElement).fontSize);
}

// Breaks a line where values are missing.
function linePath(points, x, y, gapMs) {
  let path = '';
  let last = null;
  for (const [at, value] of points) {
    const joins = last !== null && at - last <= gapMs;
    path += (joins ? 'L' : 'M') + x(at).toFixed(1) + ' ' + y(value).toFixed(1);
    if (!joins) path += 'h0.01';  // a lone point is seen, too
    last = at;
  }
  return path;
}

function sparkline(points, time, bad) {
  const width = 240;
  const height = 40;
  const values = points.map(([, value]) => value);
  const low = Math.min(...values, 0);
  const high = Math.max(...values);
  const span = high - low || 1;
  const x = (at) => (at - time.start * 1000) / ((time.end - time.start) * 1000) * width;
  const y = (value) => height - 2 - (high === low ? 0.5 : (value - low) / span) * (height - 4);
  const path = linePath(points, x, y, time.step * 2500);
  return svgElement('svg', { class: 'spark' + (bad ? ' bad' : ''), viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: 'none', 'aria-hidden': true },
    svgElement('path', { d: path, class: 'spark-line', 'vector-effect': 'non-scaling-stroke' }));
}

// All graphs of a page show the same instant under the pointer.
const hoverListeners = new Set();
function hoverAt(ms) {
  for (const listener of hoverListeners) listener(ms);
}

class LineChart {
  constructor(node, panel) {
    this.node = node;
    this.panel = panel;
    new ResizeObserver(() => this.draw()).observe(node);
    hoverListeners.add((ms) => this.showAt(ms));
  }

  // series: [{name, points, limit}]
  update(series, time) {
    const byLast = (one) => one.points[one.points.length - 1][1];
    const lines = series.filter((one) => !one.limit).sort((a, b) => byLast(b) - byLast(a));
    this.hidden = Math.max(0, lines.length - MOST_LINES);
    const kept = lines.slice(0, MOST_LINES).sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }));
    kept.forEach((one, i) => { one.color = i % SERIES_COLORS; one.dashed = i >= SERIES_COLORS; });
    this.series = [...kept, ...series.filter((one) => one.limit)];
    this.time = time;
    this.draw();
  }

  scale() {
    const lines = this.series.filter((one) => !one.limit).flatMap((one) => one.points.map(([, value]) => value));
    const high = Math.max(...lines);
    // A limit far above would press all lines to the ground: it is named in the legend instead.
    const limits = this.series.filter((one) => one.limit).map((one) => one.points[one.points.length - 1][1]);
    const near = limits.filter((limit) => limit <= high * 8);
    if (this.panel.scale === 'log') {
      const positive = lines.filter((value) => value > 0);
      if (positive.length > 0) return logScale(Math.min(...positive), Math.max(...positive, ...near), this.panel.unit);
    }
    return linearScale(Math.min(...lines), Math.max(high, ...near), this.panel.unit);
  }

  draw() {
    const width = this.node.clientWidth;
    if (!this.series || width === 0) return;
    const em = rem();
    const box = { left: 4.4 * em, right: width - 0.3 * em, top: 0.5 * em, bottom: 11.2 * em };
    const startMs = this.time.start * 1000;
    const endMs = this.time.end * 1000;
    const scale = this.scale();
    this.x = (at) => box.left + (at - startMs) / (endMs - startMs) * (box.right - box.left);
    this.y = (value) => box.bottom - scale.place(value) * (box.bottom - box.top);
    this.box = box;
    const svg = svgElement('svg', { width, height: 13 * em, class: 'plot', role: 'img', 'aria-label': this.inWords() });
    this.drawAxes(svg, scale, startMs, endMs, em);
    for (const one of this.series) this.drawLine(svg, one);
    this.cursor = svgElement('g', { class: 'cursor' });
    svg.append(this.cursor);
    svg.addEventListener('pointermove', (event) => {
      const at = startMs + (event.offsetX - box.left) / (box.right - box.left) * (endMs - startMs);
      hoverAt(at >= startMs && at <= endMs ? at : null);
    });
    svg.addEventListener('pointerleave', () => hoverAt(null));
    this.legend = element('ul', { class: 'legend' });
    this.node.replaceChildren(svg, this.legend);
    this.showAt(null);
  }

  drawAxes(svg, scale, startMs, endMs, em) {
    const { left, right, bottom } = this.box;
    for (const tick of scale.ticks) {
      const y = this.y(tick);
      svg.append(
        svgElement('line', { x1: left, x2: right, y1: y, y2: y, class: tick === 0 ? 'axis' : 'grid' }),
        svgElement('text', { x: left - 0.6 * em, y: y + 0.28 * em, class: 'tick y' }, scale.name(tick)));
    }
    const { ticks, withDate, withSeconds } = timeTicks(startMs, endMs, (right - left) / (5.5 * em));
    for (const tick of ticks) {
      const x = this.x(tick);
      if (x < left + em || x > right - 1.4 * em) continue;
      const text = withDate ? new Date(tick).toLocaleDateString('en-GB', { day: 'numeric', month: 'short' }) : clockTime(tick, withSeconds);
      svg.append(svgElement('text', { x, y: bottom + 1.3 * em, class: 'tick x' }, text));
    }
  }

  drawLine(svg, one) {
    const gap = this.time.step * 2500;
    const path = linePath(one.points, this.x, (value) => Math.max(this.y(value), this.box.top - 1), gap);
    if (one.limit) {
      const last = one.points[one.points.length - 1][1];
      if (this.y(last) < this.box.top - 1) return;
    }
    const only = this.series.filter((other) => !other.limit).length === 1;
    if (only && !one.limit && this.panel.scale !== 'log') {
      const first = this.x(one.points[0][0]).toFixed(1);
      const end = this.x(one.points[one.points.length - 1][0]).toFixed(1);
      const ground = this.y(0).toFixed(1);
      // Only where nothing is missing: an area must not bridge a gap.
      if (!path.slice(1).includes('M')) svg.append(svgElement('path', { d: `${path}L${end} ${ground}L${first} ${ground}Z`, class: 'area' }));
    }
    svg.append(svgElement('path', { d: path, class: one.limit ? 'line limit' : `line c${one.color}${one.dashed ? ' dashed' : ''}` }));
  }

  inWords() {
    const parts = this.series.map((one) => `${one.name} ${formatText(one.points[one.points.length - 1][1], this.panel.unit)}`);
    return `${this.panel.title}: ${parts.join(', ')}`;
  }

  // The values at a moment, or the last ones, in the legend.
  showAt(ms) {
    if (!this.cursor || !this.legend) return;
    this.cursor.replaceChildren();
    if (ms !== null) {
      const x = this.x(ms);
      this.cursor.append(
        svgElement('line', { x1: x, x2: x, y1: this.box.top, y2: this.box.bottom }),
        svgElement('text', { x: Math.min(Math.max(x, this.box.left + 24), this.box.right - 24), y: this.box.top + 8 }, clockTime(ms, true)));
    }
    const items = this.series.map((one) => this.legendItem(one, ms));
    if (this.hidden > 0) items.push(element('li', { class: 'more' }, `and ${this.hidden} lower`));
    this.legend.replaceChildren(...items);
  }

  legendItem(one, ms) {
    let point = one.points[one.points.length - 1];
    if (ms === null) {
      if (point[0] < this.time.end * 1000 - this.time.step * 2500) point = [point[0], NaN];  // it ended
    } else {
      point = one.points.reduce((best, next) => (Math.abs(next[0] - ms) < Math.abs(best[0] - ms) ? next : best));
      if (Math.abs(point[0] - ms) > this.time.step * 2500) point = [ms, NaN];
      else if (!one.limit && this.y(point[1]) >= this.box.top - 1) {
        this.cursor.append(svgElement('circle', { cx: this.x(point[0]), cy: this.y(point[1]), r: 3, class: `dot c${one.color}` }));
      }
    }
    const swatch = one.limit ? 'swatch limit' : `swatch c${one.color}${one.dashed ? ' dashed' : ''}`;
    return element('li', {}, element('i', { class: swatch }), element('span', { class: 'name' }, one.name),
      element('b', {}, number(point[1], this.panel.unit)));
  }
}

// buckets: [{to, count}], not cumulative, in order; the last one's `to` is Infinity.
function distribution(node, buckets, unit) {
  const total = buckets.reduce((sum, one) => sum + one.count, 0);
  let first = buckets.findIndex((one) => one.count > 0);
  let last = buckets.length - 1 - [...buckets].reverse().findIndex((one) => one.count > 0);
  // A lonely bar says nothing without its neighbours.
  first = Math.max(0, first - 1);
  last = Math.min(buckets.length - 1, Math.max(last + 1, first + 6));
  const shown = buckets.slice(first, last + 1);
  const most = Math.max(...shown.map((one) => one.count));
  let below = buckets.slice(0, first).reduce((sum, one) => sum + one.count, 0);
  // Every second edge is named where all would not have room.
  const named = (i) => shown.length <= 8 || (shown.length - 1 - i) % 2 === 0;
  const bars = shown.map((one, i) => {
    const holdsMiddle = below < total / 2 && below + one.count >= total / 2;
    below += one.count;
    const from = first + i === 0 ? 0 : buckets[first + i - 1].to;
    const range = one.to === Infinity ? `above ${formatText(from, unit)}` : `${formatText(from, unit)} to ${formatText(one.to, unit)}`;
    return element('div', { class: 'bar' + (holdsMiddle ? ' middle' : ''), title: `${range}: ${Math.round(one.count)}` },
      element('span', { class: 'count' }, one.count >= 0.5 ? digits(Math.round(one.count)) : ''),
      element('i', { style: `height:${(one.count / most * 100).toFixed(1)}%` }),
      element('span', { class: 'edge' }, !named(i) ? '' : one.to === Infinity ? 'more' : formatText(one.to, unit)));
  });
  node.replaceChildren(element('div', { class: 'bars', role: 'img', 'aria-label': `${Math.round(total)} in ${shown.length} buckets` }, bars));
}
