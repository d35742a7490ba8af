// Elements and SVG, without a framework.

function element(name, attributes, ...children) {
  return fillElement(document.createElement(name), attributes, children);
}

function svgElement(name, attributes, ...children) {
  return fillElement(document.createElementNS('http://www.w3.org/2000/svg', name), attributes, children);
}

function fillElement(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

// A number with its unit in smaller type.
function number(value, unit) {
  const parts = formatValue(value, unit);
  return [parts.text, parts.unit ? element('span', { class: 'unit' }, '\u2009' + parts.unit) : null];
}
