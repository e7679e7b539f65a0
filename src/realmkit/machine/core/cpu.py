"""Runs contexts on engines: slices, exceptions, interrupts, and what Unicorn leaves to us.

Exceptions whose target lies inside the context (EL1, or EL2 of an image) are entered as the architecture has it; those
for Python software at EL2 or EL3 are handed to it with the context's X0-X30, PC and PSTATE current.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from realmkit.arch.pas import SecurityState
from realmkit.arch.smccc import MASK64
from realmkit.arch.time import CHARGE_EXIT, COUNTER_POLL
from realmkit.machine.context import CpuContext
from realmkit.machine.core import aborts, fatal, interrupts, parking, traps
from realmkit.machine.core.engine import Engine
from realmkit.machine.core.fills import Fills
from realmkit.machine.core.registers import PAN
from realmkit.machine.core.services import CpuServices
from realmkit.machine.insn import SystemAccess

SLICE: Final = 50_000
"""Instructions between two looks at interrupts, at most."""
LONGEST_SLICE: Final = 200_000
"""The same while code executes slice after slice without any exit."""
_POLLING_SLICE: Final = 2_000
"""The same while code waits for time to pass by reading a counter."""
_LEVEL: Final = 0xC
"""PSTATE.EL."""
_WFE: Final = 0xD503_205F


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


class Cpu(Fills):
    """The execution part of one PE."""

    def __init__(self, index: int, services: CpuServices) -> None:
        super().__init__(services)
        self.index = index
        self.time = 0
        """Virtual time of this PE, in ticks."""
        self._loaded_pstate = 0
        self._entered = False
        """The engine is already where the context is: an exception has been entered natively."""
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

    def new_engine(self) -> Engine:
        """An engine whose hooks lead here."""
        return Engine(self.services.memory, self._on_fill, self._on_interrupt, self._on_instruction, self._on_wait)

    # ---- time ----

    def now(self) -> int:
        """Virtual time in ticks."""
        return self.time

    def charge(self, ticks: int) -> None:
        """Let time pass."""
        self.time += ticks

    def catch_up(self) -> None:
        """Bring time up to the present block of code, from inside an instruction hook."""
        self.time += self.engine.blocks.executed_before()

    def _leave_code(self) -> None:
        """An exit from code to Python software: the context is brought up to date, and so is time."""
        self.save()
        self.time += self.engine.blocks.executed(self.ctx.pc) + CHARGE_EXIT

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
            masked = interrupts.take(self)
            if (stop := self._ended()) is not None:
                return stop
            count = min(self.end - self.time, length if self.counter_reads <= COUNTER_POLL else _POLLING_SLICE)
            if count <= 0:
                return Stop(StopKind.BUDGET)
            self._break = self._recheck = False
            self.counter_reads = self._exits = 0
            # What is pending and masked is taken once the code unmasks it, or goes where it is not masked.
            engine.blocks.grant(count, masked and masked | _LEVEL, ctx.pstate)
            self._failed = None
            done = engine.run(ctx.pc)
            if self._trapped:
                self._on_wait_for_event()
            elif not engine.stopped and (self._failed is not None or engine.missing_window is not None):
                self._on_fault(engine)
            elif not engine.stopped:
                if not done and not engine.exits_due:
                    self.time += CHARGE_EXIT
                self._on_completed()
                length = SLICE if self._exits else min(2 * length, LONGEST_SLICE)
            if (stop := self._ended()) is not None:
                return stop

    @property
    def has_ended(self) -> bool:
        """Whether the present run is to end."""
        return self._break or self._stop is not None

    def _ended(self) -> Stop | None:
        """Why the run ends here, if it does."""
        return Stop(StopKind.BUDGET) if self._stop is None and self._break else self._stop

    def _on_completed(self) -> None:
        """A slice has ended between two blocks of code."""
        self.save()
        self.repeats = 0
        count = self.engine.blocks.executed(None)
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
        self._leave_code()
        self._exits += 1
        fatal_word = self.engine.fatal and number == traps.UNDEFINED and fatal.serve(self)
        if not fatal_word and (not traps.serve(self, number) or self._stop is not None):
            return False
        self.resume()
        # What exits are charged leaves less for the code.
        self.engine.blocks.limit(self.end - self.time)
        return not (self._recheck or self._break or self.time >= self.end)

    def _on_instruction(self, access: SystemAccess, value: int) -> bool:
        return traps.hooked(self, access, value)

    def _on_wait(self, address: int) -> bool:
        """WFE, which Unicorn does not trap, while a higher exception level does: stop before it."""
        el = self.running_pstate() >> 2 & 3
        self._trapped = el < 2 and traps.is_wfe_trapped(self, el) and self.word(address) == _WFE
        return self._trapped

    def _on_wait_for_event(self) -> None:
        self._trapped = False
        self._leave_code()
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
        """End the run after the present block of code: what interrupts it has changed."""
        self._break = True
        if self._engine is not None:
            self._engine.blocks.limit(0)

    # ---- faults ----

    def _on_fault(self, engine: Engine) -> None:
        """A fill failed: a window to map, a device access, or an abort."""
        self._leave_code()
        if engine.missing_window is not None:
            engine.map_window(engine.missing_window)
            return
        failed, self._failed = self._failed, None
        if failed is not None:
            aborts.serve(self, *failed)
        if self._stop is None:
            self.resume()
