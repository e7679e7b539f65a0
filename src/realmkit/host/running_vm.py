"""A plain VM that runs: what a Host does itself for a guest that no RMM protects.

Exits become the same records that the RMM writes for Realms, so that everything behind them is shared.
"""

from typing import Final

from realmkit.arch import psci, smccc, timer
from realmkit.arch.esr import (
    DABT_SRT_MAX,
    DABT_SRT_SHIFT,
    DABT_WNR,
    ISS_SYSREG,
    Ec,
    exception_class,
    loaded,
)
from realmkit.arch.gic import LIST_REGISTERS
from realmkit.arch.psci import PsciStatus
from realmkit.arch.rmi import ENTER_EMUL_MMIO, ENTER_INJECT_SEA, ExitReason
from realmkit.arch.smccc import MASK64
from realmkit.arch.sysregs import ENCODINGS, NAMES
from realmkit.host import inject
from realmkit.host.exits import Exit
from realmkit.host.guest import GuestDevices
from realmkit.host.interrupts import ListRegisters
from realmkit.host.running import GuestFailedError, RunningGuest, Vcpu
from realmkit.host.vm import HostVm, VmVcpu
from realmkit.machine.port import CpuContext, ExceptionInfo, ExceptionKind

_GICV3_ENABLE: Final = 1
_REASONS: Final = {
    ExceptionKind.IRQ: ExitReason.IRQ,
    ExceptionKind.FIQ: ExitReason.FIQ,
    ExceptionKind.SERROR: ExitReason.SERROR,
}
_SGI_REGISTERS: Final = frozenset(ENCODINGS[name] for name in ("ICC_SGI0R_EL1", "ICC_SGI1R_EL1", "ICC_ASGI1R_EL1"))
_PSCI_EXITS: Final = frozenset(
    {psci.CPU_SUSPEND, psci.CPU_SUSPEND_32, psci.CPU_OFF, psci.SYSTEM_OFF, psci.SYSTEM_RESET}
)
_PSCI_OTHER_VCPU: Final = frozenset({psci.CPU_ON, psci.CPU_ON_32, psci.AFFINITY_INFO, psci.AFFINITY_INFO_32})
_PSCI_ON: Final = frozenset({psci.CPU_ON, psci.CPU_ON_32})
_PSCI_FEATURES: Final = _PSCI_EXITS | _PSCI_OTHER_VCPU | {psci.VERSION, psci.FEATURES, smccc.SMCCC_VERSION}
_EL2_AND_EL3: Final = 0xFF << 8
"""ID_AA64PFR0_EL1.EL2 and EL3: a guest has neither."""
_NO_LISTS: Final = (0,) * (16 - LIST_REGISTERS)


class RunningVm(RunningGuest):
    """A built VM with its devices and VCPUs."""

    def __init__(self, vm: HostVm, devices: GuestDevices) -> None:
        vcpus = [
            Vcpu(index, vcpu.mpidr, ListRegisters(devices.gic, index), vcpu.runnable)
            for index, vcpu in enumerate(vm.vcpus)
        ]
        super().__init__("the VM", devices, vcpus)
        self.vm = vm
        devices.connect(vm.port.bus, vm.dma_page)

    def enter(self, vcpu: Vcpu, flags: int, gprs: tuple[int, ...], hcr: int, lrs: tuple[int, ...]) -> Exit:
        """ERET into the VM until something reaches EL2 that the hypervisor has to serve."""
        state = self.vm.vcpus[vcpu.index]
        ctx, port = state.ctx, self.vm.port
        self._complete_abort(state, flags, gprs[0])
        ctx.ich.hcr = hcr | _GICV3_ENABLE
        ctx.ich.lr[:LIST_REGISTERS] = lrs[:LIST_REGISTERS]
        base = ctx.read("CNTHCTL_EL2") & ~(timer.CNTVMASK | timer.CNTPMASK)
        while True:
            # A timer that the last exit has reported would bring the VM out again at once.
            if state.timer_masks:
                state.timer_masks &= timer.masks(timer.timers(ctx.read, port.now()))
            ctx.write("CNTHCTL_EL2", base | state.timer_masks)
            port.enter(ctx)
            record = self._leave(state, port.last_exit)
            if record is not None:
                return record

    def serve_fault(self, ipa: int) -> int | None:
        """Memory on demand; what is not RAM is for devices."""
        if not self.vm.in_ram(ipa):
            return ipa
        self.vm.page(ipa)
        return None

    def complete_psci(self, caller: Vcpu, target: Vcpu) -> None:
        """CPU_ON and AFFINITY_INFO."""
        state = self.vm.vcpus[caller.index]
        if state.psci is None:
            return
        (fid, entry, context_id), state.psci = state.psci, None
        if fid not in _PSCI_ON:
            state.ctx.x[0] = PsciStatus.SUCCESS.x0 if target.on else PsciStatus.OFF.x0
        elif target.on:
            state.ctx.x[0] = PsciStatus.ALREADY_ON.x0
        else:
            other = self.vm.vcpus[target.index]
            self.vm.port.release(other.ctx)
            self.vm.vcpus[target.index] = VmVcpu(other.mpidr, self.vm.context(other.mpidr, entry, (context_id,)), True)
            state.ctx.x[0] = PsciStatus.SUCCESS.x0

    def serve_special(self, vcpu: Vcpu, record: Exit) -> None:
        """A plain VM has no exit reasons of its own."""
        raise GuestFailedError(f"the VM took an SError (ESR {record.esr:#x}): its platform is broken")

    def show(self, address: int, page: bytes) -> None:
        """In the VM's own stage 2 tables."""
        self.vm.show(address, page)

    def hide(self, address: int) -> None:
        """The opposite."""
        self.vm.hide(address)

    def destroy(self) -> None:
        """Take all memory back."""
        self.vm.destroy()

    # ---- entry and exit ----

    @staticmethod
    def _complete_abort(state: VmVcpu, flags: int, value: int) -> None:
        """The answer to a data abort: refuse the access, emulate it, or let it be retried."""
        abort, state.abort = state.abort, None
        if abort is None:
            return
        esr, far = abort
        ctx = state.ctx
        if flags & ENTER_INJECT_SEA:
            inject.external_abort(ctx, esr, far)
        elif flags & ENTER_EMUL_MMIO:
            target = esr >> DABT_SRT_SHIFT & DABT_SRT_MAX
            if not esr & DABT_WNR and target != DABT_SRT_MAX:
                ctx.x[target] = loaded(esr, value)
            _skip(ctx)

    def _leave(self, state: VmVcpu, exc: ExceptionInfo) -> Exit | None:
        """The record of an exit; None when it has been served here and the VM goes on."""
        ctx, esr = state.ctx, exc.esr
        if exc.kind is not ExceptionKind.SYNC:
            return self._record(state, _REASONS[exc.kind], esr)
        match exception_class(esr):
            case Ec.SMC64:
                return self._smc(state)
            case Ec.HVC64:
                # The preferred return address of HVC is behind it; the exception belongs to the instruction itself.
                ctx.pc = ctx.pc - 4 & MASK64
                inject.undefined(ctx)
                return None
            case Ec.SYSREG:
                return self._register(state, esr)
            case Ec.WFX:
                _skip(ctx)
                return self._record(state, ExitReason.SYNC, esr)
            case Ec.DABT_LOWER | Ec.IABT_LOWER:
                state.abort = esr, exc.far
                source = esr >> DABT_SRT_SHIFT & DABT_SRT_MAX
                value = 0 if source == DABT_SRT_MAX or not esr & DABT_WNR else ctx.x[source]
                return self._record(state, ExitReason.SYNC, esr, exc.far, exc.hpfar, (value,))
            case _:
                return self._record(state, ExitReason.SYNC, esr)

    def _smc(self, state: VmVcpu) -> Exit | None:
        """PSCI and SMCCC of a VM; the trap leaves PC at the SMC."""
        ctx = state.ctx
        _skip(ctx)
        fid, *arguments = (value & MASK64 for value in ctx.x[:4])
        fid &= 0xFFFF_FFFF & ~smccc.SVE_HINT
        if fid in _PSCI_EXITS:
            ctx.x[0] = 0
            return self._record(state, ExitReason.PSCI, gprs=(fid, *arguments))
        if fid in _PSCI_OTHER_VCPU:
            target = _mpidr(arguments[0])
            if all(vcpu.mpidr != target for vcpu in self.vm.vcpus) or (fid not in _PSCI_ON and arguments[1]):
                ctx.x[0] = PsciStatus.INVALID_PARAMETERS.x0
                return None
            state.psci = fid, arguments[1], arguments[2]
            return self._record(state, ExitReason.PSCI, gprs=(fid, target, *arguments[1:]))
        ctx.x[0] = smccc.NOT_SUPPORTED
        if fid == psci.VERSION:
            ctx.x[0] = psci.VERSION_1_1
        elif fid == psci.FEATURES:
            ctx.x[0] = 0 if arguments[0] & 0xFFFF_FFFF in _PSCI_FEATURES else smccc.NOT_SUPPORTED
        elif fid == smccc.SMCCC_VERSION:
            ctx.x[0] = smccc.VERSION_1_2
        return None

    def _register(self, state: VmVcpu, esr: int) -> Exit | None:
        """Trapped system registers: SGIs are the hypervisor's, identification registers read as the PE has them."""
        ctx, get = state.ctx, ISS_SYSREG.get
        place = (get(esr, "Op0"), get(esr, "Op1"), get(esr, "CRn"), get(esr, "CRm"), get(esr, "Op2"))
        rt = get(esr, "Rt")
        _skip(ctx)
        if not get(esr, "READ"):
            if place not in _SGI_REGISTERS:
                return None
            return self._record(state, ExitReason.SYNC, esr, gprs=(0 if rt == 31 else ctx.x[rt],))
        if rt != 31:
            ctx.x[rt] = self._identification(place)
        return None

    def _identification(self, place: tuple[int, int, int, int, int]) -> int:
        name = NAMES.get(place)
        if name is None or not name.startswith("ID_AA64"):
            return 0
        value = self.vm.port.id_register(name) if name in _KNOWN else 0
        return value & ~_EL2_AND_EL3 if name == "ID_AA64PFR0_EL1" else value

    def _record(
        self,
        state: VmVcpu,
        reason: ExitReason,
        esr: int = 0,
        far: int = 0,
        hpfar: int = 0,
        gprs: tuple[int, ...] = (),
    ) -> Exit:
        ctx = state.ctx
        ich = ctx.ich
        timers = timer.timers(ctx.read, self.vm.port.now())
        state.timer_masks = timer.masks(timers)
        lists = (*ich.lr[:LIST_REGISTERS], *_NO_LISTS)
        registers = (*gprs, *(0,) * (31 - len(gprs)))
        return Exit(reason, esr, far, hpfar, registers, ich.hcr, lists, 0, ich.vmcr, *timers, 0, 0, 0, 0)


_KNOWN: Final = frozenset(
    f"ID_AA64{name}_EL1"
    for name in ("PFR0", "PFR1", "DFR0", "DFR1", "ISAR0", "ISAR1", "ISAR2", "MMFR0", "MMFR1", "MMFR2")
)
"""Identification registers that every PE has a value for; the others are zero."""


def _skip(ctx: CpuContext) -> None:
    ctx.pc = ctx.pc + 4 & MASK64


def _mpidr(value: int) -> int:
    """Affinity of a PSCI argument in the form that plans use."""
    return value & 0xFF_FFFF | (value >> 32 & 0xFF) << 24
