"""Execution of AArch64 code on Unicorn."""

from realmkit.machine.core.cpu import Cpu, Stop, StopKind

__all__ = ["Cpu", "Stop", "StopKind"]
