# shellcheck shell=bash
# ./run lint: formatters and linters, each a step that says what it found. Sourced by ./run.

readonly LINT_STEPS=(clang-format clang-tidy cppcheck buildifier buf shellcheck python)
readonly LINT_FORMATTERS=(clang-format buildifier buf)

cmd_fmt() { cmd_lint --fix "${LINT_FORMATTERS[@]}"; }

cmd_lint() {
  local fix=false steps=() step bad=()
  while [ $# -gt 0 ]; do
    case $1 in
      --fix) fix=true ;;
      -*) die "lint: no option '$1'; there is --fix" ;;
      *) steps+=("$1") ;;
    esac
    shift
  done
  [ ${#steps[@]} -gt 0 ] || steps=("${LINT_STEPS[@]}")
  for step in "${steps[@]}"; do
    case " ${LINT_STEPS[*]} " in
      *" $step "*) ;;
      *) die "lint: no step '$step'; there are ${LINT_STEPS[*]}" ;;
    esac
  done
  ensure_packages lint build
  for step in "${steps[@]}"; do
    say "lint: $step"
    "lint_${step//-/_}" || bad+=("$step")
  done
  if [ ${#bad[@]} -gt 0 ]; then
    say "lint: problems found by ${bad[*]}; ./run lint --fix repairs what is only format"
    return 1
  fi
  say "lint: clean"
}

# Each step below is called on the left of ||, where `set -e` is off: it returns its status itself. With fix=true it
# rewrites files.

lint_clang_format() {
  local files=() mode=(--dry-run --Werror)
  mapfile -t files < <(project_files '\.(cc|c|h)$')
  [ ${#files[@]} -gt 0 ] || return 0
  if $fix; then mode=(-i); fi
  clang-format "${mode[@]}" "${files[@]}"
}

lint_clang_tidy() {
  # Generated headers have to be there to be included.
  bz build --keep_going //... >&2 || return 1
  "$PYTHON" -B tools/compile_commands.py || return 1
  "$PYTHON" -B tools/clang_tidy.py
}

# Within a minute: it reads our own headers and no others. tools/cppcheck-suppressions.txt has what is left out.
lint_cppcheck() {
  local files=() status=0 common
  common=(--quiet --inline-suppr --error-exitcode=1 "--enable=warning,performance,portability" -j "$(nproc)" -I .
    --library=posix --suppressions-list=tools/cppcheck-suppressions.txt
    "--template={file}:{line}: {severity}: {message} [{id}]")
  mapfile -t files < <(project_files '\.(cc|h)$')
  cppcheck --language=c++ --std=c++20 --library=googletest "${common[@]}" "${files[@]}" || status=1
  mapfile -t files < <(project_files '\.c$')
  cppcheck --language=c --std=c11 "${common[@]}" "${files[@]}" || status=1
  return $status
}

lint_buildifier() {
  npm_tools || return 1
  local files=() mode=(-mode=check -lint=warn)
  mapfile -t files < <(project_files '(^|/)(BUILD|WORKSPACE|[^/]*\.BUILD|[^/]*\.bzl)$')
  if $fix; then mode=(-mode=fix -lint=fix); fi
  # The rules are Bazel 4.2's own, which newer buildifiers want to see loaded from elsewhere.
  node_modules/.bin/buildifier "${mode[@]}" -warnings=-native-cc-binary,-native-cc-library,-native-cc-test,-native-cc-import,-native-cc-toolchain,-native-cc-toolchain-suite,-native-cc-common,-native-cc-info,-native-cc-proto \
    "${files[@]}"
}

lint_buf() {
  npm_tools || return 1
  [ -n "$(project_files '^proto/.*\.proto$')" ] || return 0
  local mode=(--diff --exit-code) status=0
  if $fix; then mode=(--write); fi
  node_modules/.bin/buf format "${mode[@]}" || status=1
  node_modules/.bin/buf lint || status=1
  return $status
}

lint_shellcheck() {
  local files=()
  mapfile -t files < <(project_files '(^run|^\.ci/run|\.sh)$')
  # busybox ash is checked as dash: no notice of that.
  shellcheck --external-sources --exclude=SC2187 "${files[@]}"
}

lint_python() {
  local files=()
  mapfile -t files < <(project_files '\.py$')
  "$PYTHON" -m pyflakes "${files[@]}"
}
