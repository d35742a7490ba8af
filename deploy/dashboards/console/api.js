// Prometheus' HTTP API, relative to the console page, so that it works behind any path prefix.

class ApiError extends Error {}

async function ask(path, parameters) {
  const url = '../api/v1/' + path + (parameters ? '?' + new URLSearchParams(parameters) : '');
  let answer;
  try {
    answer = await fetch(url, { cache: 'no-store' });
  } catch (error) {
    throw new ApiError('Prometheus does not answer.');
  }
  let body;
  try {
    body = await answer.json();
  } catch (error) {
    throw new ApiError('Prometheus answers with status ' + answer.status + '.');
  }
  if (body.status !== 'success') throw new ApiError(body.error || 'Prometheus refused the query.');
  return body.data;
}

// What stands for a time in queries, as Grafana has it.
function fillQuery(expr, time, variables) {
  const filled = expr.replaceAll('$__rate_interval', time.window + 's').replaceAll('$__range', time.range + 's');
  return filled.replaceAll('$instance', variables.instance || '');
}

// [{labels, value}]
async function queryNow(expr) {
  const data = await ask('query', { query: expr });
  return data.result.map((one) => ({ labels: one.metric, value: Number(one.value[1]) }));
}

// [{labels, points: [[ms, value], ...]}]; NaN is no value.
async function queryRange(expr, time) {
  const data = await ask('query_range', { query: expr, start: time.start, end: time.end, step: time.step });
  return data.result.map((one) => ({
    labels: one.metric,
    points: one.values.map(([at, value]) => [at * 1000, Number(value)]).filter(([, value]) => Number.isFinite(value)),
  })).filter((one) => one.points.length > 0);
}
