// Axes: from values to pixels, and where the ticks are.

const TIME_STEPS = [10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800];

function niceStep(span, count) {
  const raw = span / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const lead = raw / power;
  return (lead <= 1 ? 1 : lead <= 2 ? 2 : lead <= 5 ? 5 : 10) * power;
}

// Values from 0, or below where there are negative ones, to a round number.
function linearScale(low, high, unit) {
  const bottom = Math.min(0, low);
  let top = Math.max(0, high);
  if (unit === 'count') top = Math.max(top, 1);
  if (top === bottom) top = bottom + (unit === 's' || unit === 'ratio' ? 1e-6 : 1);
  const base = unit === 's' ? timeUnit(Math.max(top, -bottom)).size : unit === 'ratio' ? 1e-6 : 1;
  let step = niceStep((top - bottom) / base, 4) * base;
  if (unit === 'count') step = Math.max(1, step);
  const from = Math.floor(bottom / step + 1e-9) * step;
  const to = Math.ceil(top / step - 1e-9) * step;
  const ticks = [];
  for (let i = 0; from + i * step <= to + step / 2; i++) ticks.push(from + i * step);
  const most = Math.max(to, -from);
  return { ticks, name: (tick) => formatTick(tick, unit, most), place: (value) => (value - from) / (to - from) };
}

function logScale(low, high, unit) {
  const from = Math.floor(Math.log10(low) + 1e-9);
  const to = Math.max(from + 1, Math.ceil(Math.log10(high) - 1e-9));
  const every = Math.max(1, Math.ceil((to - from) / 4));
  const ticks = [];
  for (let power = from; power <= to; power += every) ticks.push(10 ** power);
  return { ticks, name: (tick) => formatText(tick, unit), place: (value) => (Math.log10(Math.max(value, 10 ** from)) - from) / (to - from) };
}

// In local time, as many as have room.
function timeTicks(startMs, endMs, count) {
  const step = (TIME_STEPS.find((one) => (endMs - startMs) / 1000 / one <= count) || 604800) * 1000;
  const shift = new Date(startMs).getTimezoneOffset() * 60000;
  const ticks = [];
  for (let at = Math.ceil((startMs - shift) / step) * step + shift; at <= endMs; at += step) ticks.push(at);
  return { ticks, withDate: step >= 86400000, withSeconds: step < 60000 };
}
