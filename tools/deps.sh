# shellcheck shell=bash
# Debian packages: finds those missing from groups of tools/packages.txt and installs just these. Sourced by ./run.

# missing_packages HOW GROUP...: prints the packages of the groups that are missing; HOW: install or unpack.
missing_packages() {
  local how=$1 wanted=() command=() group package by_command package_how installed
  shift
  while read -r group package by_command package_how; do
    case " $* " in
      *" $group "*) ;;
      *) continue ;;
    esac
    [ "${package_how:-install}" = "$how" ] || continue
    wanted+=("$package")
    command+=("$by_command")
  done < <(grep -v '^ *\(#\|$\)' tools/packages.txt)
  [ ${#wanted[@]} -gt 0 ] || return 0
  # One query for all: it fails when a package is unknown, and prints the others nevertheless. Provides counts as
  # nothing here: the names are those of real packages.
  # shellcheck disable=SC2016 # ${...} is dpkg-query's
  installed=" $(dpkg-query -W -f '${db:Status-Status}:${Package} ' "${wanted[@]}" 2>/dev/null || true)"
  local i
  for i in "${!wanted[@]}"; do
    case $installed in
      *" installed:${wanted[i]} "*) continue ;;
    esac
    if [ -n "${command[i]}" ] && command -v "${command[i]}" >/dev/null; then continue; fi
    echo "${wanted[i]}"
  done
}

# apt's thousand lines as one now and then.
apt_progress() {
  awk '
    /newly installed/ { print "    " $0 }
    /^Get:/ { if (++got % 50 == 0) print "    downloaded " got " packages" }
    /^Unpacking / { if (++unpacked % 50 == 0) print "    unpacked " unpacked }
    /^Setting up / { if (++set_up % 50 == 0) print "    set up " set_up }
    { fflush() }'
}

die_with_log() {
  tail -n 40 "$1" >&2
  rm -f "$1"
  die "$2"
}

# ensure_packages GROUP...
ensure_packages() {
  command -v dpkg-query >/dev/null || die "this needs Debian 12 (no dpkg-query here); tools/packages.txt lists what to install"
  local missing=()
  mapfile -t missing < <(missing_packages install "$@" | sort -u)
  if [ ${#missing[@]} -gt 0 ]; then
    install_packages "${missing[@]}"
    mapfile -t missing < <(missing_packages install "$@")
    [ ${#missing[@]} -eq 0 ] || die "still missing after apt-get install: ${missing[*]}"
  fi
  mapfile -t missing < <(missing_packages unpack "$@" | sort -u)
  if [ ${#missing[@]} -gt 0 ]; then unpack_packages "${missing[@]}"; fi
}

install_packages() {
  local missing=("$@") as_root=() log
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null ||
      die "Debian packages are missing; as root run: apt-get install --no-install-recommends ${missing[*]}"
    as_root=(sudo)
  fi
  say "Installing ${#missing[@]} Debian packages: ${missing[*]}"
  log=$(mktemp)
  "${as_root[@]}" apt-get update -q >"$log" 2>&1 ||
    die_with_log "$log" "apt-get update failed: is there a network, and are the apt sources right?"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
    -o Dpkg::Use-Pty=0 "${missing[@]}" 2>&1 | tee "$log" | apt_progress >&2 ||
    die_with_log "$log" "apt-get install failed; this needs the packages of Debian 12 (bookworm)"
  rm -f "$log"
}

unpack_packages() {
  local package directory
  say "Unpacking, without installing: $*"
  for package in "$@"; do
    directory=$(mktemp -d)
    # As root apt would otherwise become a user who may not write into the directory. The package lists may be missing
    # (a container) or too old to find the file.
    (cd "$directory" && { download_package "$package" || { apt_get_update && download_package "$package"; }; }) ||
      die "apt-get download $package failed; as root run: apt-get update"
    mkdir -p "$UNPACKED_DIR"
    dpkg-deb -x "$directory/$package"_*.deb "$UNPACKED_DIR"
    rm -rf "$directory"
  done
}

download_package() { apt-get -q -o APT::Sandbox::User=root download "$1" >/dev/null 2>&1; }

apt_get_update() {
  if [ "$(id -u)" = 0 ]; then apt-get update -q; else sudo apt-get update -q; fi >/dev/null 2>&1
}

# What Debian does not package: package.json. Nothing of it needs its install script.
npm_tools() {
  local stamp=node_modules/.package-lock.json
  [ -e "$stamp" ] && [ "$stamp" -nt package-lock.json ] && return
  say "Installing the packages of package.json with npm ci"
  npm ci --ignore-scripts --no-audit --no-fund >&2 && touch "$stamp"
}

cmd_deps() {
  local groups=("$@") group
  [ $# -gt 0 ] || groups=(all)
  for group in "${groups[@]}"; do
    case $group in
      all) groups=(build node test bochs package lint fuzz) ;;
      build | node | test | bochs | package | lint | fuzz) ;;
      *) die "deps: no group '$group'; there are build, node, test, bochs, package, lint, fuzz and all" ;;
    esac
  done
  ensure_packages "${groups[@]}"
  say "Debian packages of ${groups[*]}: all there"
}
