"""Runs contexts on engines: slices, exceptions, interrupts, and what Unicorn leaves to us.

Exceptions whose target lies inside the context (EL1, or EL2 of an image) are entered as the architecture has it; those
for Python software at EL2 or EL3 are handed to it with the context's X0-X30, PC and PSTATE current.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from unicorn import UC_MEM_FETCH, UC_MEM_WRITE, UC_PROT_EXEC, UC_PROT_READ, UC_PROT_WRITE

from realmkit.arch.errors import InternalError
from realmkit.arch.pas import SecurityState
from realmkit.arch.smccc import MASK64
from realmkit.arch.time import CHARGE_EXIT, COUNTER_POLL
from realmkit.machine.context import CpuContext
from realmkit.machine.core import aborts, fatal, interrupts, parking, traps, unmasking
from realmkit.machine.core.engine import Engine
from realmkit.machine.core.registers import HCR_TGE, PAN
from realmkit.machine.core.services import CpuServices
from realmkit.machine.core.tlb import PAGE_MASK, Space, Translation
from realmkit.machine.insn import SystemAccess
from realmkit.machine.port import ExternalAbort, GranuleProtectionFault
from realmkit.machine.walk import Access, Controls, Fault, Kind, Mapping

SLICE: Final = 50_000
"""Instructions between two looks at interrupts, at most."""
LONGEST_SLICE: Final = 200_000
"""The same while code executes slice after slice without any exit."""
_POLLING_SLICE: Final = 2_000
"""The same while code waits for time to pass by reading a counter."""
MASKED_SLICE: Final = 2_000
"""The same while an interrupt is pending and masked, after a while."""
_FIRST_MASKED_SLICE: Final = 8
_EXACTLY_MASKED: Final = 2_048
"""Instructions of an image with an interrupt masked until which each that may unmask it ends a slice."""
_MASKED_SHARE: Final = 3
"""Slices while an interrupt is masked are this power of two shorter than the time since it became pending."""
POOL: Final = 16
"""Engines that are kept for contexts to come."""
_WFE: Final = 0xD503_205F
_KINDS: Final = {UC_MEM_FETCH: Kind.EXECUTE, UC_MEM_WRITE: Kind.WRITE}
_EL: Final = 0xC
_EL1: Final = 0x4
_SPACE: Final = _EL | PAN
"""PSTATE bits that decide translations."""
_UNPRIVILEGED_MASK: Final = 0x3F20_0C00
_UNPRIVILEGED: Final = 0x3800_0800
"""LDTR and STTR."""


class StopKind(Enum):
    """Why a run ended."""

    BUDGET = "budget"
    LEFT = "left"
    """Control went elsewhere."""
    IDLE = "idle"
    """WFI, and nothing is pending."""
    PARKED = "parked"
    """A loop that does nothing: only an interrupt that is taken gets the code out of it."""
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
        self.engines: dict[int, Engine] = {}
        """Engines by the identity of the context that they hold."""
        self._pool: list[Engine] = []
        self._engine: Engine | None = None
        self.ctx = CpuContext()
        """The context of the present run."""
        self.state = SecurityState.NS
        self.python_el2 = False
        """EL2 of the context is Python software."""
        self._loaded_pstate = 0
        self._entered = False
        """The engine is already where the context is: an exception has been entered natively."""
        self._failed: tuple[int, Kind, Fault | Mapping] | None = None
        self._code: dict[int, memoryview[int]] = {}
        """Instruction words of granules."""
        self._recheck = False
        self._exits = 0
        """Exceptions in the present slice."""
        self.end = 0
        """Tick at which the present run ends."""
        self.counter_reads = 0
        """Reads of counters in the present slice."""
        self._stop: Stop | None = None
        self._break = False
        self._trapped = False
        """The engine has stopped before a WFE that a higher exception level traps."""
        self.last_fault = (0, 0, 0)
        """PC, address and status code of the last abort, and how often it repeated itself."""
        self.repeats = 0
        self.vector = -1
        """Where the last exception has put PC."""
        self.vector_faults = 0
        """Exceptions in a row that the first instruction of a vector took."""
        self.cause = (0, 0, 0, 0)
        """PC, PSTATE, ESR and FAR of the last exception that code outside the vectors took."""
        self._slice_pc = 0

    # ---- time ----

    def now(self) -> int:
        """Virtual time in ticks."""
        return self.time

    def charge(self, ticks: int) -> None:
        """Let time pass."""
        self.time += ticks

    # ---- engines ----

    @property
    def engine(self) -> Engine:
        """The engine of the present run."""
        if self._engine is None:
            raise InternalError("no context has run on this PE")
        return self._engine

    def _engine_of(self, ctx: CpuContext, image: bool) -> Engine:
        engine = self.engines.get(id(ctx))
        if engine is not None and engine.ctx is ctx:
            return engine
        if isinstance(ctx.backing, Engine):
            ctx.backing.unload()
        engine = self._pool.pop() if self._pool else self._new_engine()
        engine.load(ctx, image)
        self.engines[id(ctx)] = engine
        return engine

    def _new_engine(self) -> Engine:
        return Engine(self.services.memory, self._on_fill, self._on_interrupt, self._on_instruction, self._on_wait)

    def release(self, ctx: CpuContext) -> None:
        """The context will not run again: its engine is cleaned and kept for another."""
        engine = self.engines.pop(id(ctx), None)
        if engine is not None:
            engine.unload()
            if len(self._pool) < POOL:
                self._pool.append(engine)

    def forget_pa(self, pa: int, size: int) -> None:
        """Drop cached translations that lead to a range of physical memory."""
        first, last = pa >> 12, (pa + size - 1) >> 12
        for engine in self.engines.values():
            pages = engine.pages
            if (first in pages) if first == last else any(first <= page <= last for page in pages):
                engine.flush()

    def forget_code(self, pa: int) -> None:
        """The contents of a granule have changed: code that was translated from it goes before it can run again."""
        granule = pa >> 12
        for engine in self.engines.values():
            if granule in engine.code:
                engine.changed.add(granule)

    def forget_all_code(self, root: int) -> None:
        """Code that was translated for contexts with this VTTBR_EL2 goes before it can run again."""
        for engine in self.engines.values():
            if engine.ctx is not None and engine.ctx.read("VTTBR_EL2") == root:
                engine.changed.update(engine.code)

    def forget_vmid(self, vmid: int) -> None:
        """Drop cached translations of a VMID."""
        for engine in self.engines.values():
            ctx = engine.ctx
            if ctx is not None and ctx.read("VTTBR_EL2") >> 48 == vmid:
                engine.flush()

    def forget_translations(self, ctx: CpuContext) -> None:
        """Drop cached translations of a context."""
        engine = self.engines.get(id(ctx))
        if engine is not None:
            engine.flush()

    def forget_stage1(
        self, issuer: CpuContext, root: int, page: int | None, asid: int | None, last_level: bool
    ) -> None:
        """TLBI of EL1 by ``issuer`` for the virtual machine with this VTTBR_EL2: a page, an ASID, both, or everything.

        The engine that executes it does its own part.
        """
        for engine in self.engines.values():
            ctx = engine.ctx
            if ctx is None or ctx.read("VTTBR_EL2") != root:
                continue
            if not last_level:
                engine.tlb.forget_tables()
            if page is not None:
                large = engine.tlb.forget_page(page, asid, False)
                if large and ctx is issuer:
                    engine.flush_native()
            elif asid is not None:
                engine.tlb.forget_asid(asid)
            else:
                engine.tlb.clear()
            if ctx is not issuer:
                engine.stale = True

    # ---- running ----

    def run(self, ctx: CpuContext, state: SecurityState, python_el2: bool, budget: int) -> Stop:
        """Run a context for at most ``budget`` ticks; ``python_el2``: its EL2 is Python software."""
        engine = self._engine_of(ctx, not python_el2)
        self._engine, self.ctx, self.state, self.python_el2 = engine, ctx, state, python_el2
        self.end = self.time + budget
        self._stop, self._break = None, False
        self._loaded_pstate = engine.pstate.read()
        self._entered = False
        self.resume()
        if engine.stale:
            engine.flush_native()
        engine.watch_waits(traps.is_wfe_trapped(self, 0))
        length = SLICE
        while True:
            if engine.changed:
                self.renew_code(between_runs=True)
            pending = interrupts.take(self)
            if (stop := self._ended()) is not None:
                return stop
            count = min(self.end - self.time, length if self.counter_reads <= COUNTER_POLL else _POLLING_SLICE)
            if pending:
                count = min(count, self._masked_slice(engine))
            elif engine.masked > 0:
                engine.masked = 0
            if count <= 0:
                return Stop(StopKind.BUDGET)
            self._break = self._recheck = False
            self.counter_reads = self._exits = 0
            if not engine.run(ctx.pc, count):
                self.time += CHARGE_EXIT
                self._on_fault(engine)
            elif self._trapped:
                self._on_wait_for_event()
            elif not engine.stopped:
                self._on_completed(count)
                length = SLICE if self._exits else min(2 * length, LONGEST_SLICE)
            if (stop := self._ended()) is not None:
                return stop

    def _ended(self) -> Stop | None:
        """Why the run ends here, if it does."""
        return Stop(StopKind.BUDGET) if self._stop is None and self._break else self._stop

    def _masked_slice(self, engine: Engine) -> int:
        """Short slices at first, so that the moment is not missed at which the code looks for interrupts.

        An image may expect its handler to have run right after the instruction that unmasks them, and code that comes
        from WFI with interrupts masked may unmask them for a few instructions only.
        """
        if engine.masked < (0 if self.python_el2 else _EXACTLY_MASKED):
            count = unmasking.distance(self)
        else:
            count = min(max(engine.masked >> _MASKED_SHARE, _FIRST_MASKED_SLICE), MASKED_SLICE)
        engine.masked += count
        return count

    def _on_completed(self, count: int) -> None:
        """A whole slice has been executed."""
        self.save()
        self.repeats = 0
        self.time += count
        pc, before = self.ctx.pc, self._slice_pc
        self._slice_pc = pc
        near = -parking.REACH <= pc - before <= parking.REACH
        if count >= parking.LEAST_SLICE and near and parking.is_parked(self):
            self._stop = Stop(StopKind.PARKED)

    def save(self) -> None:
        """Bring the context's X0-X30, PC and PSTATE up to date."""
        values = self.engine.registers.fetch()
        ctx = self.ctx
        ctx.x, ctx.pc, ctx.pstate = values[:31], values[31], values[32]
        self._loaded_pstate = values[32]
        self._entered = False

    def resume(self) -> None:
        """Put the context's X0-X30, PC and PSTATE into the engine."""
        if self._entered:
            return
        engine, ctx = self.engine, self.ctx
        change = ctx.pstate ^ self._loaded_pstate
        if change & 0xF:
            engine.switch_stack(self._loaded_pstate, ctx.pstate)
        engine.registers.store(ctx.x, ctx.pc, ctx.pstate)
        if change & (PAN | 0xF):
            # Unicorn derives its translation flags from PSTATE only when a system register is written.
            engine.refresh()
        self._loaded_pstate = ctx.pstate

    def enter_el1(self, kept: int, offsets: tuple[int, int, int], esr: int | None, far: int | None) -> None:
        """Exception entry to EL1, done in the engine at once."""
        ctx = self.ctx
        if ctx.pstate != self._loaded_pstate:
            self.resume()
        ctx.pc, ctx.pstate = self.engine.enter_el1(ctx.pc, ctx.pstate, kept, offsets, esr, far)
        self._loaded_pstate = ctx.pstate
        self._entered = True

    # ---- for the parts that serve exceptions ----

    def el(self) -> int:
        """Exception level of the context."""
        return self.ctx.pstate >> 2 & 3

    def get_x(self, number: int) -> int:
        """A general-purpose register of the context; 31 is XZR."""
        return 0 if number == 31 else self.ctx.x[number]

    def set_x(self, number: int, value: int) -> None:
        """Set a general-purpose register of the context."""
        if number != 31:
            self.ctx.x[number] = value & MASK64

    def skip(self) -> None:
        """The instruction at PC has been done here."""
        self.ctx.pc = self.ctx.pc + 4 & MASK64

    def leave(self) -> None:
        """Control went elsewhere: the run ends."""
        self._stop = Stop(StopKind.LEFT)

    def die(self, reason: str) -> None:
        """The code cannot go on: the run ends."""
        self._stop = Stop(StopKind.DEAD, reason)

    def running_pstate(self) -> int:
        """PSTATE at this very moment, from inside an instruction hook."""
        return self.engine.pstate.read()

    def recheck(self) -> None:
        """Look at interrupts as soon as the present instruction is done: what is pending may have changed."""
        self._recheck = True

    def renew_code(self, *, between_runs: bool = False) -> None:
        """Translated code follows what has been written; what cannot be done now is done between two runs."""
        engine = self.engine
        changed = set(engine.changed)
        if not engine.renew_code(self._leads_to):
            if between_runs:
                engine.drop_code()
                return
            engine.changed |= changed
        for granule in changed:
            self.services.watch_code(granule << 12)

    def _leads_to(self, page: int) -> int | None:
        """The granule that a page executes from."""
        pstate, controls = self.controls()
        access = Access(Kind.EXECUTE, bool(pstate & _EL), False)
        found = self.services.mmu(self.state).translate(controls, page << 12, access)
        return None if isinstance(found, Fault) else found.pa >> 12

    def idle(self) -> bool:
        """WFI has been executed: stop unless something is pending."""
        self.services.sync(self)
        ctx = self.ctx
        if not interrupts.wakes(self, ctx):
            self._stop = Stop(StopKind.IDLE)
        elif not interrupts.takes(self, ctx, self.python_el2) and parking.is_parked(self):
            self._stop = Stop(StopKind.PARKED)
        return self._stop is None

    def takes(self, ctx: CpuContext, python_el2: bool) -> bool:
        """Whether an interrupt is pending that ``ctx`` would take."""
        return interrupts.takes(self, ctx, python_el2)

    def wakes(self, ctx: CpuContext) -> bool:
        """Whether an interrupt is pending that ends WFI."""
        return interrupts.wakes(self, ctx)

    # ---- hooks of the engine ----

    def _on_interrupt(self, number: int) -> bool:
        self.save()
        self.time += CHARGE_EXIT
        self._exits += 1
        if self.engine.fatal and number == traps.UNDEFINED and fatal.serve(self):
            self.resume()
            return not (self._recheck or self._break)
        if not traps.serve(self, number) or self._stop is not None:
            return False
        self.resume()
        return not (self._recheck or self._break)

    def _on_instruction(self, access: SystemAccess, value: int) -> bool:
        return traps.hooked(self, access, value)

    def _on_wait(self, address: int) -> bool:
        """WFE, which Unicorn does not trap, while a higher exception level does: stop before it."""
        el = self.running_pstate() >> 2 & 3
        self._trapped = el < 2 and traps.is_wfe_trapped(self, el) and self.word(address) == _WFE
        return self._trapped

    def _on_wait_for_event(self) -> None:
        self._trapped = False
        self.save()
        self.time += CHARGE_EXIT
        if traps.wait_for_event(self):
            self.resume()

    def write_x(self, number: int, value: int) -> None:
        """Set a register of the running engine from inside an instruction hook."""
        if number != 31:
            self.engine.x[number].write(value)

    @property
    def breaking(self) -> bool:
        """Whether the present run was to end: what interrupts it has changed."""
        return self._break

    def break_slice(self) -> None:
        """End the run at the next slice boundary: what interrupts it has changed."""
        self._break = True

    # ---- translation ----

    def controls(self) -> tuple[int, Controls]:
        """PSTATE and the translation controls at this very moment."""
        batch = self.engine.control_batch
        values = batch.read()
        return values[1], self._controls(values[1] >> 2 & 3, values)

    def controls_of(self, el: int) -> Controls:
        """The translation controls of EL1 or EL2 at this very moment."""
        return self._controls(el, self.engine.control_batch.read())

    def _controls(self, el: int, values: list[int]) -> Controls:
        sctlr, tcr, ttbr0, ttbr1, mair = values[2:7]
        regs = self.ctx.regs
        hcr = regs.get("HCR_EL2", 0)
        if self.python_el2:
            vttbr, vtcr = regs.get("VTTBR_EL2", 0), regs.get("VTCR_EL2", 0)
        else:
            if el == 2:
                return Controls(self.state, True, values[7], values[8], values[9], 0, values[10])
            if hcr & HCR_TGE:
                sctlr &= ~1
            vttbr, vtcr = values[11], values[12]
        return Controls(self.state, False, sctlr, tcr, ttbr0, ttbr1, mair, hcr, vtcr, vttbr)

    def _space(self, bits: int, raw: bytes) -> Space:
        """Translations under the present registers, at the level and PAN of ``bits``."""
        engine = self.engine
        el = bits >> 2 & 3
        controls = self._controls(el, engine.control_batch.held())
        return engine.tlb.space((bits, raw), el, bool(bits & PAN), controls)

    def _on_fill(self, vaddr: int, access: int) -> Translation | None:
        engine = self.engine
        batch = engine.control_batch
        raw = batch.image(2)
        bits = batch.value(1) & _SPACE
        if not bits & _EL:
            bits = 0
        spaces = engine.tlb.spaces
        space = spaces.get((bits, raw)) or self._space(bits, raw)
        page = vaddr >> 12 & PAGE_MASK
        found = space.shared.code.get(page) or space.own.code.get(page)
        if access == UC_MEM_FETCH:
            return found or self._translate(space, vaddr, Kind.EXECUTE)
        if bits & _EL == _EL1 and self._is_unprivileged(batch.value(0), space):
            # LDTR and STTR at EL1 are checked as EL0 accesses.
            space = spaces.get((0, raw)) or self._space(0, raw)
            found = space.code(page)
        if found is None:
            found = space.shared.data.get(page) or space.own.data.get(page)
        if access == UC_MEM_WRITE:
            if found is not None and found[1] & UC_PROT_WRITE:
                return found
            return self._translate(space, vaddr, Kind.WRITE)
        if found is not None and found[1] & UC_PROT_READ:
            return found
        return self._translate(space, vaddr, Kind.READ)

    def _translate(self, space: Space, vaddr: int, kind: Kind) -> Translation | None:
        """A fill that the translation cache does not know."""
        mapping = self.services.mmu(self.state).translate(
            space.controls, vaddr, Access(kind, space.privileged, space.pan), space.tables
        )
        if isinstance(mapping, Fault):
            self._failed = vaddr, kind, mapping
            return None
        engine = self.engine
        pa = mapping.pa
        if self.services.memory.region_at(pa) is None:
            self._failed = vaddr, kind, mapping
            return None
        if not engine.is_mapped(pa):
            return None
        permissions = (UC_PROT_READ if mapping.read else 0) | (UC_PROT_WRITE if mapping.write else 0)
        execute = kind is Kind.EXECUTE
        if execute:
            permissions |= UC_PROT_EXEC
            if engine.executes(vaddr, pa):
                self.services.watch_code(pa)
        engine.pages.add(pa >> 12)
        found = pa, permissions
        space.keep(vaddr >> 12 & PAGE_MASK, execute, found, mapping.reach, mapping.not_global)
        return found

    def physical(self, va: int) -> int | None:
        """Physical address that ``va`` leads to at this very moment, from inside a hook; None where a read faults."""
        batch = self.engine.control_batch
        raw = batch.image(2)
        bits = batch.value(1) & _SPACE
        if not bits & _EL:
            bits = 0
        space = self.engine.tlb.spaces.get((bits, raw)) or self._space(bits, raw)
        page = va >> 12 & PAGE_MASK
        found = space.code(page) or space.data(page)
        if found is not None:
            return found[0]
        access = Access(Kind.READ, space.privileged, space.pan)
        mapping = self.services.mmu(self.state).translate(space.controls, va, access)
        return None if isinstance(mapping, Fault) else mapping.pa

    def _is_unprivileged(self, pc: int, space: Space) -> bool:
        """Whether the load or store at PC is an LDTR or STTR."""
        word = self._cached_word(pc, space)
        if word is None:
            word = self.word(pc)
        return word is not None and word & _UNPRIVILEGED_MASK == _UNPRIVILEGED

    def _cached_word(self, pc: int, space: Space) -> int | None:
        """The instruction at ``pc`` by the translation that it was fetched with."""
        found = space.code(pc >> 12 & PAGE_MASK)
        if found is None:
            return None
        granule = found[0] >> 12
        words = self._code.get(granule)
        if words is None:
            memory = self.services.memory.granule_words(found[0])
            if memory is None:
                return None
            words = self._code[granule] = memory.cast("B").cast("I")
        return words[(pc & 0xFFF) >> 2]

    # ---- faults ----

    def _on_fault(self, engine: Engine) -> None:
        """A fill failed: a window to map, a device access, or an abort."""
        self.save()
        if engine.missing_window is not None:
            engine.map_window(engine.missing_window)
            return
        failed, self._failed = self._failed, None
        if failed is None:
            self.die(f"the engine stopped at {self.ctx.pc:#x} without a reason")
            return
        aborts.serve(self, *failed)
        if self._stop is None:
            self.resume()

    def word(self, pc: int | None = None) -> int | None:
        """The instruction at PC (or at ``pc``), as the code fetches it."""
        where = self.ctx.pc if pc is None else pc
        batch = self.engine.control_batch
        raw = batch.image(2)
        bits = batch.value(1) & _SPACE
        space = self.engine.tlb.spaces.get((bits if bits & _EL else 0, raw))
        if space is not None and not where & 3:
            cached = self._cached_word(where, space)
            if cached is not None:
                return cached
        pstate, controls = self.controls()
        access = Access(Kind.EXECUTE, bool(pstate >> 2 & 3), False)
        found = self.services.mmu(self.state).translate(controls, where, access)
        if isinstance(found, Fault):
            return None
        try:
            data = self.services.bus(self.state).read(found.pas, found.pa | where & 0xFFF, 4)
        except (GranuleProtectionFault, ExternalAbort):
            return None
        return int.from_bytes(data, "little")
