"""What a PE's execution part needs of the machine around it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from realmkit.arch.events import EventHub
from realmkit.arch.pas import SecurityState
from realmkit.devices.gic import CpuInterface, VirtualCpuInterface
from realmkit.machine.context import CpuContext
from realmkit.machine.memory import PhysicalMemory
from realmkit.machine.port import Bus, ExceptionInfo, ExceptionKind
from realmkit.machine.walk import Mmu

if TYPE_CHECKING:
    from realmkit.machine.core.cpu import Cpu


Taken = tuple[int, int, SecurityState, int, int, ExceptionKind, int, int, int, tuple[int, ...]]
"""An exception: tick, PE, security state, source and target level, kind, ESR, FAR, PC, and X0-X4 of an SMC to EL3."""
History = deque[Taken]


class CpuServices(Protocol):
    """The machine as one PE's execution part sees it."""

    memory: PhysicalMemory
    events: EventHub
    history: History
    """The last exceptions of all PEs, always kept: what a person needs when code ends badly."""
    physical: CpuInterface

    def mmu(self, state: SecurityState) -> Mmu:
        """Translation for a security state."""

    def bus(self, state: SecurityState) -> Bus:
        """Device accesses of a security state."""

    def virtual(self, ctx: CpuContext) -> VirtualCpuInterface:
        """The virtual GIC CPU interface of a context."""

    def identification(self, ctx: CpuContext, name: str) -> int:
        """An identification register as the context's own EL2 or EL1 reads it; unknown ones are zero."""

    def broadcast_tlbi(
        self, ctx: CpuContext, page: int | None = None, asid: int | None = None, last_level: bool = False
    ) -> None:
        """TLBI by EL1: forget translations of a context's virtual machine on all PEs."""

    def broadcast_tlbi_el2(self) -> None:
        """TLBI by Non-secure EL2: forget its translations, and those of its virtual machines, on all PEs."""

    def broadcast_ic(self, pa: int | None, ctx: CpuContext) -> None:
        """IC: code of a granule, or of the virtual machine of ``ctx``, goes on all PEs before it can run again."""

    def sync(self, cpu: Cpu) -> None:
        """Bring timer signals up to date before the GIC is looked at."""

    def watch_code(self, pa: int) -> None:
        """A granule is about to be executed: report when a bus writes to it (:meth:`Cpu.forget_code`)."""

    def missing_device(self, pa: int, size: int, write: bool, pc: int, register: int) -> None:
        """Software accessed an address where nothing answers."""

    def trap(self, cpu: Cpu, ctx: CpuContext, exc: ExceptionInfo, target_el: int) -> bool:
        """An exception for Python software at EL2 or EL3: whether the same context goes on at once."""
