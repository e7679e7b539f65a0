"""The machine: memory, devices and PEs of a platform, joined, with the software of EL3 and R-EL2 installed."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from realmkit.arch.errors import InternalError
from realmkit.arch.events import EventHub
from realmkit.arch.gic import PPI_MAINTENANCE
from realmkit.arch.pas import GRANULE_SHIFT, GRANULE_SIZE, Pas, SecurityState
from realmkit.arch.time import CHARGE_EXIT
from realmkit.devices.gic import CpuInterface, VirtualCpuInterface
from realmkit.machine.board import Board
from realmkit.machine.bus import CheckedBus, DeviceMap, Interconnect
from realmkit.machine.core import Cpu, id_registers, timers
from realmkit.machine.core.services import History
from realmkit.machine.dma import DmaMaster
from realmkit.machine.gpc import GranuleProtection
from realmkit.machine.memory import PhysicalMemory
from realmkit.machine.pe import Pe
from realmkit.machine.platform import Platform
from realmkit.machine.port import CpuContext, El2Software, El3Software, ExceptionInfo
from realmkit.machine.scheduler import Scheduler
from realmkit.machine.walk import Mmu

HISTORY: Final = 16
"""Exceptions that the machine remembers."""
Output = Callable[[int, bytes], None]
_MAINTENANCE: Final = 1 << PPI_MAINTENANCE


def _discard(uart: int, data: bytes) -> None:
    """Output of UARTs that nobody reads."""


@dataclass(frozen=True, slots=True)
class MissingDevice:
    """An access where nothing answers: address, size, direction, and the PC and register of the instruction."""

    pa: int
    size: int
    write: bool
    pc: int
    register: int

    def __str__(self) -> str:
        verb, where = ("write", "from") if self.write else ("read", "to")
        return (
            f"{verb} of {self.size} bytes at {self.pa:#x} {where} X{self.register} by the instruction at {self.pc:#x}"
        )


class Machine:
    """One emulated board.

    ``platform`` describes it. ``output(uart, bytes)`` gets what software prints on the board's UARTs. After
    :meth:`install` the Monitor and the RMM are there; booting them is the composition's business.
    """

    def __init__(self, platform: Platform, *, events: EventHub | None = None, output: Output = _discard) -> None:
        self.platform = platform
        self.events = EventHub() if events is None else events
        self.memory = PhysicalMemory(platform.ram())
        self.gpc = GranuleProtection(self.memory, platform.pa_bits)
        self.interconnect = Interconnect(self.memory, self.gpc, DeviceMap())
        self.buses: dict[SecurityState, CheckedBus] = {s: self.interconnect.bus(s) for s in SecurityState}
        self.mmus: dict[SecurityState, Mmu] = {s: Mmu(self.buses[s], self.gpc) for s in SecurityState}
        self.board = Board(platform, self.interconnect.devices, self, output, self._watchdog_reset)
        self.id_registers: Mapping[str, int] = id_registers.values()
        self.smc_charge = CHARGE_EXIT
        self.secure: CpuContext | None = None
        """Code of the Secure world, of which the machine has one."""
        self.contended = False
        """More than one PE wants to run."""
        self.stopping = False
        self.stop_reason = ""
        self.reset_requested = ""
        self.scheduler = Scheduler(self)
        self.history: History = deque(maxlen=HISTORY)
        """The last exceptions of all PEs."""
        self.last_missing: MissingDevice | None = None
        """The last access of running code to an address where nothing answers."""
        self._active: Pe | None = None
        self.pes = tuple(Pe(self, n, Cpu(n, MachineServices(self, n))) for n in range(len(platform.mpidrs)))
        self._host_start: Callable[[int, int, int], None] | None = None
        self.gpc.listeners.append(self._granule_changed)
        self.interconnect.code_listeners.append(self._code_changed)

    # ---- composition ----

    def install(self, monitor: El3Software, realm_el2: El2Software) -> None:
        """Put the Monitor at EL3 and the RMM at R-EL2."""
        for pe in self.pes:
            pe.install(monitor, realm_el2)

    def dma(self, name: str, pas: Pas) -> DmaMaster:
        """A new bus master whose accesses carry ``pas``; NS masters belong to the Non-secure state."""
        state = SecurityState(pas)
        return DmaMaster(name, pas, self.buses[state])

    # ---- time ----

    def now(self) -> int:
        """Virtual time of whoever runs now: what devices see."""
        pe = self._active
        return self.pes[0].cpu.now() if pe is None else pe.cpu.now()

    def advance(self, pe: Pe) -> None:
        """Bring devices and timer signals up to the time of a PE that is about to run."""
        self._active = pe
        event = self.board.next_event()
        if event is not None and event <= pe.cpu.time:
            self.board.update(pe.cpu.time)
        self._drive_timers(pe)

    def _drive_timers(self, pe: Pe) -> None:
        host = pe.image if pe.image is not None else pe.host_context
        running = pe.current if pe.current is not None else host
        now = pe.cpu.time
        lines = timers.lines(host, timers.EL2_TIMERS, now) | timers.lines(running, timers.EL1_TIMERS, now)
        if running.ich.hcr & 1 and pe.cpu.services.virtual(running).maintenance_pending():
            lines |= _MAINTENANCE
        self.board.gic.set_ppis(pe.index, timers.LINES | _MAINTENANCE, lines)

    def next_event(self, pe: Pe) -> int | None:
        """Tick of the next thing that may interrupt a PE: its timers, or a device."""
        host = pe.image if pe.image is not None else pe.host_context
        running = pe.current if pe.current is not None else host
        best = self.board.next_event()
        now = pe.cpu.now()
        for deadline in (
            timers.deadline(host, timers.EL2_TIMERS, now),
            timers.deadline(running, timers.EL1_TIMERS, now),
        ):
            if deadline is not None and (best is None or deadline < best):
                best = deadline
        return best

    def interrupt_pending(self, pe: Pe) -> bool:
        """Whether a physical interrupt for the Host is pending on a PE."""
        self.advance(pe)
        return self.board.interfaces[pe.index].interrupted()

    def wakes(self, pe: Pe) -> bool:
        """Whether a PE that waits for an interrupt has one."""
        self._drive_timers(pe)
        if pe.parked and pe.current is not None:
            return pe.cpu.takes(pe.current, not pe.has_own_el2(pe.current))
        if self.board.interfaces[pe.index].interrupted():
            return True
        return pe.current is not None and pe.cpu.wakes(pe.current)

    # ---- maintenance ----

    def _granule_changed(self, pa: int, size: int) -> None:
        if size == GRANULE_SIZE:
            translated, granule = self.gpc.translated, pa >> GRANULE_SHIFT
            if granule not in translated:
                return
            translated.discard(granule)
        for mmu in self.mmus.values():
            mmu.invalidate_pa(pa, size)
        for pe in self.pes:
            pe.cpu.forget_pa(pa, size)

    def _code_changed(self, pa: int) -> None:
        for pe in self.pes:
            pe.cpu.forget_code(pa)

    def tlbi_vmid(self, state: SecurityState, vmid: int) -> None:
        """Forget translations of a VMID on all PEs."""
        self.mmus[state].invalidate_vmid(vmid)
        for pe in self.pes:
            pe.cpu.forget_vmid(vmid)

    def tlbi_ipa(self, state: SecurityState, vmid: int, ipa: int, size: int) -> None:
        """Forget stage 2 translations of a range on all PEs."""
        self.mmus[state].invalidate_ipa(vmid, ipa, size)
        for pe in self.pes:
            pe.cpu.forget_vmid(vmid)

    def release(self, ctx: CpuContext) -> None:
        """A context will not run again."""
        for pe in self.pes:
            pe.cpu.release(ctx)

    # ---- registers of a Python Host ----

    def host_register_read(self, pe: Pe, name: str) -> int:
        """A register of NS-EL2 of this PE."""
        if name.startswith("ICC_"):
            self.advance(pe)
            return self.board.interfaces[pe.index].read(name)
        if name in self.id_registers:
            return self.id_registers[name]
        if name in ("CNTPCT_EL0", "CNTVCT_EL0"):
            return pe.cpu.now()
        if name == "MPIDR_EL1":
            return self.platform.mpidr(pe.index)
        return pe.host_context.read(name)

    def host_register_write(self, pe: Pe, name: str, value: int) -> None:
        """Write a register of NS-EL2 of this PE."""
        if name.startswith("ICC_"):
            self.board.interfaces[pe.index].write(name, value)
        else:
            pe.host_context.write(name, value)
            if name.startswith("CNT"):
                self._drive_timers(pe)

    # ---- power ----

    def on_power_up(self, start: Callable[[int, int, int], None]) -> None:
        """``start(pe, entry, context_id)`` makes what a PE runs when PSCI CPU_ON powers it up."""
        self._host_start = start

    def power_on(self, target: int, entry: int, context_id: int, now: int) -> None:
        """PSCI CPU_ON."""
        if self._host_start is None:
            raise InternalError("CPU_ON on a machine whose Host was not told how to start a PE")
        pe = self.pes[target]
        pe.cpu.time = max(pe.cpu.time, now)
        pe.idle = False
        pe.powered = True
        self._host_start(target, entry, context_id)

    def stop(self, reason: str) -> None:
        """End the run."""
        if not self.stopping:
            self.stopping = True
            self.stop_reason = reason
            if self._active is not None:
                self._active.cpu.break_slice()

    def request_reset(self, cause: str = "system-reset") -> None:
        """Reset the machine when the current slice is over."""
        self.reset_requested = cause
        self.stop("reset")

    def _watchdog_reset(self, cause: str) -> None:
        self.request_reset(cause)

    def run(self, max_ticks: int | None = None) -> str:
        """Run a machine whose Host is an image until it stops; returns the reason."""
        self.scheduler.run(max_ticks)
        return self.stop_reason


class MachineServices:
    """The machine as one PE's execution part sees it (:class:`realmkit.machine.core.services.CpuServices`)."""

    def __init__(self, machine: Machine, index: int) -> None:
        self._machine = machine
        self._index = index
        self._virtual = VirtualCpuInterface(CpuContext().ich, self._deactivate)
        self.memory = machine.memory
        self.events = machine.events
        self.history = machine.history
        self.physical: CpuInterface = machine.board.interfaces[index]

    def _deactivate(self, intid: int) -> None:
        self._machine.board.gic.deactivate(self._index, intid)

    def mmu(self, state: SecurityState) -> Mmu:
        """Translation for a security state."""
        return self._machine.mmus[state]

    def bus(self, state: SecurityState) -> CheckedBus:
        """Device and memory accesses of a security state."""
        return self._machine.buses[state]

    def virtual(self, ctx: CpuContext) -> VirtualCpuInterface:
        """The virtual GIC CPU interface of a context."""
        self._virtual.ich = ctx.ich
        return self._virtual

    def identification(self, ctx: CpuContext, name: str) -> int:
        """An identification register; the affinity is the context's where EL2 has set one."""
        if name == "MPIDR_EL1":
            return ctx.regs.get("VMPIDR_EL2") or self._machine.platform.mpidr(self._index)
        return self._machine.id_registers.get(name, 0)

    def broadcast_tlbi(
        self, ctx: CpuContext, page: int | None = None, asid: int | None = None, last_level: bool = False
    ) -> None:
        """Forget translations of a context's virtual machine on all PEs."""
        root = ctx.read("VTTBR_EL2")
        for pe in self._machine.pes:
            if pe.cpu.engines:
                pe.cpu.forget_stage1(ctx, root, page, asid, last_level)

    def broadcast_tlbi_el2(self) -> None:
        """TLBI by an image at EL2."""
        machine = self._machine
        machine.mmus[SecurityState.NS].invalidate_all()
        machine.mmus[SecurityState.SECURE].invalidate_all()
        for pe in machine.pes:
            for ctx in (pe.image, machine.secure):
                if ctx is not None:
                    pe.cpu.forget_translations(ctx)

    def broadcast_ic(self, pa: int | None, ctx: CpuContext) -> None:
        """IC: code of a granule, or all of a context's virtual machine, goes on all PEs."""
        for pe in self._machine.pes:
            if not pe.cpu.engines:
                continue
            if pa is None:
                pe.cpu.forget_all_code(ctx.read("VTTBR_EL2"))
            else:
                pe.cpu.forget_code(pa)

    def sync(self, cpu: Cpu) -> None:
        """Bring timer signals up to date before the GIC is looked at."""
        self._machine.advance(self._machine.pes[cpu.index])

    def watch_code(self, pa: int) -> None:
        """Translated code of a granule lives until a bus writes to it."""
        self._machine.interconnect.watch_code(pa)

    def missing_device(self, pa: int, size: int, write: bool, pc: int, register: int) -> None:
        """Remember the last access to nothing: it names itself when the run ends badly."""
        self._machine.last_missing = MissingDevice(pa, size, write, pc, register)

    def trap(self, cpu: Cpu, ctx: CpuContext, exc: ExceptionInfo, target_el: int) -> bool:
        """An exception for Python software."""
        return self._machine.pes[cpu.index].trap(ctx, exc, target_el)
