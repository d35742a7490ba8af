# shellcheck shell=bash
# ./run fuzz: libFuzzer on whatever parses bytes of others (tests/fuzz). Sourced by ./run.

# What has been found interesting so far is kept here, and begun with the next time.
readonly FUZZ_DIR=.cache/fuzz
# A line for each run of a target, so that the hours of many runs can be summed.
readonly FUZZ_RUNS=$RESULTS_DIR/fuzz/runs.tsv
readonly FUZZ_COLUMNS='begun commit target wall_s cpu_s executions exec_per_s edges features inputs new_inputs findings'

fuzz_usage() {
  cat <<EOF
usage: ./run fuzz [--minutes N] [--jobs N] [TARGET...]
       ./run fuzz --total

Feeds damaged input to each TARGET for N minutes (default 1), with Address- and UndefinedBehaviorSanitizer, --jobs targets
at a time (default 2). Without TARGET: all. What covers new code is kept under $FUZZ_DIR/TARGET/corpus for the next run;
an input that breaks something is kept under $FUZZ_DIR/TARGET/findings, and its message printed.

Each run of a target adds a line to $FUZZ_RUNS; --total adds them up. There, cpu_s counts the fuzzer's
own time, edges and features are libFuzzer's measures of what its corpus covers, new_inputs what the run added to it.

EOF
  printf 'Targets: %s\n' "$(fuzz_targets | tr '\n' ' ')"
  printf 'Exit status: 0 nothing found, 1 something found or something did not work.\n'
}

fuzz_targets() { sed -n '/^fuzz_target(/,/^)/s/^    name = "\(.*\)",$/\1/p' tests/fuzz/BUILD; }

# fuzz_number OPTION VALUE
fuzz_number() { [[ $2 =~ ^[1-9][0-9]{0,4}$ ]] || die "fuzz: $1 needs a number from 1 to 99999"; }

cmd_fuzz() {
  local minutes=1 jobs=2 targets=() known
  known=" $(fuzz_targets | tr '\n' ' ')"
  while [ $# -gt 0 ]; do
    case $1 in
      -h | --help) fuzz_usage && return ;;
      --total) fuzz_total && return ;;
      --minutes)
        fuzz_number "$1" "${2:-}"
        minutes=$2
        shift
        ;;
      --jobs)
        fuzz_number "$1" "${2:-}"
        jobs=$2
        shift
        ;;
      -*) die "fuzz: no option '$1'; there are --minutes, --jobs and --total (./run fuzz --help)" ;;
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
  fuzz_all "$minutes" "$jobs" "${targets[@]}"
}

# fuzz_all MINUTES JOBS TARGET...: what has been built.
fuzz_all() {
  local minutes=$1 jobs=$2 bin target failed=0 running=0
  shift 2
  bin=$(bz info --config=fuzz bazel-bin 2>/dev/null)
  say "Fuzzing for $minutes min each: $*"
  mkdir -p "$(dirname "$FUZZ_RUNS")"
  [ -s "$FUZZ_RUNS" ] || tr ' ' '\t' <<<"$FUZZ_COLUMNS" >"$FUZZ_RUNS"
  for target in "$@"; do
    if [ "$running" -ge "$jobs" ]; then
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

# fuzz_findings TARGET: how many inputs are kept that break something. A slow one is not broken.
fuzz_findings() { find "$FUZZ_DIR/$1/findings" -type f ! -name 'slow-unit-*' | wc -l; }

# fuzz_one PROGRAM TARGET MINUTES: prints a line of figures and keeps it, and what was found.
fuzz_one() {
  local directory=$FUZZ_DIR/$2 status=0 log line begun found TIMEFORMAT='%R %U %S'
  log=$directory/log
  mkdir -p "$directory/corpus" "$directory/findings" "$directory/seeds"
  begun=$(date -u +%Y-%m-%dT%H:%M:%SZ)
  found=$(fuzz_findings "$2")
  {
    time TSC_FUZZ_SEEDS=$directory/seeds "$1" -max_total_time="$(($3 * 60))" -timeout=20 -rss_limit_mb=2048 \
      -print_final_stats=1 -artifact_prefix="$directory/findings/" "$directory/corpus" "$directory/seeds" >"$log" 2>&1
  } 2>"$directory/time" || status=$?
  found=$(($(fuzz_findings "$2") - found))
  line=$(fuzz_figures "$log" "$(tail -n 1 "$directory/time")" "$found")
  printf '%s\t%s\t%s\t%s\n' "$begun" "$(git rev-parse --short HEAD 2>/dev/null || echo -)" "$2" "$line" >>"$FUZZ_RUNS"
  printf '%s\t%s\n' "$2" "$line" | awk -F '\t' '{
    printf "%-15s %4d s CPU %11d executions %7d/s %7d edges %7d features %6d inputs (%d new) %d findings\n",
      $1, $3, $4, $5, $6, $7, $8, $9, $10 }'
  [ "$status" != 0 ] || return 0
  printf '%s: found something (exit status %d); the input is in %s/findings, the whole log in %s\n' "$2" "$status" \
    "$directory" "$log"
  grep -n -m1 -A 25 'ERROR: \|does not hold\|runtime error' "$log" || tail -n 25 "$log"
  return 1
}

# fuzz_figures LOG 'WALL USER SYSTEM' FINDINGS: the columns of $FUZZ_RUNS from wall_s on.
fuzz_figures() {
  awk -v time="$2" -v findings="$3" '
    match($0, / cov: [0-9]+/) { edges = substr($0, RSTART + 6, RLENGTH - 6) }
    match($0, / ft: [0-9]+/) { features = substr($0, RSTART + 5, RLENGTH - 5) }
    match($0, / corp: [0-9]+/) { inputs = substr($0, RSTART + 7, RLENGTH - 7) }
    /^stat::number_of_executed_units/ { executions = $2 }
    /^stat::average_exec_per_sec/ { rate = $2 }
    /^stat::new_units_added/ { added = $2 }
    END {
      split(time, s, " ")
      printf "%d\t%.1f\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n",
        s[1], s[2] + s[3], executions, rate, edges, features, inputs, added, findings
    }' "$1"
}

# What all runs together have done; edges, features and inputs as of the last one.
fuzz_total() {
  [ -s "$FUZZ_RUNS" ] || die "fuzz: nothing has been fuzzed here: there is no $FUZZ_RUNS"
  awk -F '\t' '
    NR == 1 { next }
    {
      runs[$3]++; wall[$3] += $4; cpu[$3] += $5; executions[$3] += $6; findings[$3] += $12
      edges[$3] = $8; features[$3] = $9; inputs[$3] = $10
      all_wall += $4; all_cpu += $5; all_executions += $6; all_findings += $12
    }
    END {
      row = "%-15s %5s %8.2f %8.2f %13d %7s %9s %7s %9d\n"
      printf "%-15s %5s %8s %8s %13s %7s %9s %7s %9s\n",
        "target", "runs", "wall h", "CPU h", "executions", "edges", "features", "inputs", "findings"
      for (t in runs)
        printf row, t, runs[t], wall[t] / 3600, cpu[t] / 3600, executions[t], edges[t], features[t], inputs[t],
          findings[t] | "sort"
      close("sort")
      printf row, "all", NR - 1, all_wall / 3600, all_cpu / 3600, all_executions, "", "", "", all_findings
    }' "$FUZZ_RUNS"
}
