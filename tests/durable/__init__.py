"""Handoffs whose programs die: real agents, VMMs and tscctl, each a process of its own, on simulated hosts."""
