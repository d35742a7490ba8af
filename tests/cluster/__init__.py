"""Nodes with real KVM on this machine, for the demo, the cluster tests and the benchmarks."""

from .chronyd import Chronyd, ClockBound
from .cluster import Cluster, Terminated, TrueClockOffset, TscDistance
from .kernel import KernelError
from .node import EXCHANGE, CommandResult, Node, NodeConfig, NodeError, NodeProcess
from .qemu import QemuError

__all__ = [
    "EXCHANGE", "Chronyd", "ClockBound", "Cluster", "CommandResult", "KernelError", "Node", "NodeConfig",
    "NodeError", "NodeProcess", "QemuError", "Terminated", "TrueClockOffset",
    "TscDistance",
]  # fmt: skip
