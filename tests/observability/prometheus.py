"""Debian's Prometheus, with this project's rules and console pages, for as long as a `with` block. Not thread-safe."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import subprocess
import tempfile
import threading
import time
import types
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"
JOB = "tsc-agent"
_START_LIMIT_S = 60.0
_LISTENING = re.compile(r'msg="Listening on" address=(\S+)')


class PrometheusError(RuntimeError):
    """Prometheus did not start, or refused a query; the text says why."""


def program(name: str) -> str:
    """prometheus or promtool: unpacked by ./run, or installed."""
    found = shutil.which(name) or shutil.which(name, path=str(ROOT / ".cache/unpacked/usr/bin"))
    if found is None:
        raise PrometheusError(f"{name} is not there: ./run deps test gets it")
    return found


def wait_for(condition: Callable[[], Any], what: str, timeout: float = 60.0) -> Any:
    """What `condition` returns once that is true."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        pause.wait(0.2)


class Prometheus:
    """Scrapes `targets` ("instance" -> HOST:PORT) every second, which is also how long an answer may take, unless `interval`
    says otherwise, and evaluates as often; the rules' windows and their `for` are those that are delivered."""

    def __init__(self, targets: Mapping[str, str], *, rules: bool = True, interval: str = "1s") -> None:
        self._targets = dict(targets)
        self._rules = rules
        self._interval = interval
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def __enter__(self) -> Prometheus:
        self._directory = tempfile.TemporaryDirectory(prefix="tsc-prometheus-")
        directory = pathlib.Path(self._directory.name)
        self._log = directory / "log"
        config = {
            "global": {"scrape_interval": self._interval, "evaluation_interval": self._interval, "scrape_timeout": self._interval},
            "rule_files": [str(DEPLOY / "prometheus" / name) for name in ("tsc-handoff.rules.yml", "tsc-handoff.alerts.yml")]
            if self._rules else [],
            "scrape_configs": [{"job_name": JOB, "static_configs": [
                {"targets": [address], "labels": {"instance": instance}} for instance, address in self._targets.items()]}],
        }
        (directory / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [program("prometheus"), f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data",
                 "--web.listen-address=127.0.0.1:0", f"--web.console.templates={DEPLOY}/prometheus/consoles",
                 f"--web.console.libraries={DEPLOY}/prometheus/console_libraries"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_for(self._ready, "Prometheus starts", _START_LIMIT_S)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: types.TracebackType | None) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._directory.cleanup()

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def _ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise PrometheusError(f"Prometheus ended with status {self._process.returncode}:\n{self.log()[-3000:]}")
        found = _LISTENING.search(self.log())
        if not found:
            return False
        self.url = f"http://{found[1]}"
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, TimeoutError):
            return False

    def api(self, path: str, **parameters: str) -> Any:
        """The data that the HTTP API answers with."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                body = json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise PrometheusError(f"{path} {parameters}: {error.read().decode(errors='replace')}") from error
        return body["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        return list(self.api("query", query=expression)["result"])

    def query_range(self, expression: str, seconds: float) -> list[dict[str, Any]]:
        now = time.time()
        return list(self.api("query_range", query=expression, start=str(now - seconds), end=str(now), step="1")["result"])

    def firing(self) -> dict[str, dict[str, Any]]:
        """The alerts that fire, by name."""
        return {alert["labels"]["alertname"]: alert for alert in self.api("alerts")["alerts"] if alert["state"] == "firing"}
