"""Metrics, rules, alerts, dashboards and runbooks, against the real Prometheus and a real browser."""
