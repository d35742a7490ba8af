# shellcheck shell=bash
# shellcheck disable=SC2034 # the constants are used by the files that source this one
# What ./run and the scripts next to this file share. Sourced, with the project's root as working directory.

# Progress goes to stderr, results to stdout.
say() { printf '==> %s\n' "$*" >&2; }
die() { printf 'run: %s\n' "$*" >&2; exit 1; }

# A chroot or a container may set neither, and Bazel insists on both.
USER=${USER:-$(id -un)}
HOME=${HOME:-$(getent passwd "$(id -u)" | cut -d: -f6)}
export USER HOME

readonly RESULTS_DIR=test-results
# Where packages are that were unpacked only. The machine's own programs come first.
readonly UNPACKED_DIR=.cache/unpacked
PATH=$PATH:/usr/sbin:/sbin:$PWD/$UNPACKED_DIR/usr/sbin:$PWD/$UNPACKED_DIR/usr/bin
export PATH
# Debian's Python, which sees Debian's packages; another one may come first in PATH.
readonly PYTHON=/usr/bin/python3

# bazel COMMAND ARGS..., with the caller's own options put where Bazel wants them.
bz() {
  # Bazel knows its link to its own output, but takes that of a copied tree, or of another user, for sources.
  # (.bazelignore keeps it out of the links with fixed names.)
  local link
  for link in bazel-*; do
    case $link in
      bazel-bin | bazel-out | bazel-testlogs) ;;
      *) if [ -L "$link" ]; then rm -f "$link"; fi ;;
    esac
  done
  local startup=() options=() command=$1
  shift
  read -ra startup <<<"${BAZEL_STARTUP:-}"
  case $command in
    build | test | aquery | info)
      read -ra options <<<"${BAZEL_OPTIONS:-}"
      # In a log file a line every five seconds says enough.
      [ -t 2 ] || options+=(--show_progress_rate_limit=5)
      ;;
  esac
  bazel "${startup[@]}" "$command" "${options[@]}" "$@"
}

# Where tests, demo and bench find the binaries just built.
export_bin_dir() {
  TSC_BAZEL_BIN=$(bz info bazel-bin 2>/dev/null)
  export TSC_BAZEL_BIN
}

# Source files of the project that end as one of the extended regular expressions given, tracked or new.
project_files() {
  git ls-files --cached --others --exclude-standard | grep -E "$1" | while read -r file; do
    if [ -f "$file" ]; then echo "$file"; fi
  done
}
