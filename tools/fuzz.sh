# shellcheck shell=bash
# ./run fuzz: libFuzzer on whatever parses bytes of others (tests/fuzz). Sourced by ./run.

# What has been found interesting so far is kept here, and begun with the next time.
readonly FUZZ_DIR=.cache/fuzz

fuzz_usage() {
  cat <<'EOF'
usage: ./run fuzz [--minutes N] [TARGET...]

Feeds damaged input to each TARGET for N minutes (default 1), with Address- and UndefinedBehaviorSanitizer, two targets at
a time. Without TARGET: all. What covers new code is kept under .cache/fuzz/TARGET/corpus for the next run; an input that
breaks something is kept under .cache/fuzz/TARGET/findings, and its message printed.

EOF
  printf 'Targets: %s\n' "$(fuzz_targets | tr '\n' ' ')"
  printf 'Exit status: 0 nothing found, 1 something found or something did not work.\n'
}

fuzz_targets() { sed -n '/^fuzz_target(/,/^)/s/^    name = "\(.*\)",$/\1/p' tests/fuzz/BUILD; }

cmd_fuzz() {
  local minutes=1 targets=() target known
  known=" $(fuzz_targets | tr '\n' ' ')"
  while [ $# -gt 0 ]; do
    case $1 in
      -h | --help) fuzz_usage && return ;;
      --minutes)
        [[ ${2:-} =~ ^[1-9][0-9]{0,4}$ ]] || die "fuzz: --minutes needs a number from 1 to 99999"
        minutes=$2
        shift
        ;;
      -*) die "fuzz: no option '$1'; there is --minutes (./run fuzz --help)" ;;
      *)
        case $known in
          *" $1 "*) targets+=("$1") ;;
          *) die "fuzz: no target '$1'; there are:$known" ;;
        esac
        ;;
    esac
    shift
  done
  [ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(fuzz_targets)
  ensure_packages build fuzz
  say "Building ${#targets[@]} fuzzers"
  local labels=("${targets[@]/#///tests/fuzz:}")
  labels=("${labels[@]/%/_fuzzer}")
  # gold has hundreds of warnings of symbols of the sanitizers.
  bz build --config=fuzz -- "${labels[@]}" 2> >(grep -v 'Cannot export local symbol' >&2) ||
    die "the build failed; see above"
  local bin
  bin=$(bz info --config=fuzz bazel-bin 2>/dev/null)
  say "Fuzzing for $minutes min each: ${targets[*]}"
  local failed=0 running=0
  for target in "${targets[@]}"; do
    if [ "$running" -ge 2 ]; then
      wait -n || failed=1
      running=$((running - 1))
    fi
    fuzz_one "$bin/tests/fuzz/${target}_fuzzer" "$target" "$minutes" &
    running=$((running + 1))
  done
  while [ "$running" -gt 0 ]; do
    wait -n || failed=1
    running=$((running - 1))
  done
  return "$failed"
}

# fuzz_one PROGRAM TARGET MINUTES: prints a line of figures, and what was found.
fuzz_one() {
  local directory=$FUZZ_DIR/$2 status=0 log
  log=$directory/log
  mkdir -p "$directory/corpus" "$directory/findings" "$directory/seeds"
  TSC_FUZZ_SEEDS=$directory/seeds "$1" -max_total_time="$(($3 * 60))" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="$directory/findings/" "$directory/corpus" "$directory/seeds" >"$log" 2>&1 || status=$?
  awk -v target="$2" -v minutes="$3" '
    match($0, /cov: [0-9]+/) { edges = substr($0, RSTART + 5, RLENGTH - 5) }
    match($0, /corp: [0-9]+/) { inputs = substr($0, RSTART + 6, RLENGTH - 6) }
    /^stat::number_of_executed_units/ { executions = $2 }
    END { printf "%-12s %3d min %12d executions %8d edges %6d inputs\n", target, minutes, executions, edges, inputs }' "$log"
  [ "$status" != 0 ] || return 0
  printf '%s: found something (exit status %d); the input is in %s/findings, the whole log in %s\n' "$2" "$status" \
    "$directory" "$log"
  grep -n -m1 -A 25 'ERROR: \|does not hold\|runtime error' "$log" || tail -n 25 "$log"
  return 1
}
