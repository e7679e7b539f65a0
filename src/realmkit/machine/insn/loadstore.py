"""What a load, a store or a maintenance instruction does to memory (Arm ARM C3.2, D24.2.40)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum

from realmkit.arch.esr import ISS_DABT

MASK64 = (1 << 64) - 1
_PAGE = 0xFFF
_PAGE_NUMBER = 0x00FF_FFFF_FFFF_F000
"""Bits that tell two pages apart whether or not the top byte is a tag."""


class Operation(Enum):
    """Kind of access."""

    LOAD = "load"
    STORE = "store"
    ATOMIC = "atomic"
    """Reads and then writes the same location: LSE atomics, swap, compare and swap."""
    PREFETCH = "prefetch"
    """Never faults."""
    ZERO = "zero"
    """DC ZVA: stores a block of zeros."""
    MAINTENANCE = "maintenance"
    """Cache maintenance by virtual address: faults like a write, with CM = 1."""


class Extend(IntEnum):
    """Extension of an index register (the ``option`` field)."""

    UXTW = 2
    LSL = 3
    SXTW = 6
    SXTX = 7


@dataclass(frozen=True, slots=True)
class LoadStore:
    """One access to memory.

    The address is X[``rn``] (or SP for 31; the PC for a ``literal``) plus ``offset``, or plus the extended and shifted
    X[``rm``]. ``elements`` transfers of ``1 << size`` bytes follow each other from there. Writing back adds
    ``writeback`` (or X[``writeback_rm``]) to the base register.
    """

    operation: Operation
    size: int
    """log2 of the bytes of one element."""
    rt: int
    rn: int
    offset: int = 0
    rm: int | None = None
    extend: Extend = Extend.LSL
    shift: int = 0
    signed: bool = False
    """Sign-extending load (SSE)."""
    wide: bool = True
    """The register is 64 bits wide (SF)."""
    rt2: int | None = None
    """Second register of a pair."""
    elements: int = 1
    indexed: bool = False
    """Writes the base register back, even when by zero."""
    writeback: int = 0
    writeback_rm: int | None = None
    literal: bool = False
    simd: bool = False
    exclusive: bool = False
    unprivileged: bool = False
    """LDTR and STTR: at EL1, checked as an access of EL0."""
    ordered: bool = False
    """Acquire or release semantics (AR)."""

    @property
    def write(self) -> bool:
        """What WnR says when any access by this instruction is refused (an atomic: when reading is allowed)."""
        return self.operation not in (Operation.LOAD, Operation.PREFETCH)

    @property
    def nbytes(self) -> int:
        """Bytes of one element."""
        return 1 << self.size

    @property
    def length(self) -> int:
        """Bytes of the whole access."""
        return self.elements << self.size

    @property
    def syndrome(self) -> bool:
        """The architecture describes the access in the ISS (ISV = 1).

        Only loads and stores of one general-purpose register, without writeback, not exclusive and not atomic.
        """
        return self.emulated and self.rt2 is None and not self.indexed

    @property
    def emulated(self) -> bool:
        """Somebody else can complete the access from general-purpose registers alone: one register or a pair."""
        return not self.simd and not self.exclusive and self.operation in (Operation.LOAD, Operation.STORE)

    def address(self, x: Sequence[int], sp: int, pc: int) -> int:
        """The lowest address of the access, from X0-X30, the current SP and the PC of the instruction."""
        if self.literal:
            return pc + self.offset & MASK64
        if self.rn != 31:
            base = x[self.rn]
        elif self.operation in (Operation.ZERO, Operation.MAINTENANCE):
            base = 0  # DC ZVA and cache maintenance take Xt, where 31 is XZR
        else:
            base = sp
        if self.rm is None:
            return base + self.offset & MASK64
        index = 0 if self.rm == 31 else x[self.rm]
        if self.extend is Extend.UXTW:
            index &= 0xFFFF_FFFF
        elif self.extend is Extend.SXTW:
            index = sign_extend(index, 32)
        return base + (index << self.shift) & MASK64

    def fault_address(self, start: int, page: int) -> int:
        """The lowest address of the access that lies in the 4 KB page at ``page``: what FAR holds.

        ``start`` is the effective address. An access that starts in the page before faults at its first byte in this
        one; where the access does not touch the page at all, the page itself is the answer. Address tags are ignored.
        """
        return page & ~_PAGE if (start ^ page) & _PAGE_NUMBER else start

    def iss(self) -> int:
        """The part of a data abort's ISS that tells of the instruction: ISV, SAS, SSE, SRT, SF, AR; or CM."""
        if self.operation is Operation.MAINTENANCE:
            return ISS_DABT.make(CM=1)
        if not self.syndrome:
            return 0
        return ISS_DABT.make(
            ISV=1, SAS=self.size, SSE=int(self.signed), SRT=self.rt, SF=int(self.wide), AR=int(self.ordered)
        )

    def loaded(self, value: int) -> int:
        """The 64-bit register value after loading one element of ``value`` (as memory holds it)."""
        value &= (1 << (8 << self.size)) - 1
        if self.signed:
            value = sign_extend(value, 8 << self.size) & (MASK64 if self.wide else 0xFFFF_FFFF)
        return value

    def base_after(self, base: int, read_x: Callable[[int], int]) -> int:
        """Value of the base register after the access."""
        step = self.writeback if self.writeback_rm is None else read_x(self.writeback_rm)
        return base + step & MASK64


def sign_extend(value: int, bits: int) -> int:
    """The low ``bits`` of a value as a signed integer."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value
