# shellcheck shell=bash
# ./run test: Bazel's tests, then the pytest suites on nodes with real KVM, then one summary. Sourced by ./run.

cmd_test() {
  local all=false config="" filters=()
  while [ $# -gt 0 ]; do
    case $1 in
      --all) all=true ;;
      --asan | --tsan)
        [ -z "$config" ] || die "test: --asan and --tsan exclude each other"
        config=${1#--}
        ;;
      -h | --help) usage && return ;;
      -*) die "test: no option '$1'; there are --all, --asan and --tsan (./run help)" ;;
      *) filters+=("$1") ;;
    esac
    shift
  done
  if $all && [ -n "$config" ]; then die "test: --all adds tests on nodes, --$config leaves these out: choose one"; fi

  # A filter is a Bazel target, a path of pytest's, or else part of a test case's name.
  local targets=() paths=() name="" filter
  for filter in "${filters[@]}"; do
    if [[ $filter == //* ]]; then
      targets+=("$filter")
    elif [ -e "${filter%%::*}" ]; then
      paths+=("$filter")
    else
      [ -z "$name" ] || die "test: one part of a name at a time, not '$name' and '$filter'"
      name=$filter
    fi
  done
  local run_bazel=true run_pytest=true
  if [ ${#targets[@]} -gt 0 ] && [ ${#paths[@]} -eq 0 ]; then run_pytest=false; fi
  if [ ${#paths[@]} -gt 0 ] && [ ${#targets[@]} -eq 0 ]; then run_bazel=false; fi
  if [ -n "$config" ]; then
    run_pytest=false
    $run_bazel || die "test: --$config is for Bazel's tests; ${paths[*]} is run by pytest"
  fi
  [ ${#targets[@]} -gt 0 ] || targets=(//...)
  [ ${#paths[@]} -gt 0 ] || paths=(tests tools)

  local groups=(build)
  if $run_pytest; then groups+=(test node package); fi
  if $all; then groups+=(bochs); fi
  ensure_packages "${groups[@]}"
  if $run_pytest; then npm_tools || die "npm ci failed; see above"; fi

  rm -rf "$RESULTS_DIR/run"
  mkdir -p "$RESULTS_DIR/run"
  local summary=() status=0
  if [ -n "$name" ]; then summary+=(--allow-empty); fi
  if $run_bazel; then run_bazel_tests; else run_bazel_build; fi
  if $run_pytest; then run_pytest_suites; fi
  "$PYTHON" tools/summarize_tests.py "${summary[@]}"
}

# The three below use and change cmd_test's variables.

run_bazel_tests() {
  say "Building and running the unit and service tests${config:+ with $config}"
  local options=() bep=$RESULTS_DIR/run/bazel.json
  # A sanitizer's binaries are of no use but to its tests.
  if [ -n "$config" ]; then options+=(--config="$config" --build_tests_only); fi
  if [ -n "$name" ]; then options+=(--test_filter="*$name*"); fi
  bz test "${options[@]}" --build_event_json_file="$bep" -- "${targets[@]}" >&2 || status=$?
  summary+=(--bazel-events "$bep" --bazel-status "$status")
}

run_bazel_build() {
  say "Building"
  bz build //... >&2 || status=$?
  summary+=(--bazel-status "$status")
}

run_pytest_suites() {
  # 3: tests failed, 4: there were none. With anything else there may be no binaries to test.
  if [ "$status" != 0 ] && [ "$status" != 3 ] && [ "$status" != 4 ]; then
    say "Not running pytest, because the build failed"
    summary+=(--not-run "pytest ${paths[*]}")
    return
  fi
  say "Running the tests on nodes with real KVM (pytest ${paths[*]})"
  local options=() pytest_status=0 junit=$RESULTS_DIR/run/pytest.xml
  if ! $all; then options+=(-m "not slow" --ignore=tests/bochs); fi
  if [ -n "$name" ]; then options+=(-k "$name"); fi
  export_bin_dir
  PYTHONDONTWRITEBYTECODE=1 "$PYTHON" -m pytest -v --tb=short --timeout="${PYTEST_TIMEOUT_S:-900}" \
    --junitxml="$junit" "${options[@]}" "${paths[@]}" >&2 || pytest_status=$?
  summary+=(--junit "$junit" --junit-status "$pytest_status")
}
