"""Runs contexts on engines: slices, exceptions, interrupts, and what Unicorn leaves to us.

Exceptions whose target lies inside the context (EL1, or EL2 of an image) are entered as the architecture has it; those for Python
software at EL2 or EL3 are handed to it with the context's X0-X30, PC and PSTATE current.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from unicorn import UC_MEM_FETCH, UC_MEM_WRITE, UC_PROT_EXEC, UC_PROT_READ, UC_PROT_WRITE
from unicorn.arm64_const import UC_ARM64_REG_X0, UC_ARM64_REG_X29

from realmkit.arch.esr import FSC_EXTERNAL, Ec, make_esr
from realmkit.arch.events import ExceptionTaken
from realmkit.arch.pas import SecurityState
from realmkit.arch.smccc import MASK64
from realmkit.arch.time import CHARGE_EXIT
from realmkit.machine.context import CpuContext
from realmkit.machine.core import traps
from realmkit.machine.core.decode import LoadStore, decode
from realmkit.machine.core.engine import Engine, stack_name
from realmkit.machine.core.native import Snapshot
from realmkit.machine.core.registers import RESIDENT
from realmkit.machine.core.services import CpuServices
from realmkit.machine.port import ExceptionInfo, ExceptionKind, ExternalAbort, GranuleProtectionFault
from realmkit.machine.walk import Access, Controls, Fault, Kind, Mapping

SLICE: Final = 25_000
"""Instructions between two looks at interrupts, at most."""
MASKED_SLICE: Final = 2_000
"""The same while an interrupt is pending and masked."""
POOL: Final = 16
"""Engines that are kept for contexts to come."""
_EL_SHIFT: Final = 2
_I, _F, _A = 1 << 7, 1 << 6, 1 << 8
_PAN: Final = 1 << 22
_KINDS: Final = {UC_MEM_FETCH: Kind.EXECUTE, UC_MEM_WRITE: Kind.WRITE}
_OFFSETS: Final = {
    ExceptionKind.SYNC: 0,
    ExceptionKind.IRQ: 0x80,
    ExceptionKind.FIQ: 0x100,
    ExceptionKind.SERROR: 0x180,
}
_CONTROLS: Final = tuple(
    RESIDENT[name]
    for name in (
        "SCTLR_EL1",
        "TCR_EL1",
        "TTBR0_EL1",
        "TTBR1_EL1",
        "MAIR_EL1",
        "SCTLR_EL2",
        "TCR_EL2",
        "TTBR0_EL2",
        "MAIR_EL2",
    )
)
_HCR_TGE, _HCR_IMO, _HCR_FMO, _HCR_TSC = 1 << 27, 1 << 4, 1 << 3, 1 << 19


class StopKind(Enum):
    """Why a run ended."""

    BUDGET = "budget"
    LEFT = "left"
    """Control went elsewhere."""
    IDLE = "idle"
    """WFI, and nothing is pending."""
    DEAD = "dead"
    """The code cannot go on; ``reason`` says why."""


@dataclass(frozen=True, slots=True)
class Stop:
    """End of a run."""

    kind: StopKind
    reason: str = ""


class Cpu:
    """The execution part of one PE."""

    def __init__(self, index: int, services: CpuServices) -> None:
        self.index = index
        self.time = 0
        """Virtual time of this PE, in ticks."""
        self.services = services
        self._engines: dict[int, Engine] = {}
        self._snapshots: dict[int, Snapshot] = {}
        self._pool: list[Engine] = []
        self._engine: Engine | None = None
        self.ctx = CpuContext()
        """The context of the present run."""
        self.state = SecurityState.NS
        self.python_el2 = False
        self._loaded_pstate = 0
        self._fault: Fault | None = None
        self._fault_page = 0
        self._device: Mapping | None = None
        self._stop: Stop | None = None
        self._break = False
        self._waiting = False
        self._unprivileged: set[int] = set()
        self._last_fault = (0, 0, 0)
        self._repeats = 0

    # ---- time ----

    def now(self) -> int:
        """Virtual time in ticks."""
        return self.time

    def charge(self, ticks: int) -> None:
        """Let time pass."""
        self.time += ticks

    # ---- engines ----

    def _engine_of(self, ctx: CpuContext) -> Engine:
        engine = self._engines.get(id(ctx))
        if engine is not None and engine.ctx is ctx:
            return engine
        if isinstance(ctx.backing, Engine):
            ctx.backing.unload()
        engine = self._pool.pop() if self._pool else self._new_engine()
        engine.load(ctx)
        self._engines[id(ctx)] = engine
        return engine

    def _new_engine(self) -> Engine:
        engine = Engine(self.services.memory, self._on_fill, self._on_interrupt, self._on_register)
        self._snapshots[id(engine)] = Snapshot(engine.uc, _CONTROLS)
        return engine

    def release(self, ctx: CpuContext) -> None:
        """The context will not run again: its engine is cleaned and kept for another."""
        engine = self._engines.pop(id(ctx), None)
        if engine is not None:
            engine.unload()
            if len(self._pool) < POOL:
                self._pool.append(engine)

    def forget_pa(self, pa: int, size: int) -> None:
        """Drop cached translations that lead to a range of physical memory."""
        first, last = pa >> 12, (pa + size - 1) >> 12
        for engine in self._engines.values():
            pages = engine.pages
            if (first in pages) if first == last else any(first <= page <= last for page in pages):
                engine.flush()

    def forget_code(self, pa: int) -> None:
        """Drop code that was translated from a granule whose contents changed."""
        for engine in self._engines.values():
            engine.forget_code(pa >> 12)

    def forget_vmid(self, vmid: int) -> None:
        """Drop cached translations of a VMID."""
        for engine in self._engines.values():
            ctx = engine.ctx
            if ctx is not None and ctx.read("VTTBR_EL2") >> 48 == vmid:
                engine.flush()

    def forget_root(self, root: int) -> None:
        """Drop cached translations of the virtual machine with this VTTBR_EL2."""
        for engine in self._engines.values():
            ctx = engine.ctx
            if ctx is not None and ctx.read("VTTBR_EL2") == root:
                engine.flush()

    # ---- running ----

    def run(self, ctx: CpuContext, state: SecurityState, python_el2: bool, budget: int) -> Stop:
        """Run a context for at most ``budget`` ticks; ``python_el2``: its EL2 is Python software."""
        engine = self._engine_of(ctx)
        self._engine, self.ctx, self.state, self.python_el2 = engine, ctx, state, python_el2
        end = self.time + budget
        self._stop = None
        self._loaded_pstate = engine.registers.fetch()[32]
        self._resume()
        while True:
            pending = self._take_interrupts()
            if self._stop is not None:
                return self._stop
            count = min(end - self.time, MASKED_SLICE if pending else SLICE)
            if count <= 0:
                self._save()
                return Stop(StopKind.BUDGET)
            self._break = False
            before = self.time
            if engine.run(ctx.pc, count):
                if self._stop is None:
                    self._save()
                    self._repeats = 0
                    if self._waiting:
                        self._waiting = False
                        self.time += CHARGE_EXIT
                        self.idle()
                    else:
                        self.time += count
            else:
                self.time = max(self.time, before) + CHARGE_EXIT
                self._on_fault(engine)
            if self._stop is not None:
                return self._stop
            if self._break:
                self._save()
                return Stop(StopKind.BUDGET)

    def _save(self) -> None:
        """Bring the context's X0-X30, PC and PSTATE up to date."""
        engine = self._engine
        assert engine is not None
        values = engine.registers.fetch()
        self.ctx.x, self.ctx.pc, self.ctx.pstate = values[:31], values[31], values[32]
        self._loaded_pstate = values[32]

    def _resume(self) -> None:
        """Put the context's X0-X30, PC and PSTATE into the engine."""
        engine, ctx = self._engine, self.ctx
        assert engine is not None
        engine.switch_stack(self._loaded_pstate, ctx.pstate)
        engine.registers.store(ctx.x, ctx.pc, ctx.pstate)
        if (ctx.pstate ^ self._loaded_pstate) & 0x40_000F:
            # Unicorn derives its translation flags from PSTATE only when a system register is written.
            engine.refresh()
        self._loaded_pstate = ctx.pstate

    # ---- exceptions ----

    def el(self) -> int:
        """Exception level of the context."""
        return self.ctx.pstate >> _EL_SHIFT & 3

    def enter_exception(self, target: int, kind: ExceptionKind, esr: int = 0, far: int | None = None) -> None:
        """Take an exception inside the context, to EL1 or to EL2 of an image; PC is the preferred return address."""
        ctx = self.ctx
        source = self.el()
        suffix = f"_EL{target}"
        ctx.write("ELR" + suffix, ctx.pc)
        ctx.write("SPSR" + suffix, ctx.pstate)
        if kind is ExceptionKind.SYNC or kind is ExceptionKind.SERROR:
            ctx.write("ESR" + suffix, esr)
        if far is not None:
            ctx.write("FAR" + suffix, far)
        events = self.services.events
        if events.active:
            events.emit(
                ExceptionTaken(
                    self.time, self.index, self.state.name, source, target, kind.value, esr, far or 0, ctx.pc
                )
            )
        base = 0x400 if source < target else (0x200 if ctx.pstate & 1 else 0)
        sctlr = ctx.read("SCTLR" + suffix)
        pan = ctx.pstate & _PAN
        if target == 1 and not sctlr >> 23 & 1:
            pan = _PAN
        ctx.pc = (ctx.read("VBAR" + suffix) & ~0x7FF) + base + _OFFSETS[kind]
        ctx.pstate = (ctx.pstate & 0xF000_0000) | pan | 0x3C0 | target << _EL_SHIFT | 1

    def undefined(self) -> None:
        """The instruction at PC is UNDEFINED."""
        self.enter_exception(self.exception_target(), ExceptionKind.SYNC, make_esr(Ec.UNKNOWN))

    def exception_target(self) -> int:
        """Where a synchronous exception goes that no trap diverts."""
        el = self.el()
        if el == 2 or (not self.python_el2 and el == 0 and self.ctx.read("HCR_EL2") & _HCR_TGE):
            return 2
        return 1

    def trap(self, exc: ExceptionInfo, target: int) -> bool:
        """Give an exception to Python software: whether the context goes on at once."""
        ctx = self.ctx
        if target == 2:
            ctx.write("ESR_EL2", exc.esr)
            ctx.write("FAR_EL2", exc.far)
            ctx.write("HPFAR_EL2", exc.hpfar)
        events = self.services.events
        if events.active:
            events.emit(
                ExceptionTaken(
                    self.time, self.index, self.state.name, self.el(), target, exc.kind.value, exc.esr, exc.far, ctx.pc
                )
            )
        self.time += CHARGE_EXIT
        if self.services.trap(self, ctx, exc, target):
            return True
        self._stop = Stop(StopKind.LEFT)
        return False

    def to_el2(self, esr: int, far: int = 0, hpfar: int = 0) -> bool:
        """A synchronous exception for EL2: Python software, or the image's own."""
        if self.python_el2:
            return self.trap(ExceptionInfo(ExceptionKind.SYNC, esr, far, hpfar), 2)
        self.ctx.write("HPFAR_EL2", hpfar)
        self.enter_exception(2, ExceptionKind.SYNC, esr, far)
        return True

    def running_el(self) -> int:
        """Exception level at this very moment, from inside a register hook."""
        engine = self._engine
        assert engine is not None
        return self._snapshots[id(engine)].fetch()[0] >> _EL_SHIFT & 3

    def wfi_at_el2(self) -> bool:
        """WFI of an image at EL2, which Unicorn does not trap: note it, the engine stops after it."""
        if self.running_el() == 2:
            self._waiting = True
        return False

    def fault_address(self) -> int:
        """Address of the load or store at PC; PC itself when there is none."""
        engine = self._engine
        assert engine is not None
        word = self._word()
        access = None if word is None else decode(word)
        return self.ctx.pc if access is None else access.address(self.ctx.x, engine.sp(), self.ctx.pc)

    def idle(self) -> bool:
        """WFI has been executed: stop unless something is pending."""
        self.services.sync(self)
        if self.wakes(self.ctx, self.state):
            return True
        self._stop = Stop(StopKind.IDLE)
        return False

    # ---- interrupts ----

    def wakes(self, ctx: CpuContext, state: SecurityState) -> bool:
        """Whether an interrupt is pending that ends WFI."""
        physical = self.services.physical
        if physical.irq_pending() or physical.fiq_pending():
            return True
        hcr = ctx.read("HCR_EL2")
        virtual = self.services.virtual(ctx)
        return bool(virtual.virq_pending() or virtual.vfiq_pending() or hcr & 0x1C0)

    def _take_interrupts(self) -> bool:
        """Take what is pending and not masked; True when something stays pending."""
        physical = self.services.physical
        ctx = self.ctx
        waiting = False
        for kind, signal, mask, route in (
            (ExceptionKind.FIQ, physical.fiq_pending(), _F, _HCR_FMO),
            (ExceptionKind.IRQ, physical.irq_pending(), _I, _HCR_IMO),
        ):
            if not signal:
                continue
            hcr = ctx.read("HCR_EL2")
            el = self.el()
            if self.python_el2:
                if not self.trap(ExceptionInfo(kind), 2):
                    return False
                self._resume()
                continue
            target = 2 if el == 2 or hcr & (route | _HCR_TGE) else 1
            if el < target or not ctx.pstate & mask:
                self.enter_exception(target, kind)
                self._resume()
                return False
            waiting = True
        if self.el() < 2 and ctx.ich.hcr & 1:
            virtual = self.services.virtual(ctx)
            for kind, signal, mask in (
                (ExceptionKind.FIQ, virtual.vfiq_pending(), _F),
                (ExceptionKind.IRQ, virtual.virq_pending(), _I),
            ):
                if signal and not ctx.pstate & mask:
                    self.enter_exception(1, kind)
                    self._resume()
                    return False
                waiting = waiting or signal
        if self.el() < 2:
            self._take_virtual_lines()
        return waiting

    def _take_virtual_lines(self) -> None:
        """HCR_EL2.VSE, VF, VI."""
        ctx = self.ctx
        hcr = ctx.read("HCR_EL2")
        if not hcr & 0x1C0:
            return
        if hcr & 1 << 8 and not ctx.pstate & _A:
            ctx.write("HCR_EL2", hcr & ~(1 << 8))
            self.enter_exception(1, ExceptionKind.SERROR, make_esr(Ec.SERROR))
        elif hcr & 1 << 6 and not ctx.pstate & _F:
            self.enter_exception(1, ExceptionKind.FIQ)
        elif hcr & 1 << 7 and not ctx.pstate & _I:
            self.enter_exception(1, ExceptionKind.IRQ)
        else:
            return
        self._resume()

    # ---- hooks of the engine ----

    def _on_interrupt(self, number: int) -> bool:
        self._save()
        self.time += CHARGE_EXIT
        if not traps.serve(self, number):
            return False
        self._resume()
        return True

    def _on_register(self, word: int) -> bool:
        return traps.hooked(self, word)

    def write_x(self, number: int, value: int) -> None:
        """Set a register of the running engine from inside a register hook."""
        engine = self._engine
        assert engine is not None
        if number != 31:
            register = UC_ARM64_REG_X0 + number if number < 29 else UC_ARM64_REG_X29 + number - 29
            engine.uc.reg_write(register, value)

    def read_x(self, number: int) -> int:
        """Read a register of the running engine from inside a register hook."""
        engine = self._engine
        assert engine is not None
        if number == 31:
            return 0
        register = UC_ARM64_REG_X0 + number if number < 29 else UC_ARM64_REG_X29 + number - 29
        value: int = engine.uc.reg_read(register)
        return value

    def break_slice(self) -> None:
        """End the run at the next slice boundary: what interrupts it has changed."""
        self._break = True

    def flush_translations(self) -> None:
        """TLBI of the context: forget its translations here and wherever its virtual machine runs."""
        self.services.broadcast_tlbi(self.ctx)

    def flush_code(self) -> None:
        """IC of the context."""
        engine = self._engine
        assert engine is not None
        engine.drop_code()

    def _controls(self, engine: Engine) -> tuple[int, Controls]:
        pstate, values = self._snapshots[id(engine)].fetch()
        regs = self.ctx.regs
        if pstate >> _EL_SHIFT & 3 == 2:
            return pstate, Controls(self.state, True, values[5], values[6], values[7], 0, values[8])
        hcr = regs.get("HCR_EL2", 0)
        sctlr, tcr, ttbr0, ttbr1, mair = values[:5]
        if not self.python_el2 and hcr & _HCR_TGE:
            sctlr &= ~1
        vttbr, vtcr = (
            (regs.get("VTTBR_EL2", 0), regs.get("VTCR_EL2", 0))
            if self.python_el2
            else (self.ctx.read("VTTBR_EL2"), self.ctx.read("VTCR_EL2"))
        )
        return pstate, Controls(self.state, False, sctlr, tcr, ttbr0, ttbr1, mair, hcr, vtcr, vttbr)

    def _on_fill(self, vaddr: int, access: int) -> tuple[int, int] | None:
        engine = self._engine
        assert engine is not None
        kind = _KINDS.get(access, Kind.READ)
        pstate, controls = self._controls(engine)
        privileged = bool(pstate >> _EL_SHIFT & 3) and vaddr & ~0xFFF not in self._unprivileged
        self._unprivileged.clear()
        found = self.services.mmu(self.state).translate(controls, vaddr, Access(kind, privileged, bool(pstate & _PAN)))
        if isinstance(found, Fault):
            self._fault, self._fault_page, self._device = found, vaddr, None
            return None
        region = self.services.memory.region_at(found.pa)
        if region is None:
            self._fault, self._fault_page, self._device = None, vaddr, found
            return None
        if kind is Kind.EXECUTE:
            offset = found.pa - region.base
            engine.scan(vaddr, found.pa, region.buffer[offset : offset + 4096].tobytes(), not self.python_el2)
            return found.pa, UC_PROT_EXEC | (UC_PROT_READ if found.read else 0)
        return found.pa, (UC_PROT_READ if found.read else 0) | (UC_PROT_WRITE if found.write else 0)

    # ---- faults ----

    def _on_fault(self, engine: Engine) -> None:
        """A fill failed: a window to map, a device access, or an abort."""
        if engine.missing_window is not None:
            engine.map_window(engine.missing_window)
            engine.missing_window = None
            self._save()
            return
        self._save()
        ctx = self.ctx
        fault, device = self._fault, self._device
        self._fault = self._device = None
        if fault is None and device is None:
            self._stop = Stop(StopKind.DEAD, f"the engine stopped at {ctx.pc:#x} without a reason")
            return
        kind = fault.kind if fault is not None else None
        if kind is Kind.EXECUTE or (
            device is not None
            and self._fault_page == ctx.pc & ~0xFFF
            and device.execute
            and ctx.pc >> 12 == self._fault_page >> 12
            and self._word() is None
        ):
            self._abort(fault, ctx.pc, None)
        else:
            word = self._word()
            access = None if word is None else decode(word)
            va = self._fault_page
            if access is not None:
                exact = access.address(ctx.x, engine.sp(), ctx.pc)
                if exact & ~0xFFF == va & ~0xFFF:
                    va = exact
            if device is not None:
                self._device_access(access, device, va)
            elif access is not None and access.unprivileged and self._retry_unprivileged(access, va):
                return
            else:
                self._abort(fault, va, access)
        if self._stop is None:
            self._resume()

    def _word(self) -> int | None:
        """The instruction at PC, as the code fetches it."""
        engine = self._engine
        assert engine is not None
        pstate, controls = self._controls(engine)
        access = Access(Kind.EXECUTE, bool(pstate >> _EL_SHIFT & 3), False)
        found = self.services.mmu(self.state).translate(controls, self.ctx.pc, access)
        if isinstance(found, Fault):
            return None
        try:
            data = self.services.bus(self.state).read(found.pas, found.pa | self.ctx.pc & 0xFFF, 4)
        except (GranuleProtectionFault, ExternalAbort):
            return None
        return int.from_bytes(data, "little")

    def _retry_unprivileged(self, access: LoadStore, va: int) -> bool:
        """LDTR and STTR at EL1 are checked as EL0 accesses: let the next fill of this page do so."""
        engine = self._engine
        assert engine is not None
        pstate, controls = self._controls(engine)
        if pstate >> _EL_SHIFT & 3 != 1:
            return False
        kind = Kind.WRITE if access.write else Kind.READ
        found = self.services.mmu(self.state).translate(controls, va, Access(kind, False, False))
        if isinstance(found, Fault):
            return False
        self._unprivileged.add(va & ~0xFFF)
        self._resume()
        return True

    def _device_access(self, access: LoadStore | None, device: Mapping, va: int) -> None:
        """A load or store to something that is not RAM, done on the bus."""
        ctx = self.ctx
        engine = self._engine
        assert engine is not None
        pa = device.pa | va & 0xFFF
        if access is None or not access.emulated:
            self._external_abort(va, access)
            return
        bus = self.services.bus(self.state)
        registers = (access.rt,) if access.rt2 is None else (access.rt, access.rt2)
        try:
            for n, rt in enumerate(registers):
                where = pa + n * access.nbytes
                if access.write:
                    value = 0 if rt == 31 else ctx.x[rt]
                    data = (value & ((1 << 8 * access.nbytes) - 1)).to_bytes(access.nbytes, "little")
                    bus.write(device.pas, where, data)
                else:
                    data = bus.read(device.pas, where, access.nbytes)
                    if rt != 31:
                        ctx.x[rt] = access.loaded(int.from_bytes(data, "little"))
        except ExternalAbort:
            self.services.missing_device(pa, access.nbytes, access.write, ctx.pc, access.rt)
            self._external_abort(va, access)
            return
        except GranuleProtectionFault:
            self._external_abort(va, access)
            return
        if access.writeback:
            if access.rn == 31:
                engine.write_register(stack_name(ctx.pstate), engine.sp() + access.writeback & MASK64)
            else:
                ctx.x[access.rn] = ctx.x[access.rn] + access.writeback & MASK64
        ctx.pc = ctx.pc + 4 & MASK64

    def _external_abort(self, va: int, access: LoadStore | None) -> None:
        write = access is not None and access.write
        target = self.exception_target()
        ec = Ec.DABT_SAME if self.el() == target else Ec.DABT_LOWER
        self.enter_exception(target, ExceptionKind.SYNC, make_esr(ec, FSC_EXTERNAL | int(write) << 6), va)

    def _abort(self, fault: Fault | None, va: int, access: LoadStore | None) -> None:
        """Instruction or data abort, to EL1 or EL2."""
        if fault is None:
            fault = Fault(FSC_EXTERNAL, 1, va, Kind.EXECUTE)
        fetch = fault.kind is Kind.EXECUTE
        iss = fault.fsc | int(fault.s1ptw) << 7
        if fault.kind is Kind.WRITE:
            iss |= 1 << 6
        if fault.stage == 2 and not fetch and not fault.s1ptw and access is not None:
            iss |= access.iss()
        self._watch_repeats(va, fault.fsc)
        if fault.stage == 2:
            ec = Ec.IABT_LOWER if fetch else Ec.DABT_LOWER
            if not self.to_el2(make_esr(ec, iss), va, fault.ipa >> 12 << 4):
                return
        else:
            target = self.exception_target()
            same = self.el() == target
            ec = (Ec.IABT_SAME if same else Ec.IABT_LOWER) if fetch else (Ec.DABT_SAME if same else Ec.DABT_LOWER)
            if fault.gpf and target == 1 and not self.python_el2 and self.ctx.read("HCR_EL2") >> 48 & 1:
                self.to_el2(make_esr(Ec.IABT_LOWER if fetch else Ec.DABT_LOWER, iss), va, fault.ipa >> 12 << 4)
                return
            self.enter_exception(target, ExceptionKind.SYNC, make_esr(ec, iss), va)

    def _watch_repeats(self, va: int, fsc: int) -> None:
        """An image whose vectors fault at once would run for ever without executing anything."""
        key = (self.ctx.pc, va, fsc)
        if key == self._last_fault:
            self._repeats += 1
            if self._repeats > 1000 and not self.python_el2:
                self._stop = Stop(
                    StopKind.DEAD, f"exception loop: the abort at PC {self.ctx.pc:#x} for address {va:#x} never ends"
                )
        else:
            self._last_fault, self._repeats = key, 0
