"""Runs contexts on engines: slices, exceptions, interrupts, and what Unicorn leaves to us.

Exceptions whose target lies inside the context (EL1, or EL2 of an image) are entered as the architecture has it; those
for Python software at EL2 or EL3 are handed to it with the context's X0-X30, PC and PSTATE current.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from unicorn import UC_MEM_FETCH, UC_MEM_WRITE, UC_PROT_EXEC, UC_PROT_READ, UC_PROT_WRITE
from unicorn.arm64_const import UC_ARM64_REG_X0, UC_ARM64_REG_X29

from realmkit.arch.errors import InternalError
from realmkit.arch.pas import SecurityState
from realmkit.arch.smccc import MASK64
from realmkit.arch.time import CHARGE_EXIT
from realmkit.machine.context import CpuContext
from realmkit.machine.core import aborts, interrupts, parking, traps
from realmkit.machine.core.engine import Engine
from realmkit.machine.core.native import Snapshot
from realmkit.machine.core.registers import HCR_TGE, PAN, RESIDENT
from realmkit.machine.core.services import CpuServices
from realmkit.machine.insn import SystemAccess
from realmkit.machine.port import ExternalAbort, GranuleProtectionFault
from realmkit.machine.walk import Access, Controls, Fault, Kind, Mapping

SLICE: Final = 25_000
"""Instructions between two looks at interrupts, at most."""
MASKED_SLICE: Final = 2_000
"""The same while an interrupt is pending and masked."""
_WFI: Final = 0xD503_207F
_WFE: Final = 0xD503_205F
POOL: Final = 16
"""Engines that are kept for contexts to come."""
_KINDS: Final = {UC_MEM_FETCH: Kind.EXECUTE, UC_MEM_WRITE: Kind.WRITE}
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
        self._engines: dict[int, Engine] = {}
        self._snapshots: dict[int, Snapshot] = {}
        self._pool: list[Engine] = []
        self._engine: Engine | None = None
        self.ctx = CpuContext()
        """The context of the present run."""
        self.state = SecurityState.NS
        self.python_el2 = False
        """EL2 of the context is Python software."""
        self._loaded_pstate = 0
        self._failed: tuple[int, Kind, Fault | Mapping] | None = None
        self._stop: Stop | None = None
        self._break = False
        self._waiting = False
        self._trapped = False
        """The engine has stopped before a WFE that a higher exception level traps."""
        self.unprivileged: set[int] = set()
        """Pages whose next fill is for LDTR or STTR."""
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
        engine = Engine(self.services.memory, self._on_fill, self._on_interrupt, self._on_register, self._on_wait)
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

    def forget_translations(self, ctx: CpuContext) -> None:
        """Drop cached translations of a context."""
        engine = self._engines.get(id(ctx))
        if engine is not None:
            engine.flush()

    def drop_code(self, ctx: CpuContext) -> None:
        """Drop code that was translated for a context."""
        engine = self._engines.get(id(ctx))
        if engine is not None:
            engine.drop_code()

    # ---- running ----

    def run(self, ctx: CpuContext, state: SecurityState, python_el2: bool, budget: int) -> Stop:
        """Run a context for at most ``budget`` ticks; ``python_el2``: its EL2 is Python software."""
        engine = self._engine_of(ctx)
        self._engine, self.ctx, self.state, self.python_el2 = engine, ctx, state, python_el2
        end = self.time + budget
        self._stop = None
        self._loaded_pstate = engine.registers.fetch()[32]
        self.resume()
        while True:
            pending = interrupts.take(self)
            if self._stop is not None:
                return self._stop
            count = min(end - self.time, MASKED_SLICE if pending else SLICE)
            if count <= 0:
                self.save()
                return Stop(StopKind.BUDGET)
            self._break = False
            before = self.time
            if engine.run(ctx.pc, count):
                if self._stop is None:
                    self.save()
                    self.repeats = 0
                    if self._waiting:
                        self._waiting = False
                        self.time += CHARGE_EXIT
                        self.idle()
                    elif self._trapped:
                        self._trapped = False
                        self.time += CHARGE_EXIT
                        if traps.wait_for_event(self):
                            self.resume()
                    else:
                        self.time += count
                        self._look_for_parking()
            else:
                self.time = max(self.time, before) + CHARGE_EXIT
                self._on_fault(engine)
            if self._stop is not None:
                return self._stop
            if self._break:
                self.save()
                return Stop(StopKind.BUDGET)

    def _look_for_parking(self) -> None:
        """A whole slice has been executed: stop where the code only goes round in circles."""
        pc, before = self.ctx.pc, self._slice_pc
        self._slice_pc = pc
        if -parking.REACH <= pc - before <= parking.REACH and parking.is_parked(self):
            self._stop = Stop(StopKind.PARKED)

    def save(self) -> None:
        """Bring the context's X0-X30, PC and PSTATE up to date."""
        values = self.engine.registers.fetch()
        self.ctx.x, self.ctx.pc, self.ctx.pstate = values[:31], values[31], values[32]
        self._loaded_pstate = values[32]

    def resume(self) -> None:
        """Put the context's X0-X30, PC and PSTATE into the engine."""
        engine, ctx = self.engine, self.ctx
        engine.switch_stack(self._loaded_pstate, ctx.pstate)
        engine.registers.store(ctx.x, ctx.pc, ctx.pstate)
        if (ctx.pstate ^ self._loaded_pstate) & 0x40_000F:
            # Unicorn derives its translation flags from PSTATE only when a system register is written.
            engine.refresh()
        self._loaded_pstate = ctx.pstate

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

    def running_el(self) -> int:
        """Exception level at this very moment, from inside a register hook."""
        return self._snapshots[id(self.engine)].fetch()[0] >> 2 & 3

    def idle(self) -> bool:
        """WFI has been executed: stop unless something is pending."""
        self.services.sync(self)
        if interrupts.wakes(self, self.ctx):
            return True
        self._stop = Stop(StopKind.IDLE)
        return False

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
        if not traps.serve(self, number) or self._stop is not None:
            return False
        self.resume()
        return True

    def _on_register(self, access: SystemAccess) -> bool:
        return traps.hooked(self, access)

    def _on_wait(self, address: int) -> bool:
        """WFE, and WFI at EL2, which Unicorn does not trap: note them; True to stop before the instruction.

        After a WFI the engine stops by itself. A WFE that nobody traps does nothing.
        """
        el = self.running_el()
        if el == 2:
            self._waiting = self.word(address) == _WFI
        elif traps.is_wfe_trapped(self, el) and self.word(address) == _WFE:
            self._trapped = True
        return self._trapped

    def write_x(self, number: int, value: int) -> None:
        """Set a register of the running engine from inside a register hook."""
        engine = self.engine
        if number != 31:
            register = UC_ARM64_REG_X0 + number if number < 29 else UC_ARM64_REG_X29 + number - 29
            engine.uc.reg_write(register, value)

    def read_x(self, number: int) -> int:
        """Read a register of the running engine from inside a register hook."""
        engine = self.engine
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
        self.engine.drop_code()

    def controls(self) -> tuple[int, Controls]:
        """PSTATE and the translation controls at this very moment."""
        pstate, values = self._snapshots[id(self.engine)].fetch()
        regs = self.ctx.regs
        if pstate >> 2 & 3 == 2:
            return pstate, Controls(self.state, True, values[5], values[6], values[7], 0, values[8])
        hcr = regs.get("HCR_EL2", 0)
        sctlr, tcr, ttbr0, ttbr1, mair = values[:5]
        if not self.python_el2 and hcr & HCR_TGE:
            sctlr &= ~1
        vttbr, vtcr = (
            (regs.get("VTTBR_EL2", 0), regs.get("VTCR_EL2", 0))
            if self.python_el2
            else (self.ctx.read("VTTBR_EL2"), self.ctx.read("VTCR_EL2"))
        )
        return pstate, Controls(self.state, False, sctlr, tcr, ttbr0, ttbr1, mair, hcr, vtcr, vttbr)

    def _on_fill(self, vaddr: int, access: int) -> tuple[int, int] | None:
        engine = self.engine
        kind = _KINDS.get(access, Kind.READ)
        pstate, controls = self.controls()
        privileged = bool(pstate >> 2 & 3) and vaddr & ~0xFFF not in self.unprivileged
        self.unprivileged.clear()
        found = self.services.mmu(self.state).translate(controls, vaddr, Access(kind, privileged, bool(pstate & PAN)))
        if isinstance(found, Fault):
            self._failed = vaddr, kind, found
            return None
        region = self.services.memory.region_at(found.pa)
        if region is None:
            self._failed = vaddr, kind, found
            return None
        if kind is Kind.EXECUTE:
            offset = found.pa - region.base
            engine.scan(vaddr, found.pa, region.buffer[offset : offset + 4096].tobytes(), not self.python_el2)
            self.services.watch_code(found.pa)
            return found.pa, UC_PROT_EXEC | (UC_PROT_READ if found.read else 0)
        return found.pa, (UC_PROT_READ if found.read else 0) | (UC_PROT_WRITE if found.write else 0)

    # ---- faults ----

    def _on_fault(self, engine: Engine) -> None:
        """A fill failed: a window to map, a device access, or an abort."""
        self.save()
        if engine.missing_window is not None:
            engine.map_window(engine.missing_window)
            engine.missing_window = None
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
