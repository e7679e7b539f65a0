"""The hypervisor at NS-EL2: runs the VCPUs of Realms on one PE and serves their exits.

It speaks SMC and reads and writes Non-secure memory; everything it knows of a Realm it learns from exit records.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum

from realmkit.arch import psci
from realmkit.arch.errors import RealmkitError
from realmkit.arch.esr import ISS_DABT, Ec, exception_class
from realmkit.arch.gic import PPI_CNTHP, PPI_CNTP, PPI_CNTV
from realmkit.arch.plan import LaunchPlan
from realmkit.arch.psci import PsciStatus
from realmkit.arch.rmi import (
    ENTER_EMUL_MMIO,
    ENTER_INJECT_SEA,
    ENTER_RIPAS_REJECT,
    ENTER_TRAP_WFI,
    ExitReason,
    Ripas,
)
from realmkit.host.exits import Exit, read_exit, write_enter
from realmkit.host.guest import GuestDevices
from realmkit.host.interrupts import ListRegisters, drive_timers
from realmkit.host.memory import HostMemory
from realmkit.host.physical_gic import PhysicalGic
from realmkit.host.realm import HostRealm, RecHandle
from realmkit.host.rmi import RmiClient
from realmkit.machine.port import El2Port

TIME_SLICE = 1_000_000
"""Ticks that a VCPU runs before the next one gets the PE (10 ms)."""
_NO_GPRS = (0,) * 31
_PSCI_OFF = frozenset({psci.SYSTEM_OFF, psci.SYSTEM_RESET})


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


@dataclass(slots=True)
class Vcpu:
    """A VCPU: its REC, its list registers, and what the next entry hands in."""

    rec: RecHandle
    lists: ListRegisters
    flags: int = 0
    gprs: tuple[int, ...] = _NO_GPRS
    waiting: bool = False
    """In WFI."""
    wake_at: int | None = None
    """Tick at which its timer fires."""
    exits: int = 0


Hook = Callable[["RunningRealm", Vcpu], None]
ExitHook = Callable[["RunningRealm", Vcpu, Exit], None]


@dataclass(slots=True)
class RunningRealm:
    """A built Realm with its devices and VCPUs.

    ``before_entry`` and ``after_exit`` are hooks for observers and for hostile Hosts.
    """

    realm: HostRealm
    devices: GuestDevices
    vcpus: list[Vcpu] = field(default_factory=list)
    result: RunResult | None = None
    before_entry: list[Hook] = field(default_factory=list)
    after_exit: list[ExitHook] = field(default_factory=list)


class Hypervisor:
    """Owns the Host's memory and one PE.

    ``ranges``: (base, size) of Non-secure DRAM; ``gic``: where the platform has its distributor and redistributors.
    """

    def __init__(self, port: El2Port, ranges: Iterable[tuple[int, int]], gic: PhysicalGic) -> None:
        self.port = port
        self.rmi = RmiClient(port)
        self.memory = HostMemory(self.rmi, ranges)
        self._gic = gic
        self._next_vmid = 1
        self.stop_requested = False
        """Set from outside (Ctrl-C): the run ends after the present exit."""
        self.rmi.version(0x1_0000)
        gic.enable(port, (PPI_CNTHP, PPI_CNTV, PPI_CNTP))

    # ---- Realms ----

    def create(self, plan: LaunchPlan, devices: GuestDevices) -> RunningRealm:
        """Build a Realm from a plan and activate it. Raises RmiError when the RMM refuses a step; nothing is left then."""
        realm = HostRealm(self.rmi, self.memory, plan.realm, self._next_vmid, plan.ram)
        self._next_vmid += 1
        try:
            realm.create()
            realm.build(plan)
        except RealmkitError:
            realm.destroy()
            raise
        running = RunningRealm(realm, devices)
        running.vcpus = [Vcpu(rec, ListRegisters(devices.gic, rec.index)) for rec in realm.recs]
        return running

    def destroy(self, running: RunningRealm) -> None:
        """Destroy a Realm that does not run; every granule returns to the Non-secure PAS."""
        running.realm.destroy()

    # ---- running ----

    def run(self, running: RunningRealm, *, max_ticks: int | None = None) -> RunResult:
        """Run one Realm to its end, at most to tick ``max_ticks``."""
        return self.run_all([running], max_ticks=max_ticks)[0]

    def run_all(self, realms: list[RunningRealm], *, max_ticks: int | None = None) -> list[RunResult]:
        """Time-slice Realms on this PE until each has ended."""
        turn = 0
        while live := [r for r in realms if r.result is None]:
            if self.stop_requested:
                self._end(live, Outcome.INTERRUPTED, "interrupted")
                break
            if max_ticks is not None and self.port.now() >= max_ticks:
                self._end(live, Outcome.MAX_TICKS, f"still running after {max_ticks} ticks")
                break
            ready = [(r, v) for r in live for v in r.vcpus if self._is_ready(r, v)]
            if not ready:
                self._wait(live, max_ticks)
                continue
            running, vcpu = ready[turn % len(ready)]
            turn += 1
            self._run_slice(running, vcpu, len(ready) > 1, max_ticks)
        return [r.result or RunResult(Outcome.FAILED, "did not run") for r in realms]

    @staticmethod
    def _end(live: list[RunningRealm], outcome: Outcome, reason: str) -> None:
        for running in live:
            running.result = RunResult(outcome, reason)

    def _is_ready(self, running: RunningRealm, vcpu: Vcpu) -> bool:
        if not vcpu.rec.on:
            return False
        if not vcpu.waiting:
            return True
        if vcpu.lists.signals() or (vcpu.wake_at is not None and vcpu.wake_at <= self.port.now()):
            vcpu.waiting = False
            return True
        return False

    def _wait(self, live: list[RunningRealm], max_ticks: int | None) -> None:
        """All VCPUs wait: sleep until the first timer."""
        wakes = [v.wake_at for r in live for v in r.vcpus if v.rec.on and v.wake_at is not None]
        for running in live:
            if not any(v.rec.on for v in running.vcpus):
                running.result = RunResult(Outcome.STUCK, "all VCPUs are off")
        if not wakes:
            self._end([r for r in live if r.result is None], Outcome.STUCK, "all VCPUs wait and no timer is set")
            return
        until = min(wakes) if max_ticks is None else min(min(wakes), max_ticks)
        self._set_timer(until)
        while self.port.now() < until:
            self.port.wait_for_interrupt()
            self._take_interrupts()

    def _set_timer(self, at: int) -> None:
        self.port.write("CNTHP_CVAL_EL2", at)
        self.port.write("CNTHP_CTL_EL2", 1)

    def _take_interrupts(self) -> None:
        """Acknowledge physical interrupts; the timer that preempted is switched off."""
        while (intid := self.port.read("ICC_IAR1_EL1") & 0xFF_FFFF) < 1020:
            if intid == PPI_CNTHP:
                self.port.write("CNTHP_CTL_EL2", 2)
            self.port.write("ICC_EOIR1_EL1", intid)

    def _run_slice(self, running: RunningRealm, vcpu: Vcpu, contended: bool, max_ticks: int | None) -> None:
        """Enter one VCPU until its slice is over, it waits, or the Realm ends."""
        end = self.port.now() + TIME_SLICE
        limit = end if max_ticks is None else min(end, max_ticks)
        self._set_timer(limit)
        while True:
            leave = self._enter(running, vcpu)
            if leave or running.result is not None or vcpu.waiting or not vcpu.rec.on or self.stop_requested:
                return
            if self.port.now() >= limit or (contended and self.port.now() >= end):
                return

    def _enter(self, running: RunningRealm, vcpu: Vcpu) -> bool:
        """One RMI_REC_ENTER and the service of its exit: whether the slice is over."""
        bus = self.port.bus
        for hook in running.before_entry:
            hook(running, vcpu)
        hcr, lrs = vcpu.lists.load()
        write_enter(bus, vcpu.rec.run, vcpu.flags | ENTER_TRAP_WFI, vcpu.gprs, hcr, lrs)
        vcpu.flags, vcpu.gprs = 0, _NO_GPRS
        self.rmi.rec_enter(vcpu.rec.pa, vcpu.rec.run)
        record = read_exit(bus, vcpu.rec.run)
        vcpu.exits += 1
        vcpu.lists.sync(record.lrs)
        drive_timers(running.devices.gic, vcpu.rec.index, record.cntv_ctl, record.cntp_ctl)
        vcpu.wake_at = _next_timer(record)
        for exit_hook in running.after_exit:
            exit_hook(running, vcpu, record)
        match record.reason:
            case ExitReason.SYNC:
                self._serve_sync(running, vcpu, record)
            case ExitReason.IRQ | ExitReason.FIQ:
                self._take_interrupts()
                return True
            case ExitReason.PSCI:
                self._serve_psci(running, vcpu, record)
            case ExitReason.RIPAS_CHANGE:
                self._serve_ripas(running, vcpu, record)
            case ExitReason.HOST_CALL:
                vcpu.gprs = running.devices.host_calls(record.imm, record.gprs)
            case _:
                running.result = RunResult(Outcome.FAILED, f"unexpected REC exit {record.reason_name}")
        return False

    # ---- exits ----

    def _serve_sync(self, running: RunningRealm, vcpu: Vcpu, record: Exit) -> None:
        match exception_class(record.esr):
            case Ec.WFX:
                vcpu.waiting = not vcpu.lists.signals()
            case Ec.SYSREG:
                running.devices.gic.send_sgi(vcpu.rec.index, record.gprs[0])
            case Ec.DABT_LOWER | Ec.IABT_LOWER:
                self._serve_abort(running, vcpu, record)
            case other:
                running.result = RunResult(Outcome.FAILED, f"unexpected synchronous exit, class {other:#x}")

    def _serve_abort(self, running: RunningRealm, vcpu: Vcpu, record: Exit) -> None:
        realm = running.realm
        ipa = record.fault_ipa
        if ipa >= realm.unprotected_base:
            self._serve_unprotected(running, vcpu, record, ipa)
        elif not realm.in_ram(ipa):
            running.result = RunResult(Outcome.FAILED, f"the Realm accessed Protected IPA {ipa:#x}, which is not RAM")
        elif not realm.provide(ipa).success:
            running.result = RunResult(
                Outcome.FAILED, f"the Realm accessed IPA {ipa:#x}, whose contents the Host has destroyed"
            )

    def _serve_unprotected(self, running: RunningRealm, vcpu: Vcpu, record: Exit, ipa: int) -> None:
        """MMIO emulation, or a page that the Realm shares and touches for the first time."""
        realm, devices = running.realm, running.devices
        address = ipa - realm.unprotected_base
        if realm.in_ram(address):
            realm.share(ipa)
            return
        esr = record.esr
        size = 1 << ISS_DABT.get(esr, "SAS")
        window = devices.find(address, size) if ISS_DABT.get(esr, "ISV") else None
        if window is None:
            write = "write to" if ISS_DABT.get(esr, "WnR") else "read from"
            devices.unknown.append(f"{write} guest address {address:#x}, where no device is")
            vcpu.flags |= ENTER_INJECT_SEA
            return
        offset = address - window.base
        if ISS_DABT.get(esr, "WnR"):
            window.device.write(offset, size, record.gprs[0] & ((1 << 8 * size) - 1))
        else:
            vcpu.gprs = (window.device.read(offset, size), *_NO_GPRS[1:])
        vcpu.flags |= ENTER_EMUL_MMIO

    def _serve_ripas(self, running: RunningRealm, vcpu: Vcpu, record: Exit) -> None:
        to_ram = record.ripas_value == Ripas.RAM
        if to_ram and not all(running.realm.in_ram(a) for a in (record.ripas_base, record.ripas_top - 1)):
            vcpu.flags |= ENTER_RIPAS_REJECT
            return
        running.realm.change_ripas(vcpu.rec, record.ripas_base, record.ripas_top, to_ram)

    def _serve_psci(self, running: RunningRealm, vcpu: Vcpu, record: Exit) -> None:
        fid = record.gprs[0]
        if fid in _PSCI_OFF:
            off = fid == psci.SYSTEM_OFF
            outcome = Outcome.POWERED_OFF if off else Outcome.RESET
            running.result = RunResult(outcome, f"the Realm called PSCI {'SYSTEM_OFF' if off else 'SYSTEM_RESET'}")
        elif fid == psci.CPU_OFF:
            vcpu.rec.on = False
        elif fid in (psci.CPU_ON, psci.CPU_ON_32, psci.AFFINITY_INFO, psci.AFFINITY_INFO_32):
            self._complete_psci(running, vcpu, record)
        elif fid in (psci.CPU_SUSPEND, psci.CPU_SUSPEND_32):
            vcpu.waiting = not vcpu.lists.signals()

    def _complete_psci(self, running: RunningRealm, vcpu: Vcpu, record: Exit) -> None:
        target = next((v for v in running.vcpus if v.rec.mpidr == record.gprs[1]), None)
        if target is None:
            running.result = RunResult(Outcome.FAILED, f"PSCI call for MPIDR {record.gprs[1]:#x}, which no VCPU has")
            return
        self.rmi.psci_complete(vcpu.rec.pa, target.rec.pa, PsciStatus.SUCCESS)
        if record.gprs[0] in (psci.CPU_ON, psci.CPU_ON_32):
            target.rec.on = True
            target.waiting = False


def _next_timer(record: Exit) -> int | None:
    """Tick at which a timer of the VCPU will assert its interrupt; the past means that it has."""
    deadlines = [
        cval
        for ctl, cval in ((record.cntv_ctl, record.cntv_cval), (record.cntp_ctl, record.cntp_cval))
        if ctl & 3 == 1 and not ctl & 4
    ]
    return min(deadlines) if deadlines else None
