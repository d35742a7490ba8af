"""Tests of summarize_tests: what must count as a failure does, and the last line is the one that callers parse."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).with_name("summarize_tests.py")

GTEST_MIXED = """<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="4" failures="1" disabled="1" errors="0" name="AllTests">
  <testsuite name="Phase" tests="4" failures="1" disabled="1" skipped="1" errors="0">
    <testcase name="IsExact" status="run" result="completed" time="0" classname="Phase" />
    <testcase name="IsKept" status="run" result="completed" time="0" classname="Phase">
      <failure message="a_test.cc:7&#x0A;Expected 1" type=""><![CDATA[a_test.cc:7
Expected 1]]></failure>
    </testcase>
    <testcase name="NeedsKvm" status="run" result="skipped" time="0" classname="Phase">
      <skipped message="a_test.cc:9&#x0A;no /dev/kvm here&#x0A;"><![CDATA[a_test.cc:9
no /dev/kvm here
]]></skipped>
    </testcase>
    <testcase name="DISABLED_Old" status="notrun" result="suppressed" time="0" classname="Phase" />
  </testsuite>
</testsuites>
"""

GTEST_PASSED = """<testsuites><testsuite name="T">
  <testcase name="One" status="run" result="completed" classname="T" />
  <testcase name="Two" status="run" result="completed" classname="T" />
</testsuite></testsuites>
"""

GTEST_EMPTY = '<testsuites tests="0" failures="0" name="AllTests"></testsuites>'

PYTEST_MIXED = """<testsuites><testsuite name="pytest" errors="1" failures="1" skipped="1" tests="4">
  <testcase classname="tests.cluster.a_test" name="test_ok" time="1.5" />
  <testcase classname="tests.cluster.a_test" name="test_bad" time="0.1">
    <failure message="assert 1 == 2">def test_bad(): ...</failure></testcase>
  <testcase classname="tests.cluster.a_test" name="test_setup" time="0.1">
    <error message="failed on setup">qemu is missing</error></testcase>
  <testcase classname="tests.cluster.a_test" name="test_skip" time="0.1">
    <skipped type="pytest.skip" message="no chronyd">a_test.py:3: no chronyd</skipped></testcase>
</testsuite></testsuites>
"""


class Bazel:
    """Writes the files that `bazel test` would leave."""

    def __init__(self, directory: pathlib.Path) -> None:
        self._directory = directory
        self._events: list[dict] = []
        self.path = directory / "events.json"

    def ran(self, label: str, status: str, xml: str | None, log: str = "") -> None:
        outputs = []
        if log:
            path = self._directory / f"{len(self._events)} test.log"
            path.write_text(log)
            outputs.append({"name": "test.log", "uri": path.as_uri()})
        if xml is not None:
            path = self._directory / f"{len(self._events)} test.xml"  # a space, to be quoted in the URI
            path.write_text(xml)
            outputs.append({"name": "test.xml", "uri": path.as_uri()})
        self._events.append({"id": {"targetCompleted": {"label": label}}, "completed": {"success": True}})
        self._events.append({"id": {"testResult": {"label": label, "run": 1, "shard": 0, "attempt": 1}},
                             "testResult": {"status": status, "testActionOutput": outputs}})

    def not_built(self, label: str, stderr: str = "") -> None:
        if stderr:
            path = self._directory / f"{len(self._events)} stderr"
            path.write_text(stderr)
            self._events.append({"id": {"actionCompleted": {"label": label}},
                                 "action": {"stderr": {"name": "stderr", "uri": path.as_uri()}}})
        self._events.append({"id": {"targetCompleted": {"label": label}},
                             "completed": {"failureDetail": {"message": "compiling failed"}}})

    def write(self) -> pathlib.Path:
        self.path.write_text("".join(json.dumps(event) + "\n" for event in self._events))
        return self.path


@pytest.fixture
def bazel(tmp_path: pathlib.Path) -> Bazel:
    return Bazel(tmp_path)


def summarize(*args: object) -> tuple[int, list[str]]:
    done = subprocess.run([sys.executable, SCRIPT, *map(str, args)], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def test_cases_of_googletest_are_counted_one_by_one(bazel: Bazel) -> None:
    bazel.ran("//server:a_test", "FAILED", GTEST_MIXED)
    bazel.ran("//server:b_test", "PASSED", GTEST_PASSED)
    status, lines = summarize("--bazel-events", bazel.write(), "--bazel-status", 3)
    assert status == 1
    assert lines == [
        "1 failed:",
        "  //server:a_test Phase.IsKept",
        "      a_test.cc:7",
        "      Expected 1",
        "2 skipped:",
        "  //server:a_test Phase.NeedsKvm: no /dev/kvm here",
        "  //server:a_test Phase.DISABLED_Old: disabled in the source",
        "3 passed, 1 failed",
    ]


def test_all_passed_gives_status_0(bazel: Bazel) -> None:
    bazel.ran("//server:b_test", "PASSED", GTEST_PASSED)
    assert summarize("--bazel-events", bazel.write(), "--bazel-status", 0) == (0, ["2 passed, 0 failed"])


BAD_XML = {"no-xml": None, "xml-all-passed": GTEST_PASSED, "xml-cut-off": "<testsuites>", "xml-empty": ""}


@pytest.mark.parametrize("xml", BAD_XML.values(), ids=BAD_XML.keys())
@pytest.mark.parametrize("result", ["FAILED", "TIMEOUT", "REMOTE_FAILURE", "FAILED_TO_BUILD"])
def test_a_target_that_failed_outside_of_its_cases_counts_as_a_failed_case(
        bazel: Bazel, result: str, xml: str | None) -> None:
    bazel.ran("//server:leaky_test", result, xml)
    status, lines = summarize("--bazel-events", bazel.write(), "--bazel-status", 3)
    assert status == 1
    assert lines[1] == "  //server:leaky_test"
    assert ("timed out" if result == "TIMEOUT" else result) in lines[2]
    assert lines[-1] == f"{2 if xml == GTEST_PASSED else 0} passed, 1 failed"


@pytest.mark.parametrize("xml", [None, "<testsuites>", GTEST_EMPTY], ids=["no-xml", "xml-cut-off", "no-case"])
def test_a_target_that_passed_without_showing_a_case_counts_as_a_failed_case(bazel: Bazel, xml: str | None) -> None:
    bazel.ran("//server:empty_test", "PASSED", xml)
    status, lines = summarize("--bazel-events", bazel.write(), "--bazel-status", 0)
    assert (status, lines[-1]) == (1, "0 passed, 1 failed")


def test_with_a_filter_a_target_may_be_without_cases(bazel: Bazel) -> None:
    bazel.ran("//server:empty_test", "PASSED", GTEST_EMPTY)
    bazel.ran("//server:b_test", "PASSED", GTEST_PASSED)
    status, lines = summarize("--bazel-events", bazel.write(), "--allow-empty")
    assert (status, lines[-1]) == (0, "2 passed, 0 failed")


def test_a_target_that_was_not_built_counts_as_a_failed_case(bazel: Bazel) -> None:
    bazel.ran("//server:b_test", "PASSED", GTEST_PASSED)
    bazel.not_built("//server:broken_test")
    status, lines = summarize("--bazel-events", bazel.write(), "--bazel-status", 1)
    assert status == 1
    assert lines == ["1 failed:", "  //server:broken_test", "      could not be built: compiling failed",
                     "2 passed, 1 failed"]


def test_what_the_compiler_said_is_shown(bazel: Bazel) -> None:
    bazel.not_built("//server:broken_test", stderr="broken.cc:1: error: no x")
    _, lines = summarize("--bazel-events", bazel.write(), "--bazel-status", 1)
    assert lines == ["1 failed:", "  //server:broken_test", "      broken.cc:1: error: no x", "0 passed, 1 failed"]


def test_a_crash_is_shown_with_the_end_of_its_log(bazel: Bazel) -> None:
    xml = '<t><testcase name="server/a_test"><error message="exited with error code 134"/></testcase></t>'
    bazel.ran("//server:a_test", "FAILED", xml, log="[ RUN ] A.B\nterminate called\n")
    _, lines = summarize("--bazel-events", bazel.write(), "--bazel-status", 3)
    assert lines == ["1 failed:", "  //server:a_test server/a_test",
                     "      FAILED outside of any test case (exited with error code 134); the end of its log:",
                     "      [ RUN ] A.B", "      terminate called", "0 passed, 1 failed"]


@pytest.mark.parametrize("bazel_status", [1, 2, 3, 37])
def test_a_status_of_bazel_that_no_case_explains_counts_as_a_failed_case(bazel: Bazel, bazel_status: int) -> None:
    bazel.ran("//server:b_test", "PASSED", GTEST_PASSED)
    status, lines = summarize("--bazel-events", bazel.write(), "--bazel-status", bazel_status)
    assert (status, lines[-1]) == (1, "2 passed, 1 failed")


def test_only_the_last_attempt_of_a_test_counts(bazel: Bazel) -> None:
    bazel.ran("//server:a_test", "FAILED", GTEST_MIXED)
    bazel.ran("//server:a_test", "PASSED", GTEST_PASSED)
    status, lines = summarize("--bazel-events", bazel.write())
    assert (status, lines[-1]) == (0, "2 passed, 0 failed")


def test_events_cut_off_by_a_crash_are_read_as_far_as_they_go(bazel: Bazel) -> None:
    bazel.ran("//server:b_test", "PASSED", GTEST_PASSED)
    with bazel.write().open("a") as events:
        events.write('{"id": {"testRes')
    status, lines = summarize("--bazel-events", bazel.path, "--bazel-status", 37)
    assert (status, lines[-1]) == (1, "2 passed, 1 failed")


def test_missing_events_count_as_a_failed_case(tmp_path: pathlib.Path) -> None:
    status, lines = summarize("--bazel-events", tmp_path / "none.json", "--bazel-status", 36)
    assert (status, lines[-1]) == (1, "0 passed, 1 failed")


def test_cases_of_pytest_are_added(bazel: Bazel, tmp_path: pathlib.Path) -> None:
    bazel.ran("//server:b_test", "PASSED", GTEST_PASSED)
    junit = tmp_path / "pytest.xml"
    junit.write_text(PYTEST_MIXED)
    status, lines = summarize("--bazel-events", bazel.write(), "--junit", junit, "--junit-status", 1)
    assert status == 1
    assert lines == [
        "2 failed:",
        "  tests.cluster.a_test.test_bad",
        "      assert 1 == 2",
        "      def test_bad(): ...",
        "  tests.cluster.a_test.test_setup",
        "      failed on setup",
        "      qemu is missing",
        "1 skipped:",
        "  tests.cluster.a_test.test_skip: no chronyd",
        "3 passed, 2 failed",
    ]


def test_pytest_that_died_counts_as_a_failed_case(tmp_path: pathlib.Path) -> None:
    status, lines = summarize("--junit", tmp_path / "none.xml", "--junit-status", 137)
    assert (status, lines[-1]) == (1, "0 passed, 1 failed")


def test_suites_that_were_not_run_count_as_failed(bazel: Bazel) -> None:
    bazel.ran("//server:b_test", "PASSED", GTEST_PASSED)
    status, lines = summarize("--bazel-events", bazel.write(), "--not-run", "pytest tests")
    assert (status, lines[-1]) == (1, "2 passed, 1 failed")


def test_nothing_run_is_not_a_success() -> None:
    status, lines = summarize()
    assert status == 1
    assert lines == ["No test case was run.", "0 passed, 0 failed"]


def test_a_long_message_is_cut(bazel: Bazel) -> None:
    body = "\n".join(f"line {number}" for number in range(40))
    bazel.ran("//a:a_test", "FAILED", f'<t><testcase name="A"><failure message="">{body}</failure></testcase></t>')
    _, lines = summarize("--bazel-events", bazel.write(), "--bazel-status", 3)
    assert "      line 14" in lines and "      line 15" not in lines
    assert lines[-2] == "      (25 more lines above)"
