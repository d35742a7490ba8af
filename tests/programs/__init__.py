"""The programs that Bazel built, as the Python parts find and drive them."""

from .built import LabError, binary
from .sim_agent import SimAgent

__all__ = ["LabError", "SimAgent", "binary"]
