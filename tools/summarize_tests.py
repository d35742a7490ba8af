#!/usr/bin/env python3
"""Adds up what Bazel and pytest report about single test cases, for ./run test.

Bazel's build events say which targets were built and which tests ran, their XML files which cases these had. Both are
needed: a test that crashes, hangs or leaks after its last case has an XML file in which every case passed.

Prints the failures with their messages, the skips with their reasons, and as the last line `N passed, N failed`.
Exit status: 0 if something passed and nothing failed, else 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import sys
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from typing import Literal

MAX_MESSAGE_LINES = 15
LOG_LINES = 14

BAZEL_OK = 0
BAZEL_TESTS_FAILED = 3
BAZEL_NO_TESTS = 4

PYTEST_OK = 0
PYTEST_TESTS_FAILED = 1
PYTEST_NO_TESTS = 5


@dataclasses.dataclass(frozen=True)
class Case:
    """One test case, or something that went wrong outside of any and counts as a failed one."""

    name: str
    result: Literal["passed", "failed", "skipped"]
    message: str = ""


def failed(name: str, message: str) -> Case:
    return Case(name, "failed", message)


def cases_of_junit(path: pathlib.Path, prefix: str = "") -> list[Case]:
    """The cases of a JUnit XML file as written by GoogleTest, pytest or Bazel. Raises OSError or ParseError."""
    cases = []
    for element in ElementTree.parse(path).getroot().iter("testcase"):
        parts = (element.get("classname", ""), element.get("name", ""))
        name = f"{prefix}{'.'.join(part for part in parts if part)}"
        problems = [child for child in element if child.tag in ("failure", "error")]
        skipped = element.find("skipped")
        if problems:
            cases.append(failed(name, "\n".join(_message_of(problem) for problem in problems)))
        elif skipped is not None:
            cases.append(Case(name, "skipped", _reason_of_skip(skipped) or "no reason given"))
        elif element.get("result") == "suppressed" or element.get("status") == "notrun":
            cases.append(Case(name, "skipped", "disabled in the source"))
        else:
            cases.append(Case(name, "passed"))
    return cases


def _message_of(element: ElementTree.Element) -> str:
    attribute = (element.get("message") or "").strip()
    text = (element.text or "").strip()
    # GoogleTest puts the same into both; pytest a summary into one and the traceback into the other.
    return text if attribute in text else f"{attribute}\n{text}".strip()


def _reason_of_skip(element: ElementTree.Element) -> str:
    """GoogleTest's message opens with a line that has the position in the source; the reason follows."""
    text = element.get("message") or element.text or ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    while len(lines) > 1 and _is_source_position(lines[0]):
        lines.pop(0)
    return lines[0] if lines else ""


def _is_source_position(line: str) -> bool:
    path, _, number = line.rpartition(":")
    return bool(path) and number.isdigit() and " " not in path


def cases_of_bazel(events: Iterable[dict], status: int, allow_empty: bool = False) -> list[Case]:
    """The cases of one `bazel test`, from its build events and its exit status."""
    runs: dict[tuple[str, int, int], dict] = {}  # the last attempt of (label, run, shard)
    unbuilt: dict[str, str] = {}
    diagnostics: dict[str, str] = {}  # what the compiler said, by label
    for event in events:
        event_id = event.get("id", {})
        if "testResult" in event_id and "testResult" in event:
            key = event_id["testResult"]
            runs[(key["label"], key.get("run", 0), key.get("shard", 0))] = event["testResult"]
        elif "actionCompleted" in event_id and "stderr" in event.get("action", {}):
            diagnostics[event_id["actionCompleted"].get("label", "")] = _read_uri(event["action"]["stderr"]["uri"])
        elif "targetCompleted" in event_id:
            label = event_id["targetCompleted"]["label"]
            if not event.get("completed", {}).get("success", False):
                unbuilt[label] = _build_failure(event)
    cases = [failed(label, diagnostics.get(label) or message) for label, message in sorted(unbuilt.items())
             if not any(label == key[0] for key in runs)]
    for (label, _, _), result in sorted(runs.items()):
        cases.extend(_cases_of_target(label, result, allow_empty))
    if status not in (BAZEL_OK, BAZEL_TESTS_FAILED, BAZEL_NO_TESTS) and not any(c.result == "failed" for c in cases):
        cases.append(failed("bazel", f"exit status {status}; its messages are above"))
    if status == BAZEL_TESTS_FAILED and not any(c.result == "failed" for c in cases):
        cases.append(failed("bazel", "says that tests failed, but reports no result of them; its messages are above"))
    return cases


def _build_failure(event: dict) -> str:
    detail = event.get("completed", {}).get("failureDetail", {}).get("message", "")
    detail = detail or event.get("aborted", {}).get("description", "")
    first_line = detail.partition("\n")[0]
    return f"could not be built: {first_line or 'the messages above say why'}"


def _read_uri(uri: str) -> str:
    try:
        return _path_of_uri(uri).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _cases_of_target(label: str, result: dict, allow_empty: bool) -> list[Case]:
    """The cases of one test binary. There is at least one, unless a filter may have left none."""
    status = result.get("status", "NO_STATUS")
    outputs = {output.get("name"): output.get("uri", "") for output in result.get("testActionOutput", [])}
    cases: list[Case] = []
    trouble = ""
    try:
        cases = cases_of_junit(_path_of_uri(outputs["test.xml"]), prefix=f"{label} ")
    except KeyError:
        trouble = "it wrote no XML file with results"
    except (OSError, ElementTree.ParseError) as error:
        trouble = f"its XML file with results cannot be read: {error}"
    if status != "PASSED" and not any(case.result == "failed" for case in cases):
        cases.append(failed(label, ""))  # crash, hang or a sanitizer's finding after the last case
    if status != "PASSED":
        log = _read_uri(outputs.get("test.log", "")).splitlines()[-LOG_LINES:]
        return [_with_log(case, status, log) if case.result == "failed" else case for case in cases]
    if trouble:
        return cases + [failed(label, trouble)]
    if not cases and not allow_empty:
        return [failed(label, "it passed, but ran no test case")]
    return cases


def _with_log(case: Case, status: str, log: Sequence[str]) -> Case:
    """Explains a failure that is the program's and no test case's; Bazel's own XML file says only the exit status."""
    if case.message and not case.message.startswith("exited with error code"):
        return case
    message = "timed out" if status == "TIMEOUT" else f"{status} outside of any test case"
    if case.message:
        message += f" ({case.message})"
    return dataclasses.replace(case, message="\n".join([f"{message}; the end of its log:", *log]))


def _path_of_uri(uri: str) -> pathlib.Path:
    return pathlib.Path(urllib.request.url2pathname(urllib.parse.urlparse(uri).path))


def cases_of_pytest(path: pathlib.Path, status: int) -> list[Case]:
    """The cases of one pytest run, from its JUnit file and its exit status."""
    cases: list[Case] = []
    try:
        cases = cases_of_junit(path)
    except (OSError, ElementTree.ParseError) as error:
        return [failed("pytest", f"exit status {status} and no readable results: {error}")]
    if status not in (PYTEST_OK, PYTEST_NO_TESTS) and not any(case.result == "failed" for case in cases):
        cases.append(failed("pytest", f"exit status {status} without a failed case; its messages are above"))
    return cases


def read_events(path: pathlib.Path) -> list[dict]:
    """Bazel's events, one JSON object a line. A last line cut off by a crash of Bazel is left out."""
    events = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return events


def render(cases: Sequence[Case]) -> str:
    """The summary's text. Its last line is `N passed, N failed`."""
    lines = []
    failures = [case for case in cases if case.result == "failed"]
    skips = [case for case in cases if case.result == "skipped"]
    if failures:
        lines.append(f"{len(failures)} failed:")
        for case in failures:
            lines.append(f"  {case.name}")
            message = case.message.splitlines() or ["no message"]
            lines.extend(f"      {line}" for line in message[:MAX_MESSAGE_LINES])
            if len(message) > MAX_MESSAGE_LINES:
                lines.append(f"      ({len(message) - MAX_MESSAGE_LINES} more lines above)")
    if skips:
        lines.append(f"{len(skips)} skipped:")
        lines.extend(f"  {case.name}: {case.message}" for case in skips)
    passed = sum(case.result == "passed" for case in cases)
    if not passed and not failures:
        lines.append("No test case was run.")
    lines.append(f"{passed} passed, {len(failures)} failed")
    return "\n".join(lines)


def collect(args: argparse.Namespace) -> list[Case]:
    cases: list[Case] = []
    if args.bazel_events:
        try:
            events = read_events(args.bazel_events)
        except OSError as error:
            cases.append(failed("bazel", f"exit status {args.bazel_status} and no readable events: {error}"))
        else:
            cases.extend(cases_of_bazel(events, args.bazel_status, args.allow_empty))
    elif args.bazel_status != BAZEL_OK:
        cases.append(failed("bazel build", f"exit status {args.bazel_status}; its messages are above"))
    if args.junit:
        cases.extend(cases_of_pytest(args.junit, args.junit_status))
    cases.extend(failed(what, "not run, because the build failed") for what in args.not_run)
    return cases


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bazel-events", type=pathlib.Path, help="file of bazel test --build_event_json_file")
    parser.add_argument("--bazel-status", type=int, default=0, help="exit status of bazel")
    parser.add_argument("--junit", type=pathlib.Path, help="file of pytest --junitxml")
    parser.add_argument("--junit-status", type=int, default=0, help="exit status of pytest")
    parser.add_argument("--not-run", action="append", default=[], metavar="WHAT", help="a suite that was left out")
    parser.add_argument("--allow-empty", action="store_true", help="a filter may leave test binaries without a case")
    cases = collect(parser.parse_args(argv))
    sys.stdout.flush()
    print(render(cases), flush=True)
    has_passed = any(case.result == "passed" for case in cases)
    has_failed = any(case.result == "failed" for case in cases)
    return 0 if has_passed and not has_failed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
