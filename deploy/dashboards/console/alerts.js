// What is wrong, at the top of every page: the alerts that fire, the worst first.

const MOST_ALERTS = 5;

class AlertsBand {
  constructor(node) {
    this.node = node;
  }

  async refresh(instance) {
    let alerts;
    let rules;
    try {
      [{ alerts }, { groups: rules }] = await Promise.all([ask('alerts'), ask('rules', { type: 'alert' })]);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      return this.say('critical', error.message, 'What stands below may be old. Trying again.');
    }
    const ours = rules.flatMap((group) => group.rules).filter((rule) => rule.name.startsWith('Tsc'));
    if (ours.length === 0) {
      return this.say('warning', 'The alert rules are not loaded.', 'Nobody is told when something goes wrong: add tsc-handoff.alerts.yml to rule_files.');
    }
    const firing = alerts.filter((alert) => alert.state === 'firing' && alert.labels.alertname.startsWith('Tsc'))
      .filter((alert) => !instance || !alert.labels.instance || alert.labels.instance === instance)
      .sort((a, b) => a.labels.severity.localeCompare(b.labels.severity) || new Date(a.activeAt) - new Date(b.activeAt));
    const pending = alerts.filter((alert) => alert.state === 'pending' && alert.labels.alertname.startsWith('Tsc')).length;
    if (firing.length === 0) return this.quiet(ours.length, pending);
    document.title = `(${firing.length}) ${document.title.replace(/^\(\d+\) /, '')}`;
    const more = firing.length - MOST_ALERTS;
    this.node.replaceChildren(element('ul', { class: 'alerts' }, firing.slice(0, MOST_ALERTS).map((alert) => this.alert(alert)),
      more > 0 ? element('li', {}, element('a', { href: '../alerts' }, `and ${more} more`)) : null));
  }

  alert(alert) {
    return element('li', { class: alert.labels.severity },
      element('span', { class: 'severity' }, alert.labels.severity),
      element('div', {}, element('b', {}, alert.annotations.summary), element('p', {}, alert.annotations.description)),
      element('time', {}, sinceText(new Date(alert.activeAt).getTime(), Date.now())),
      element('a', { href: `tsc-runbook-${alert.labels.alertname}.html` }, 'Runbook'));
  }

  quiet(count, pending) {
    document.title = document.title.replace(/^\(\d+\) /, '');
    const text = pending > 0 ? `${pending} of ${count} alerts may fire soon.` : `None of ${count} alerts fires.`;
    this.node.replaceChildren(element('p', { class: 'quiet' }, element('b', {}, pending > 0 ? 'Nothing is wrong yet.' : 'Nothing is wrong.'), ' ' + text));
  }

  say(severity, title, text) {
    this.node.replaceChildren(element('ul', { class: 'alerts' }, element('li', { class: severity },
      element('span', { class: 'severity' }, severity), element('div', {}, element('b', {}, title), element('p', {}, text)))));
  }
}
