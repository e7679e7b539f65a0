"""A guest that runs: its VCPUs, its emulated hardware, and how its exits are served.

Realms and plain VMs differ in how a VCPU is entered and in who owns memory; everything else is here, once. What a VCPU
left for is an :class:`~realmkit.host.exits.Exit`: RmiRecExit of a Realm, and the same record made by the Host for a VM.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from realmkit.arch import psci
from realmkit.arch.errors import RealmkitError
from realmkit.arch.esr import (
    DABT_ISV,
    DABT_SAS_MAX,
    DABT_SAS_SHIFT,
    DABT_STATUS,
    DABT_WNR,
    FSC_EXTERNAL,
    ISS_SYSREG,
    Ec,
    exception_class,
)
from realmkit.arch.gic import GROUP0, GROUP1
from realmkit.arch.rmi import ENTER_EMUL_MMIO, ENTER_INJECT_SEA, ENTER_TRAP_WFI, ExitReason
from realmkit.arch.sysregs import ENCODINGS
from realmkit.host.exits import Exit
from realmkit.host.guest import GuestDevices
from realmkit.host.interrupts import ListRegisters, drive_timers
from realmkit.host.registers import ShownRegisters

_NO_GPRS: Final = (0,) * 31
_OTHER_GPRS: Final = _NO_GPRS[1:]
_SYNC: Final = int(ExitReason.SYNC)
_PSCI_OFF: Final = frozenset({psci.SYSTEM_OFF, psci.SYSTEM_RESET})
_PSCI_SUSPEND: Final = frozenset({psci.CPU_SUSPEND, psci.CPU_SUSPEND_32})
_PSCI_ON: Final = frozenset({psci.CPU_ON, psci.CPU_ON_32})
_EXTERNAL_ABORTS: Final = range(FSC_EXTERNAL, FSC_EXTERNAL + 8)
_SGI_GROUPS: Final = {
    ENCODINGS["ICC_SGI1R_EL1"]: GROUP1,
    ENCODINGS["ICC_SGI0R_EL1"]: GROUP0,
}
"""Registers that generate SGIs. ICC_ASGI1R_EL1 is for the other security state, which no guest has."""


class Outcome(Enum):
    """How a run of a guest ended."""

    POWERED_OFF = "powered-off"
    RESET = "reset"
    MAX_TICKS = "max-ticks"
    STUCK = "stuck"
    """No VCPU will ever run again."""
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class RunResult:
    """End of a run, with the reason in words."""

    outcome: Outcome
    reason: str


class GuestFailedError(RealmkitError):
    """The guest cannot go on: the message says what it did."""


@dataclass(slots=True)
class Vcpu:
    """A VCPU: its interrupts, its state as the Host knows it, and what the next entry hands in."""

    index: int
    mpidr: int
    lists: ListRegisters
    on: bool
    flags: int = 0
    """RmiRecEnter flags of the next entry (RMI_ENTER_*), beside those that are always set."""
    gprs: tuple[int, ...] = _NO_GPRS
    """RmiRecEnter gprs of the next entry."""
    yielded: bool = False
    """It has executed WFI in this slice: whether it sleeps or not, it has nothing urgent to do."""
    waiting: bool = False
    """In WFI or PSCI CPU_SUSPEND."""
    wake_at: int | None = None
    """Tick at which its timer fires."""
    exits: int = 0
    turn: int = 0
    """When it last got the PE."""

    def wait(self) -> None:
        """Let it sleep until an interrupt, unless one is there to be taken."""
        self.yielded = True
        self.waiting = not self.lists.signals()


class RunningGuest(ABC):
    """A built guest with its devices and VCPUs.

    Hooks are for observers and hostile Hosts, called with the guest, the VCPU and, after an exit, its record:
    ``before_entry`` before the entry is prepared (``vcpu.flags``, ``vcpu.gprs``, the GIC and memory may be changed),
    ``after_exit`` before the exit is served.
    """

    def __init__(self, name: str, devices: GuestDevices, vcpus: list[Vcpu]) -> None:
        self.name = name
        """What messages call the guest: "the Realm", "the VM"."""
        self.devices = devices
        self.vcpus = vcpus
        self.result: RunResult | None = None
        self.before_entry: list[Callable[[Any, Vcpu], None]] = []
        self.after_exit: list[Callable[[Any, Vcpu, Exit], None]] = []
        self._registers = ShownRegisters(self.show, self.hide)

    # ---- what kinds of guests differ in ----

    @abstractmethod
    def enter(self, vcpu: Vcpu, flags: int, gprs: tuple[int, ...], hcr: int, lrs: tuple[int, ...]) -> Exit:
        """Run a VCPU until it exits; arguments are the fields of RmiRecEnter."""

    @abstractmethod
    def serve_fault(self, ipa: int) -> int | None:
        """Memory for an access that found none: None when it is there now, else the guest address of a device.

        Raises GuestFailedError when the guest cannot go on.
        """

    @abstractmethod
    def complete_psci(self, caller: Vcpu, target: Vcpu) -> None:
        """Carry out CPU_ON or answer AFFINITY_INFO."""

    @abstractmethod
    def serve_special(self, vcpu: Vcpu, record: Exit) -> None:
        """Serve an exit reason that only this kind of guest has."""

    @abstractmethod
    def show(self, address: int, page: bytes) -> None:
        """Let the guest read a page of registers at a guest address, and not write it."""

    @abstractmethod
    def hide(self, address: int) -> None:
        """The opposite of :meth:`show`."""

    @abstractmethod
    def destroy(self) -> None:
        """Give back all memory."""

    # ---- running ----

    def run_once(self, vcpu: Vcpu, now: int) -> bool:
        """Enter a VCPU and serve its exit: True when the exit was a physical interrupt, which is the caller's."""
        self.devices.poll(now)
        self._registers.refresh()
        for hook in self.before_entry:
            hook(self, vcpu)
        hcr, lrs = vcpu.lists.load()
        flags, gprs = vcpu.flags | ENTER_TRAP_WFI, vcpu.gprs
        vcpu.flags, vcpu.gprs = 0, _NO_GPRS
        record = self.enter(vcpu, flags, gprs, hcr, lrs)
        vcpu.exits += 1
        vcpu.lists.sync(record.lrs, record.vmcr)
        drive_timers(self.devices.gic, vcpu.index, record.cntv_ctl, record.cntp_ctl)
        vcpu.wake_at = record.next_timer()
        for exit_hook in self.after_exit:
            exit_hook(self, vcpu, record)
        reason = record.reason
        if reason == _SYNC:
            self._serve_sync(vcpu, record)
        elif reason in (ExitReason.IRQ, ExitReason.FIQ):
            return True
        elif reason == ExitReason.PSCI:
            self._serve_psci(vcpu, record)
        else:
            self.serve_special(vcpu, record)
        return False

    def is_ready(self, vcpu: Vcpu, now: int) -> bool:
        """Whether a VCPU has something to do."""
        if not vcpu.on:
            return False
        if vcpu.waiting and (vcpu.lists.signals() or (vcpu.wake_at is not None and vcpu.wake_at <= now)):
            vcpu.waiting = False
        return not vcpu.waiting

    # ---- exits ----

    def _serve_sync(self, vcpu: Vcpu, record: Exit) -> None:
        match exception_class(record.esr):
            case Ec.DABT_LOWER | Ec.IABT_LOWER:
                self._serve_abort(vcpu, record)
            case Ec.WFX:
                vcpu.wait()
            case Ec.SYSREG:
                self._serve_register(vcpu, record)
            case other:
                raise GuestFailedError(f"{self.name} left with an exception that nobody serves, class {other:#x}")

    def _serve_register(self, vcpu: Vcpu, record: Exit) -> None:
        """Writes that generate SGIs; others have no effect."""
        get = ISS_SYSREG.get
        esr = record.esr
        place = (get(esr, "Op0"), get(esr, "Op1"), get(esr, "CRn"), get(esr, "CRm"), get(esr, "Op2"))
        group = _SGI_GROUPS.get(place)
        if group is not None and not get(esr, "READ"):
            self.devices.gic.send_sgi(vcpu.index, record.gprs[0], group)

    def _serve_abort(self, vcpu: Vcpu, record: Exit) -> None:
        if record.esr & DABT_STATUS in _EXTERNAL_ABORTS:
            return  # the guest has been told of it
        address = self.serve_fault(record.fault_ipa)
        if address is not None:
            self._serve_device(vcpu, record, address)

    def _serve_device(self, vcpu: Vcpu, record: Exit, address: int) -> None:
        """MMIO emulation; an access to nothing takes a synchronous external abort."""
        esr = record.esr
        size = 1 << (esr >> DABT_SAS_SHIFT & DABT_SAS_MAX)
        write = esr & DABT_WNR
        window = self.devices.find(address, size) if esr & DABT_ISV else None
        if window is None:
            way = "write to" if write else "read from"
            self.devices.remark(f"{way} guest address {address:#x}, where no device is")
            vcpu.flags |= ENTER_INJECT_SEA
            return
        self._registers.accessed(window)
        offset = address - window.base
        mask = (1 << 8 * size) - 1
        if write:
            window.device.write(offset, size, record.gprs[0] & mask)
        else:
            vcpu.gprs = (window.device.read(offset, size) & mask, *_OTHER_GPRS)
        vcpu.flags |= ENTER_EMUL_MMIO

    def _serve_psci(self, vcpu: Vcpu, record: Exit) -> None:
        fid = record.gprs[0]
        if fid in _PSCI_OFF:
            off = fid == psci.SYSTEM_OFF
            outcome = Outcome.POWERED_OFF if off else Outcome.RESET
            self.result = RunResult(outcome, f"{self.name} called PSCI {'SYSTEM_OFF' if off else 'SYSTEM_RESET'}")
        elif fid == psci.CPU_OFF:
            vcpu.on = vcpu.waiting = False
        elif fid in _PSCI_SUSPEND:
            vcpu.wait()
        else:
            target = next((v for v in self.vcpus if v.mpidr == record.gprs[1]), None)
            if target is None:
                raise GuestFailedError(f"{self.name} made a PSCI call for MPIDR {record.gprs[1]:#x}, which no VCPU has")
            self.complete_psci(vcpu, target)
            if fid in _PSCI_ON and not target.on:
                target.on, target.waiting = True, False


@dataclass(slots=True)
class Turns:
    """Fair order of VCPUs: the one that has waited longest comes first."""

    _count: int = field(default=0)

    def next(self, guests: list[RunningGuest], now: int) -> tuple[RunningGuest, Vcpu, bool] | None:
        """Who gets the PE now, and whether others want it too; None when all wait."""
        ready = [(guest, vcpu) for guest in guests for vcpu in guest.vcpus if guest.is_ready(vcpu, now)]
        if not ready:
            return None
        guest, vcpu = min(ready, key=_turn)
        self._count += 1
        vcpu.turn = self._count
        return guest, vcpu, len(ready) > 1


def _turn(candidate: tuple[RunningGuest, Vcpu]) -> int:
    return candidate[1].turn
