"""Drives the witness VM, whose guest checks its own time, from Python."""

from .client import Verdict, WitnessControl, WitnessError, WitnessProcess, start_witness

__all__ = ["Verdict", "WitnessControl", "WitnessError", "WitnessProcess", "start_witness"]
