#!/usr/bin/env bash
# Writes binary files as C++ arrays: embed.sh NAME=FILE... > embedded_code.cc
set -euo pipefail
echo '#include "server/attach/embedded_code.h"'
echo 'namespace tsc_handoff::attach {'
echo 'namespace {'
for pair in "$@"; do
  echo "alignas(16) constexpr unsigned char k${pair%%=*}[] = {"
  od -An -v -tu1 -w16 "${pair#*=}" | sed -E 's/ +([0-9]+)/\1,/g'
  echo '};'
done
echo '}  // namespace'
for pair in "$@"; do
  name=${pair%%=*}
  echo "absl::Span<const unsigned char> ${name}() { return k$name; }"
done
echo '}  // namespace tsc_handoff::attach'
