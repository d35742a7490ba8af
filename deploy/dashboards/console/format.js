// Numbers for people: a value and its unit, so that pages can set the unit in a smaller type.

const THIN_SPACE = '\u2009';

const TIME_UNITS = [
  { name: 'd', size: 86400 }, { name: 'h', size: 3600 }, { name: 'min', size: 60 }, { name: 's', size: 1 },
  { name: 'ms', size: 1e-3 }, { name: '\u00b5s', size: 1e-6 }, { name: 'ns', size: 1e-9 },
];

// Three significant digits, thousands apart.
function digits(value) {
  const size = Math.abs(value);
  if (size !== 0 && size < 0.001) return value.toExponential(1);
  const whole = Math.abs(value - Math.round(value)) <= 1e-6 * size;
  const places = size >= 100 || whole ? 0 : size >= 10 ? 1 : 2;
  const [left, part] = value.toFixed(places).split('.');
  const grouped = left.replace(/\B(?=(\d{3})+$)/g, THIN_SPACE);
  return (part ? grouped + '.' + part : grouped).replace('-', '\u2212');
}

// The unit in which a time of this size is read most easily.
function timeUnit(seconds) {
  const size = Math.abs(seconds);
  if (size === 0) return TIME_UNITS[3];
  return TIME_UNITS.find((unit) => size >= unit.size * 0.9995) || TIME_UNITS[TIME_UNITS.length - 1];
}

function formatValue(value, unit) {
  if (value === null || value === undefined || Number.isNaN(value)) return { text: '\u2013', unit: '' };
  switch (unit) {
    case 's': {
      const chosen = timeUnit(value);
      return { text: digits(value / chosen.size), unit: value === 0 ? 's' : chosen.name };
    }
    case 'per-s':
      return Math.abs(value) >= 0.1 || value === 0
        ? { text: digits(value), unit: '/s' } : { text: digits(value * 60), unit: '/min' };
    case 'ratio':
      return { text: digits(value * 1e6), unit: 'ppm' };
    case 'ticks':
      return { text: digits(value), unit: 'ticks' };
    case 'count':
      // increase() extrapolates: what is counted is whole.
      return { text: digits(Math.round(value)), unit: '' };
    case 'trusted':
      return { text: value > 0 ? 'trusted' : 'not trusted', unit: '' };
    case 'usable':
      return { text: value > 0 ? 'usable' : 'not usable', unit: '' };
    case 'up':
      return { text: value > 0 ? 'up' : 'down', unit: '' };
    default:
      return { text: digits(value), unit: '' };
  }
}

function formatText(value, unit) {
  const parts = formatValue(value, unit);
  return parts.unit ? parts.text + '\u00a0' + parts.unit : parts.text;
}

// All ticks of a linear axis in the unit of its top.
function formatTick(value, unit, top) {
  if (unit === 's') {
    const chosen = timeUnit(top);
    return digits(value / chosen.size) + '\u00a0' + chosen.name;
  }
  if (unit === 'per-s') return top >= 0.1 ? digits(value) + '\u00a0/s' : digits(value * 60) + '\u00a0/min';
  return formatText(value, unit);
}

// 'Legend {label}' with the series' own labels.
function fillLegend(legend, labels) {
  return legend.replace(/\{(\w+)\}/g, (_, name) => labels[name] || '?');
}

function clockTime(ms, withSeconds) {
  const options = { hour: '2-digit', minute: '2-digit', hour12: false };
  if (withSeconds) options.second = '2-digit';
  return new Date(ms).toLocaleTimeString('en-GB', options);
}

function sinceText(ms, nowMs) {
  const seconds = Math.max(0, (nowMs - ms) / 1000);
  if (seconds < 60) return 'just now';
  const unit = timeUnit(seconds);
  return 'for ' + Math.floor(seconds / unit.size) + '\u00a0' + unit.name;
}
