# shellcheck shell=bash
# ./run simulate: worlds of the handoff simulation (tests/simulate). Sourced by ./run.

cmd_simulate() {
  case ${1:-} in
    -h | --help)
      cat <<'HELP'
usage: ./run simulate [--seeds N] [--first S] [--keep-going] [--bug NAME]
       ./run simulate --seed S [--trace] [--bug NAME]

The delivered agents and orchestrators on simulated clocks, disks, VMMs and networks, with crashes, losses and repetitions
at every step; tests/simulate/checker.h says what must hold after each. One seed is one world.

  --seeds N      so many worlds (1000)
  --first S      the first one's seed (1)
  --seed S       that world alone; with --trace, tells all that happens in it
  --keep-going   do not stop at the first world that breaks a promise
  --bug NAME     with a mistake planted in the agents, which must be found: skip-sync, accept-lower-epoch, apply-twice,
                 believe-any-proof, forget-undo, keep-permit
HELP
      return
      ;;
  esac
  ensure_packages build
  say "Building the simulation"
  bz build -- //tests/simulate:simulate >&2 || die "the build failed; see above"
  export_bin_dir
  exec "$TSC_BAZEL_BIN/tests/simulate/simulate" "$@"
}
