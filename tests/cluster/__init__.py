"""Nodes with real KVM on this machine, for the demo, the cluster tests and the benchmarks."""

from .cluster import ClockBound, Cluster, Terminated, TrueClockOffset, TscDistance
from .kernel import KernelError
from .node import EXCHANGE, CommandResult, Node, NodeConfig, NodeError, NodeProcess
from .qemu import QemuError

__all__ = [
    "EXCHANGE", "ClockBound", "Cluster", "CommandResult", "KernelError", "Node", "NodeConfig",
    "NodeError", "NodeProcess", "QemuError", "Terminated", "TrueClockOffset",
    "TscDistance",
]  # fmt: skip
