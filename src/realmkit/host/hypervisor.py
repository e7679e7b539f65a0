"""The hypervisor at NS-EL2: creates guests, time-slices their VCPUs on one PE, and ends them.

It speaks SMC and reads and writes Non-secure memory; everything it knows of a Realm it learns from exit records.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from realmkit.arch.errors import RealmkitError
from realmkit.arch.gic import FIRST_SPECIAL, PPI_CNTHP, PPI_CNTP, PPI_CNTV, PPI_MAINTENANCE
from realmkit.arch.plan import LaunchPlan
from realmkit.arch.rmi import ABI_VERSION
from realmkit.host.guest import GuestDevices
from realmkit.host.memory import HostMemory
from realmkit.host.physical_gic import PhysicalGic
from realmkit.host.realm import HostRealm
from realmkit.host.rmi import RmiClient
from realmkit.host.running import GuestFailedError, Outcome, RunningGuest, RunResult, Turns, Vcpu
from realmkit.host.running_realm import RunningRealm
from realmkit.host.running_vm import RunningVm
from realmkit.host.vm import HostVm
from realmkit.machine.port import HostPort

__all__ = [
    "GuestFailedError",
    "Hypervisor",
    "Outcome",
    "RunResult",
    "RunningGuest",
    "RunningRealm",
    "RunningVm",
    "Vcpu",
]

TIME_SLICE: Final = 1_000_000
"""Ticks that a VCPU runs at a stretch while no other wants the PE (10 ms)."""
SHARED_SLICE: Final = 100_000
"""The same while others want it (1 ms): VCPUs that spin until another one goes on must not spin for long."""
_PPIS: Final = (PPI_MAINTENANCE, PPI_CNTHP, PPI_CNTV, PPI_CNTP)
_INTID: Final = 0xFF_FFFF
_VMID_BITS_16: Final = 0b0010


class VmidPool:
    """VMIDs of one translation regime; 0 stays unused."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used: set[int] = set()

    def take(self) -> int:
        """The lowest VMID that is free."""
        vmid = next((n for n in range(1, self._limit) if n not in self._used), None)
        if vmid is None:
            raise RealmkitError(f"all {self._limit - 1} VMIDs are in use: destroy a guest first")
        self._used.add(vmid)
        return vmid

    def give_back(self, vmid: int) -> None:
        """The guest of this VMID is gone."""
        self._used.discard(vmid)


class Hypervisor:
    """Owns the Host's memory and one PE.

    ``ranges``: (base, size) of Non-secure DRAM that nothing else uses, zero at power-on; ``gic``: where the platform
    has its distributor and redistributors.
    """

    def __init__(self, port: HostPort, ranges: Iterable[tuple[int, int]], gic: PhysicalGic) -> None:
        self.port = port
        self.rmi = RmiClient(port)
        self.memory = HostMemory(self.rmi, ranges)
        wide = port.id_register("ID_AA64MMFR1_EL1") >> 4 & 0xF == _VMID_BITS_16
        self._realm_vmids = VmidPool(1 << (16 if wide else 8))
        self._vmids = VmidPool(1 << (16 if wide else 8))
        self._owned: dict[RunningGuest, tuple[VmidPool, int]] = {}
        self._turns = Turns()
        self.stop_requested = False
        """Set from outside (Ctrl-C): the run ends after the present exit."""
        self.on_idle: Callable[[int | None], bool] | None = None
        """Called when all VCPUs wait, with the tick of the next timer (None: there is none); True if that has changed.

        A program with a person in front of it waits for input here; without it, virtual time jumps to the timer.
        """
        self.rmi.version(ABI_VERSION)
        gic.enable(port, _PPIS)

    # ---- guests ----

    def create(self, plan: LaunchPlan, devices: GuestDevices) -> RunningRealm:
        """Build a Realm from a plan and activate it. Raises RmiError when the RMM refuses a step.

        Whatever goes wrong, nothing is left then: every granule is back in the Non-secure PAS and free.
        """
        vmid = self._realm_vmids.take()
        realm = HostRealm(self.rmi, self.memory, plan.realm, vmid, plan.ram)
        try:
            realm.create()
            realm.build(plan)
            running = RunningRealm(realm, devices)
        except BaseException:
            realm.destroy()
            self._realm_vmids.give_back(vmid)
            raise
        self._owned[running] = self._realm_vmids, vmid
        return running

    def create_vm(self, plan: LaunchPlan, devices: GuestDevices) -> RunningVm:
        """Build a plain VM from the plan of a Realm: the same memory, pages and VCPUs, without protection."""
        vmid = self._vmids.take()
        vm = HostVm(self.port, self.memory, plan.realm.ipa_width, vmid, plan.ram)
        try:
            vm.build(plan)
            running = RunningVm(vm, devices)
        except BaseException:
            vm.destroy()
            self._vmids.give_back(vmid)
            raise
        self._owned[running] = self._vmids, vmid
        return running

    def destroy(self, guest: RunningGuest) -> None:
        """Destroy a guest that does not run; its memory is the Host's again. A second call has no effect."""
        if guest in self._owned:
            guest.destroy()
            pool, vmid = self._owned.pop(guest)
            pool.give_back(vmid)

    # ---- running ----

    def stop(self) -> None:
        """End the run after the present exit."""
        self.stop_requested = True

    def run(self, guest: RunningGuest, *, max_ticks: int | None = None) -> RunResult:
        """Run one guest to its end, at most to tick ``max_ticks``."""
        return self.run_all([guest], max_ticks=max_ticks)[0]

    def run_all(self, guests: Sequence[RunningGuest], *, max_ticks: int | None = None) -> list[RunResult]:
        """Time-slice guests on this PE until each has ended."""
        while live := [guest for guest in guests if guest.result is None]:
            if self.stop_requested:
                self._end(live, Outcome.INTERRUPTED, "interrupted")
                break
            now = self.port.now()
            if max_ticks is not None and now >= max_ticks:
                self._end(live, Outcome.MAX_TICKS, f"still running after {max_ticks} ticks")
                break
            turn = self._turns.next(live, now)
            if turn is None:
                self._wait(live, max_ticks)
            else:
                guest, vcpu, shared = turn
                end = now + (SHARED_SLICE if shared else TIME_SLICE)
                self._run_slice(guest, vcpu, end if max_ticks is None else min(end, max_ticks))
        return [guest.result or RunResult(Outcome.FAILED, "did not run") for guest in guests]

    @staticmethod
    def _end(live: Iterable[RunningGuest], outcome: Outcome, reason: str) -> None:
        for guest in live:
            guest.result = RunResult(outcome, reason)

    def _run_slice(self, guest: RunningGuest, vcpu: Vcpu, limit: int) -> None:
        """Enter one VCPU until its slice is over, it waits, or the guest ends."""
        port = self.port
        self._set_timer(limit)
        vcpu.yielded = False
        try:
            while guest.result is None and vcpu.on and not vcpu.waiting:
                if guest.run_once(vcpu, port.now()):
                    # Its own timer, or an interrupt that it has ended, does not cost a VCPU the rest of its slice:
                    # with many VCPUs it would get no further between the ticks of its timer.
                    self._take_interrupts()
                if self.stop_requested or vcpu.yielded or port.now() >= limit:
                    break
        except RealmkitError as error:
            guest.result = RunResult(Outcome.FAILED, str(error))
        if guest.result is None and not vcpu.on and not any(other.on for other in guest.vcpus):
            guest.result = RunResult(Outcome.STUCK, "all VCPUs are off")

    def _wait(self, live: list[RunningGuest], max_ticks: int | None) -> None:
        """All VCPUs wait: sleep until the first timer."""
        wakes = [v.wake_at for guest in live for v in guest.vcpus if v.on and v.wake_at is not None]
        until = min(wakes) if wakes else None
        if self.on_idle is not None and self.on_idle(until):
            for guest in live:
                guest.devices.poll(self.port.now())
            return
        if until is None:
            self._end(live, Outcome.STUCK, "all VCPUs wait and no timer is set")
            return
        if max_ticks is not None:
            until = min(until, max_ticks)
        self._set_timer(until)
        while self.port.now() < until and not self.stop_requested:
            self.port.wait_for_interrupt()
            self._take_interrupts()

    # ---- physical interrupts ----

    def _set_timer(self, at: int) -> None:
        self.port.write("CNTHP_CVAL_EL2", at)
        self.port.write("CNTHP_CTL_EL2", 1)

    def _take_interrupts(self) -> None:
        """Acknowledge physical interrupts; the timer that preempted is switched off."""
        port = self.port
        while (intid := port.read("ICC_IAR1_EL1") & _INTID) < FIRST_SPECIAL:
            if intid == PPI_CNTHP:
                port.write("CNTHP_CTL_EL2", 2)
            port.write("ICC_EOIR1_EL1", intid)
