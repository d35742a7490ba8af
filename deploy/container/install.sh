#!/bin/sh
# Makes a minimal Debian 12 the file system of the agent's container: installs the packages that lie beside this script,
# and what they depend on. Used by the Dockerfile, and by the test that starts the agent without Docker. apt's lists are to
# be there (apt-get update).
set -eu
packages=$(dirname "$0")
export DEBIAN_FRONTEND=noninteractive

# A fixed number, which manifests and owners of host paths can name. The package's own user is then this one.
groupadd --system --gid 64640 tsc-agent
useradd --system --uid 64640 --gid tsc-agent --home-dir /var/lib/tsc-handoff --no-create-home \
  --shell /usr/sbin/nologin tsc-agent

# In the place of systemd, which a container does not run.
apt-get install -y -q --no-install-recommends systemd-standalone-sysusers
apt-get install -y -q --no-install-recommends "$packages"/*.deb
apt-get clean
rm -rf /var/lib/apt/lists/*
install -d -o tsc-agent -g tsc-agent -m 755 /run/tsc-handoff
install -d -o tsc-agent -g tsc-agent -m 700 /var/lib/tsc-handoff
