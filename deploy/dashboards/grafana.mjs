// The views as Grafana dashboards.
import * as bargauge from '@grafana/grafana-foundation-sdk/bargauge';
import * as common from '@grafana/grafana-foundation-sdk/common';
import * as dashboard from '@grafana/grafana-foundation-sdk/dashboard';
import * as heatmap from '@grafana/grafana-foundation-sdk/heatmap';
import * as prometheus from '@grafana/grafana-foundation-sdk/prometheus';
import * as stat from '@grafana/grafana-foundation-sdk/stat';
import * as table from '@grafana/grafana-foundation-sdk/table';
import * as timeseries from '@grafana/grafana-foundation-sdk/timeseries';
import { FIRING, JOB } from './views.mjs';

const DATASOURCE = { type: 'prometheus', uid: '${datasource}' };
const UNITS = { s: 's', 'per-s': 'ops', ratio: 'percentunit', count: 'short', ticks: 'short' };
const WIDTH = 24;

const legend = (text) => (text || '').replace(/\{(\w+)\}/g, '{{$1}}');

function target(query, index, { instant = false, format } = {}) {
  const built = new prometheus.DataqueryBuilder().expr(query.expr).refId(String.fromCharCode(65 + index))
    .legendFormat(legend(query.legend ?? query.title));
  if (instant) built.instant();
  if (format) built.format(format);
  return built;
}

function fixed(byName, properties) {
  return { matcher: { id: byName.id, options: byName.options }, properties };
}

const ofQuery = (index) => ({ id: 'byFrameRefID', options: String.fromCharCode(65 + index) });

// What the console pages say in words, Grafana says with thresholds: green needs no saying.
function thresholds(rule) {
  const steps = { 'above-zero': [[null, 'text'], [0.5, 'red']], zero: [[null, 'red'], [0.5, 'text']] }[rule] || [[null, 'text']];
  return new dashboard.ThresholdsConfigBuilder().mode(dashboard.ThresholdsMode.Absolute)
    .steps(steps.map(([value, color]) => ({ value, color })));
}

function mappings(unit) {
  const words = { trusted: ['not trusted', 'trusted'], usable: ['not usable', 'usable'], up: ['down', 'up'] }[unit];
  if (!words) return [];
  return [{ type: dashboard.MappingType.ValueToText, options: { 0: { text: words[0], color: 'red' }, 1: { text: words[1] } } }];
}

function finish(builder, panel, size) {
  builder.title(panel.title).datasource(DATASOURCE).span(size.span).height(size.height);
  if (panel.help) builder.description(panel.help);
  return builder;
}

const builders = {
  stat(panel, size) {
    const queries = panel.queries.filter((query) => !query.spark);
    const builder = finish(new stat.PanelBuilder(), panel, size).unit(UNITS[panel.unit] || 'none')
      .colorMode(common.BigValueColorMode.Value).graphMode(panel.nospark ? common.BigValueGraphMode.None : common.BigValueGraphMode.Area)
      .reduceOptions(new common.ReduceDataOptionsBuilder().calcs(['lastNotNull']))
      .thresholds(thresholds(panel.bad)).mappings(mappings(panel.unit));
    queries.forEach((query, i) => builder.withTarget(target({ ...query,
      legend: query.of ? 'of' : query.limit ? 'limit' : queries.length > 1 ? 'now' : panel.title }, i)));
    return builder;
  },
  graph(panel, size) {
    const builder = finish(new timeseries.PanelBuilder(), panel, size).unit(UNITS[panel.unit] || 'none').lineWidth(1).fillOpacity(6)
      .showPoints(common.VisibilityMode.Never).tooltip(new common.VizTooltipOptionsBuilder().mode(common.TooltipDisplayMode.Multi))
      .legend(new common.VizLegendOptionsBuilder().showLegend(true).displayMode(common.LegendDisplayMode.List)
        .placement(common.LegendPlacement.Bottom).calcs([]));
    if (panel.scale === 'log') {
      builder.scaleDistribution(new common.ScaleDistributionConfigBuilder().type(common.ScaleDistribution.Log).log(10));
    }
    panel.queries.forEach((query, i) => builder.withTarget(target(query, i)));
    const limits = panel.queries.flatMap((query, i) => (query.limit ? [i] : []));
    builder.overrides(limits.map((i) => fixed(ofQuery(i), [
      { id: 'custom.lineStyle', value: { fill: 'dash', dash: [4, 6] } }, { id: 'custom.fillOpacity', value: 0 },
      { id: 'color', value: { mode: 'fixed', fixedColor: 'text' } }])));
    return builder;
  },
  steps(panel, size) {
    const builder = finish(new bargauge.PanelBuilder(), panel, size).unit('s').orientation(common.VizOrientation.Horizontal)
      .displayMode(common.BarGaugeDisplayMode.Basic).showUnfilled(false).min(0)
      .colorScheme(new dashboard.FieldColorBuilder().mode('palette-classic'))
      .reduceOptions(new common.ReduceDataOptionsBuilder().calcs(['lastNotNull']));
    panel.queries.forEach((query, i) => builder.withTarget(target({ ...query, legend: `${query.lane}: ${query.legend}` }, i, { instant: true })));
    return builder;
  },
  distribution(panel, size) {
    const builder = finish(new bargauge.PanelBuilder(), panel, size).unit('short').orientation(common.VizOrientation.Vertical)
      .displayMode(common.BarGaugeDisplayMode.Basic).min(0)
      .reduceOptions(new common.ReduceDataOptionsBuilder().calcs(['lastNotNull']));
    panel.queries.forEach((query, i) =>
      builder.withTarget(target({ ...query, legend: '{le}' }, i, { instant: true, format: prometheus.PromQueryFormat.Heatmap })));
    return builder;
  },
  hosts(panel, size) {
    return this.table({ ...panel, rows: ['instance'], queries: panel.queries }, size);
  },
  table(panel, size) {
    const builder = finish(new table.PanelBuilder(), panel, size);
    panel.queries.forEach((query, i) => builder.withTarget(target(query, i, { instant: true, format: prometheus.PromQueryFormat.Table })));
    const labels = panel.queries.flatMap((query) => (query.unit.startsWith('label:') ? [query.unit.slice(6)] : []));
    const shown = [...panel.rows, ...labels];
    builder.withTransformation({ id: 'filterFieldsByName', options: { include: { pattern: `^(${shown.join('|')}|Value.*)$` } } });
    builder.withTransformation({ id: 'merge', options: {} });
    const letters = panel.queries.map((_, i) => `Value #${String.fromCharCode(65 + i)}`);
    builder.withTransformation({ id: 'organize', options: {
      excludeByName: Object.fromEntries(panel.queries.flatMap((query, i) => (query.unit.startsWith('label:') ? [[letters[i], true]] : []))),
      renameByName: Object.fromEntries(panel.queries.map((query, i) =>
        (query.unit.startsWith('label:') ? [query.unit.slice(6), query.title] : [letters[i], query.title]))),
    } });
    const plain = panel.queries.filter((query) => !query.unit.startsWith('label:'));
    builder.overrides(plain.map((query) => fixed({ id: 'byName', options: query.title }, [
      { id: 'unit', value: UNITS[query.unit] || 'none' },
      ...(mappings(query.unit).length > 0 ? [{ id: 'mappings', value: mappings(query.unit) }] : []),
      ...(query.bad ? [{ id: 'thresholds', value: thresholds(query.bad).build() },
        { id: 'custom.cellOptions', value: { type: 'color-text' } }] : []),
    ])));
    return builder;
  },
};

function sizeOf(panel, count) {
  switch (panel.kind) {
    case 'stat': return { span: WIDTH / Math.min(count, 6), height: 5 };
    case 'hosts': case 'table': case 'steps': return { span: WIDTH, height: 9 };
    default: return { span: count === 3 ? 8 : count % 2 === 0 && count > 2 ? 6 : 12, height: 9 };
  }
}

function variables(builder, view) {
  builder.withVariable(new dashboard.DatasourceVariableBuilder('datasource').label('Data source').type('prometheus'));
  if (!view.variable) return;
  const variable = new dashboard.QueryVariableBuilder('instance').label('Host').datasource(DATASOURCE)
    .query(`label_values(up{job="${JOB}"}, instance)`).refresh(dashboard.VariableRefresh.OnTimeRangeChanged)
    .sort(dashboard.VariableSort.AlphabeticalAsc);
  if (view.all) variable.includeAll(true).allValue('.*');
  builder.withVariable(variable);
}

// Prometheus' own alerts; Grafana's list shows only Grafana's.
function alerts() {
  return new table.PanelBuilder().title('What is wrong').span(WIDTH).height(5).datasource(DATASOURCE).noValue('Nothing is wrong.')
    .withTarget(target({ expr: FIRING, legend: '' }, 0, { instant: true, format: prometheus.PromQueryFormat.Table }))
    .withTransformation({ id: 'filterFieldsByName', options: { include: { names: ['severity', 'alertname', 'instance'] } } });
}

export function grafanaDashboard(view, views) {
  const builder = new dashboard.DashboardBuilder(`tsc-handoff / ${view.title}`).uid(view.id).description(view.lead)
    .tags(['tsc-handoff']).refresh('10s').time({ from: 'now-1h', to: 'now' }).timezone('browser').readonly()
    .tooltip(dashboard.DashboardCursorSync.Crosshair);
  for (const other of views.filter((one) => one !== view)) {
    builder.link(new dashboard.DashboardLinkBuilder(other.title).type(dashboard.DashboardLinkType.Link)
      .url(`/d/${other.id}`).keepTime(true).includeVars(true));
  }
  variables(builder, view);
  for (const section of view.sections) {
    if (section.title) builder.withRow(new dashboard.RowBuilder(section.title));
    for (const panel of section.panels) builder.withPanel(builders[panel.kind](panel, sizeOf(panel, section.panels.length)));
    if (!section.title && view.id === 'tsc-fleet') builder.withPanel(alerts());
  }
  return builder.build();
}
