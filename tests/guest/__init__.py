"""A Linux guest that watches its own TSCs, in a stock QEMU in a node."""

from .guest import Guest, GuestError, GuestReport, start_guest

__all__ = ["Guest", "GuestError", "GuestReport", "start_guest"]
