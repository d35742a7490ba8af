# shellcheck shell=bash
# ./run package: Debian packages of the agent, the command line and the C library. Sourced by ./run.
#
# Plain dpkg tools, no debhelper: Bazel has built everything already, and what is left is to put files in place. The
# packages' control files and scripts are in deploy/debian. The same tree gives the same bytes: times are those of the
# last commit, owners root.

readonly PACKAGE_TARGETS=(
  //server/agent:tsc-agent //server/agent:tsc-agent-doc
  //client/tscctl:tscctl //client/tscctl:tscctl-doc
  //client/vmm:libtsc_vmm.so.0 //client/vmm:tsc_vmm_archive
)
# As Debian's own tools have it; by default an address that leads nowhere.
readonly PACKAGE_MAINTAINER="${DEBFULLNAME:-tsc-handoff packages} <${DEBEMAIL:-packages@tsc-handoff.invalid}>"

cmd_package() {
  local out=dist version=""
  while [ $# -gt 0 ]; do
    case $1 in
      --version)
        [ $# -gt 1 ] || die "package: --version needs a value"
        version=$2
        shift
        ;;
      -*) die "package: no option '$1'; there is --version" ;;
      *) out=$1 ;;
    esac
    shift
  done
  version=${version:-$(source_version)}
  [[ $version =~ ^[0-9][0-9A-Za-z.+~]*$ ]] || die "package: '$version' is no version of a Debian package"
  ensure_packages build package
  say "Building what goes into the packages"
  bz build -- "${PACKAGE_TARGETS[@]}" >&2 || die "the build failed; see above"
  export_bin_dir

  local stage
  stage=$(mktemp -d)
  # shellcheck disable=SC2064 # the directory of now
  trap "rm -rf '$stage'" EXIT
  make_packages "$stage" "$version"
  mkdir -p "$out"
  # Of the packages in OUT, those of an earlier run would be mistaken for new ones.
  rm -f "$out"/tsc-handoff-*.deb "$out"/libtsc-vmm*.deb
  mv "$stage"/*.deb "$out"
  (cd "$out" && ls -- *.deb)
}

source_version() { sed -n 's/.*kVersion\[\] = "\(.*\)".*/\1/p' server/base/version.h; }

# make_packages STAGE VERSION: stages each package's files under STAGE, then makes STAGE/*.deb.
make_packages() {
  local stage=$1 version=$2 architecture multiarch package
  architecture=$(dpkg --print-architecture)
  multiarch=$(dpkg-architecture -qDEB_HOST_MULTIARCH)
  SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || date +%s)
  export SOURCE_DATE_EPOCH
  umask 022
  stage_agent "$stage/tsc-handoff-agent"
  stage_tools "$stage/tsc-handoff-tools"
  stage_library "$stage/libtsc-vmm0" "$stage/libtsc-vmm-dev" "$multiarch" "$version"
  for package in libtsc-vmm0 libtsc-vmm-dev tsc-handoff-tools tsc-handoff-agent; do
    finish_package "$stage" "$package" "$version" "$architecture"
  done
}

# place MODE SOURCE TARGET: one file, with its directories.
place() { install -D -m "$1" "$2" "$3"; }
# The same, compressed as Debian wants documentation.
place_gz() {
  mkdir -p "$(dirname "$2")"
  gzip -9n <"$1" >"$2.gz"
}
place_program() {
  place 755 "$1" "$2"
  strip --remove-section=.comment --remove-section=.note "$2"
}

stage_completion() { # ROOT DIRECTORY_OF_BIN NAME
  place 644 "$TSC_BAZEL_BIN/$2/$3.bash" "$1/usr/share/bash-completion/completions/$3"
  place 644 "$TSC_BAZEL_BIN/$2/_$3" "$1/usr/share/zsh/vendor-completions/_$3"
}

stage_agent() {
  local root=$1 doc=$1/usr/share/doc/tsc-handoff-agent
  place_program "$TSC_BAZEL_BIN/server/agent/tsc-agent" "$root/usr/bin/tsc-agent"
  place 644 deploy/systemd/tsc-agent.service "$root/lib/systemd/system/tsc-agent.service"
  place 644 deploy/systemd/tsc-handoff.sysusers "$root/usr/lib/sysusers.d/tsc-handoff.conf"
  place 644 deploy/systemd/tsc-handoff.tmpfiles "$root/usr/lib/tmpfiles.d/tsc-handoff.conf"
  place 644 deploy/config/agent.yaml "$root/etc/tsc-handoff/agent.yaml"
  place 644 deploy/systemd/attach.conf "$doc/examples/attach.conf"
  place 644 deploy/config/policy.yaml "$doc/examples/policy.yaml"
  place_gz "$TSC_BAZEL_BIN/server/agent/tsc-agent.8" "$root/usr/share/man/man8/tsc-agent.8"
  stage_completion "$root" server/agent tsc-agent
}

stage_tools() {
  local root=$1
  place_program "$TSC_BAZEL_BIN/client/tscctl/tscctl" "$root/usr/bin/tscctl"
  place 644 deploy/config/tscctl.yaml "$root/usr/share/doc/tsc-handoff-tools/examples/tscctl.yaml"
  place_gz "$TSC_BAZEL_BIN/client/tscctl/tscctl.1" "$root/usr/share/man/man1/tscctl.1"
  stage_completion "$root" client/tscctl tscctl
}

stage_library() {
  local runtime=$1 dev=$2 multiarch=$3 version=$4 lib header archive=()
  lib=usr/lib/$multiarch
  place 644 "$TSC_BAZEL_BIN/client/vmm/libtsc_vmm.so.0" "$runtime/$lib/libtsc_vmm.so.$version"
  strip --strip-unneeded --remove-section=.comment --remove-section=.note "$runtime/$lib/libtsc_vmm.so.$version"
  ln -s "libtsc_vmm.so.$version" "$runtime/$lib/libtsc_vmm.so.0"
  mkdir -p "$dev/$lib"
  ln -s libtsc_vmm.so.0 "$dev/$lib/libtsc_vmm.so"
  mapfile -t archive < <(ls "$TSC_BAZEL_BIN"/client/vmm/libtsc_vmm_archive{,.pic}.a 2>/dev/null)
  place 644 "${archive[0]}" "$dev/$lib/libtsc_vmm.a"
  strip --strip-debug --enable-deterministic-archives "$dev/$lib/libtsc_vmm.a"
  for header in tsc_vmm.h tsc_kvm.h; do
    mkdir -p "$dev/usr/include/tsc-handoff"
    # In the tree a header is found from the root, installed beside the other one.
    sed 's|#include "client/vmm/|#include "|' "client/vmm/$header" >"$dev/usr/include/tsc-handoff/$header"
  done
  mkdir -p "$dev/$lib/pkgconfig" "$dev/usr/share/doc/libtsc-vmm-dev/examples"
  sed "s|@VERSION@|$version|; s|@MULTIARCH@|$multiarch|" deploy/debian/tsc_vmm.pc >"$dev/$lib/pkgconfig/tsc_vmm.pc"
  sed 's|#include "client/vmm/tsc_vmm.h"|#include <tsc-handoff/tsc_vmm.h>|' client/vmm/example_vmm.c \
    >"$dev/usr/share/doc/libtsc-vmm-dev/examples/example_vmm.c"
  place_gz deploy/debian/tsc_vmm.3 "$dev/usr/share/man/man3/tsc_vmm.3"
}

# Dependencies on shared libraries, from the symbols that the package's programs use.
shlib_depends() { # PACKAGE_ROOT VERSION
  local binaries=() work
  mapfile -t binaries < <(find "$1" -type f \( -path '*/usr/bin/*' -o -name '*.so.*' \) | sort)
  [ ${#binaries[@]} -gt 0 ] || return 0
  work=$(mktemp -d)
  mkdir "$work/debian"
  printf 'Source: tsc-handoff\n\nPackage: tsc-handoff\nArchitecture: any\n' >"$work/debian/control"
  # It warns that the binaries are not in debian/PACKAGE.
  (cd "$work" && dpkg-shlibdeps --warnings=0 -O "${binaries[@]}" 2>/dev/null) | sed -n 's/^shlibs:Depends=//p'
  rm -rf "$work"
}

finish_package() { # STAGE PACKAGE VERSION ARCHITECTURE
  local root=$1/$2 package=$2 version=$3 architecture=$4 source=deploy/debian/$2 depends size file
  place 644 deploy/debian/copyright "$root/usr/share/doc/$package/copyright"
  changelog "$version" >"$1/changelog"
  place_gz "$1/changelog" "$root/usr/share/doc/$package/changelog"
  mkdir -p "$root/DEBIAN"
  depends=$(shlib_depends "$root")
  size=$(du -k --apparent-size -s --exclude=DEBIAN "$root" | cut -f1)
  for file in "$source"/*; do
    case ${file##*/} in
      conffiles | shlibs | triggers | control) install -m 644 "$file" "$root/DEBIAN/${file##*/}" ;;
      *) install -m 755 "$file" "$root/DEBIAN/${file##*/}" ;;
    esac
  done
  sed -i "s|@VERSION@|$version|; s|@ARCHITECTURE@|$architecture|; s|@SHLIBS@|$depends|; s|@SIZE@|$size|
    s|@MAINTAINER@|$PACKAGE_MAINTAINER|" "$root/DEBIAN/control"
  if [ -f "$root/DEBIAN/shlibs" ]; then sed -i "s|@VERSION@|$version|" "$root/DEBIAN/shlibs"; fi
  (cd "$root" && find . -type f -not -path './DEBIAN/*' -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' md5sum) \
    >"$root/DEBIAN/md5sums"
  # No file is younger than the commit; dpkg-deb itself lowers what it writes.
  find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
  dpkg-deb --root-owner-group -Zxz --build "$root" "$1/${package}_${version}_${architecture}.deb" >/dev/null ||
    die "dpkg-deb failed for $package"
}

changelog() {
  printf 'tsc-handoff (%s) bookworm; urgency=medium\n\n  * Built from the source tree; its history has the changes.\n\n' "$1"
  printf ' -- %s  %s\n' "$PACKAGE_MAINTAINER" "$(LC_ALL=C TZ=UTC date -R -d "@$SOURCE_DATE_EPOCH")"
}
