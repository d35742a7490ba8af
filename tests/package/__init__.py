"""The Debian packages: what is in them, and how they live in a Debian with systemd and in a container."""
