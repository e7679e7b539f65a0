"""A PE without Monitor and RMM that runs words of code in the Non-secure state; EL2 above it is the test."""

from collections.abc import Sequence
from typing import Final

from realmkit.arch.pas import Pas, SecurityState
from realmkit.arch.vmsa import S1_AP_EL0, S1_AP_RO, S1_NG, S1_PXN, S1_UXN
from realmkit.machine.context import PSTATE_DAIF, PSTATE_EL0T, PSTATE_EL1H, CpuContext
from realmkit.machine.core import Stop, StopKind
from realmkit.machine.machine import Machine
from realmkit.machine.platforms import small
from realmkit.machine.port import ExceptionInfo

CODE: Final = 0x8001_0000
VECTORS: Final = 0x8002_0000
DATA: Final = 0x8003_0000
TABLES: Final = 0x8010_0000
PAGE: Final = 4096
B_SELF: Final = 0x1400_0000  # b .
HVC0: Final = 0xD400_0002  # hvc #0
SCTLR_RESET: Final = 0xC5_0878
SPAN: Final = 1 << 23
EL0: Final = PSTATE_EL0T
EL1: Final = PSTATE_EL1H | PSTATE_DAIF
NORMAL: Final = 1 << 2
_TCR: Final = 25 | 25 << 16 | 2 << 30 | 5 << 32 | 1 << 36  # 39-bit halves, 4 KB, 48-bit output, 16-bit ASIDs
_LEAF: Final = 0b11 | 1 << 10 | 3 << 8


class Bench:
    """One PE (or more) with ``ctx`` on it."""

    def __init__(self, pes: int = 1) -> None:
        self.machine = Machine(small(pes=pes))
        self.bus = self.machine.buses[SecurityState.NS]
        self.pe = self.machine.pes[0]
        self.ctx = self.context()
        self._next_table = TABLES

    def context(self) -> CpuContext:
        """A context at EL1 with the MMU off."""
        ctx = CpuContext(pc=CODE, pstate=EL1)
        ctx.regs["SCTLR_EL1"] = SCTLR_RESET
        ctx.regs["VBAR_EL1"] = VECTORS
        return ctx

    def load(self, address: int, words: Sequence[int]) -> None:
        """Put code into memory."""
        self.bus.write(Pas.NS, address, b"".join(word.to_bytes(4, "little") for word in words))

    def vectors(self) -> None:
        """Every vector calls EL2, with its own number in the immediate."""
        for number in range(16):
            self.load(VECTORS + 0x80 * number, (HVC0 | number << 5,))

    def run(self, ctx: CpuContext | None = None, budget: int = 100_000) -> Stop:
        """Run until the budget is used up or control leaves to EL2: see :attr:`exit`."""
        ctx = self.ctx if ctx is None else ctx
        pe = self.pe
        pe.guest_exit = None
        pe.enter(SecurityState.NS, ctx)
        return pe.cpu.run(ctx, SecurityState.NS, True, budget)

    @property
    def exit(self) -> ExceptionInfo:
        """The exception that went to EL2."""
        assert self.pe.guest_exit is not None
        return self.pe.guest_exit

    def run_to_vector(self) -> int:
        """Run code whose exception goes to EL1 with :meth:`vectors`: number of the vector."""
        assert self.run().kind is StopKind.LEFT
        assert self.exit.esr >> 26 == 0x16
        return self.exit.esr & 0xFFFF

    # ---- stage 1 ----

    def enable_mmu(self, asid: int = 0) -> None:
        """39-bit halves with one table tree each; everything so far is mapped where it is, for EL1."""
        regs = self.ctx.regs
        lower, upper = self._table(), self._table()
        regs.update(
            {
                "TTBR0_EL1": lower | asid << 48,
                "TTBR1_EL1": upper,
                "TCR_EL1": _TCR,
                "MAIR_EL1": 0xFF00,
                "SCTLR_EL1": SCTLR_RESET | SPAN | 1,
            }
        )
        for page in range(0x8000_0000, 0x8004_0000, PAGE):
            self.map(page, page)
        for page in range(TABLES, TABLES + 0x1_0000, PAGE):
            self.map(page, page)

    def _table(self) -> int:
        table = self._next_table
        self._next_table += PAGE
        return table

    def entry(self, va: int, level: int = 3) -> int:
        """Where the descriptor of ``va`` at ``level`` is; makes the tables above it."""
        regs = self.ctx.regs
        table = regs["TTBR1_EL1" if va >> 55 & 1 else "TTBR0_EL1"] & (1 << 48) - 1
        for above in range(1, level):
            where = table + (va >> 39 - 9 * above & 511) * 8
            descriptor = self.bus.read64(Pas.NS, where)
            if not descriptor:
                descriptor = self._table() | 3
                self.bus.write64(Pas.NS, where, descriptor)
            table = descriptor & ((1 << 48) - 1) & ~0xFFF
        return table + (va >> 39 - 9 * level & 511) * 8

    def map(
        self, va: int, pa: int, *, user: bool = False, read_only: bool = False, execute: bool = True, own: bool = False
    ) -> None:
        """Map a page: ``user`` for EL0 as well, ``own`` for the present ASID alone."""
        descriptor = pa | _LEAF | NORMAL
        if user:
            descriptor |= S1_AP_EL0
        if read_only:
            descriptor |= S1_AP_RO
        if own:
            descriptor |= S1_NG
        if not execute:
            descriptor |= S1_PXN | S1_UXN
        self.bus.write64(Pas.NS, self.entry(va), descriptor)

    def map_block(self, va: int, pa: int) -> None:
        """Map 2 MB."""
        self.bus.write64(Pas.NS, self.entry(va, 2), pa | _LEAF & ~2 | NORMAL)

    def word(self, address: int) -> int:
        """64 bits of memory."""
        return self.bus.read64(Pas.NS, address)
