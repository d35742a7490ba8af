"""What a runbook has somebody type."""

from __future__ import annotations

import re

from .prometheus import DEPLOY


def page(alert: str) -> str:
    return (DEPLOY / "runbooks" / f"{alert}.md").read_text()


def section(alert: str, name: str) -> str:
    """"Diagnosis" or "Remedy"."""
    found = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", page(alert), re.MULTILINE | re.DOTALL)
    assert found, f"{alert} has no section {name}"
    return found[1]


def typed(alert: str, name: str) -> list[str]:
    """The lines of a section's code blocks, as written, and then the commands in its text."""
    text = section(alert, name)
    lines = [line.strip() for line in re.findall(r"^ {6,}(\S.*)$", text, re.MULTILINE)]
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]
    return lines + [span for span in spans if re.match(r"(systemctl|chronyc|tscctl) \S+ ?\S*", span)]
