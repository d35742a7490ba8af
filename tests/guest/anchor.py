"""Keeps a VM that never runs in each node, so that the VMs of a test are neither the first nor the last there.

KVM patches the kernel's code when the first VM appears and when the last one goes, and when the first vCPU has its local
APIC switched off, as every new one has. In a node with TCG's thread=multi each such patch may freeze the node (see
tests/cluster/node.py); a guest that hops to and fro would make many of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..attach.node_qemu import NodeQemu
from ..cluster import Node


def anchor(nodes: Sequence[Node]) -> list[NodeQemu]:
    """They end with their nodes."""
    return [NodeQemu(node, name="anchor", vcpus=1, options=["-S", "-m", "16"]) for node in nodes]
