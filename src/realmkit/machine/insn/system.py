"""System instructions: register accesses, hints, exception calls and returns (Arm ARM C4.1.94, C5)."""

from dataclasses import dataclass
from enum import Enum, IntEnum

from realmkit.arch.esr import ISS_SYSREG
from realmkit.arch.sysregs import Encoding, instruction_encoding, name_of


@dataclass(frozen=True, slots=True)
class SystemAccess:
    """MRS, MSR (register or immediate), SYS or SYSL.

    ``encoding[0]`` is op0: 2 and 3 are registers, 1 is SYS and SYSL (cache, TLB and address translation instructions),
    0 is MSR (immediate) to a PSTATE field, whose immediate is the CRm of the encoding. ``rt`` 31 is XZR.
    """

    read: bool
    encoding: Encoding
    rt: int

    @property
    def name(self) -> str:
        """Architectural name of the register, or its generic name."""
        return name_of(self.encoding)

    def iss(self) -> int:
        """ISS of a trapped access (EC 0x18)."""
        op0, op1, crn, crm, op2 = self.encoding
        return ISS_SYSREG.make(READ=int(self.read), CRm=crm, Rt=self.rt, CRn=crn, Op1=op1, Op2=op2, Op0=op0)


class HintKind(IntEnum):
    """Hints by number (CRm:op2), and the two waits with a timeout."""

    NOP = 0
    YIELD = 1
    WFE = 2
    WFI = 3
    SEV = 4
    SEVL = 5
    WFET = 0x100
    WFIT = 0x101


@dataclass(frozen=True, slots=True)
class Hint:
    """A hint; ``rt`` holds the deadline of WFET and WFIT."""

    kind: HintKind
    rt: int = 31


class Vector(Enum):
    """What an instruction calls."""

    SVC = "svc"
    HVC = "hvc"
    SMC = "smc"
    BRK = "brk"
    HLT = "hlt"


@dataclass(frozen=True, slots=True)
class ExceptionCall:
    """SVC, HVC, SMC, BRK or HLT with its 16-bit immediate."""

    vector: Vector
    immediate: int


@dataclass(frozen=True, slots=True)
class ExceptionReturn:
    """ERET."""


System = SystemAccess | Hint | ExceptionCall | ExceptionReturn

_CALLS = {
    0xD400_0001: Vector.SVC,
    0xD400_0002: Vector.HVC,
    0xD400_0003: Vector.SMC,
    0xD420_0000: Vector.BRK,
    0xD440_0000: Vector.HLT,
}
_ERET = 0xD69F_03E0
_WAITS = {0xD503_1000: HintKind.WFET, 0xD503_1020: HintKind.WFIT}
_HINTS = {int(kind): kind for kind in HintKind if kind < HintKind.WFET}
_PSTATE_FIELD_CRN = 4


def decode_system(word: int) -> System | None:
    """Decode a system instruction; None for barriers, unallocated hints and everything else."""
    if word == _ERET:
        return ExceptionReturn()
    if word >> 24 == 0xD4:
        vector = _CALLS.get(word & 0xFFE0_001F)
        return None if vector is None else ExceptionCall(vector, word >> 5 & 0xFFFF)
    if word >> 22 != 0x354:
        return None
    if word >> 19 & 3:
        return SystemAccess(bool(word >> 21 & 1), instruction_encoding(word), word & 31)
    if word >> 21 & 1:
        return None
    if word & 0xFFFF_F01F == 0xD503_201F:
        kind = _HINTS.get(word >> 5 & 0x7F)
        return None if kind is None else Hint(kind)
    wait = _WAITS.get(word & 0xFFFF_FFE0)
    if wait is not None:
        return Hint(wait, word & 31)
    if word >> 12 & 15 == _PSTATE_FIELD_CRN and word & 31 == 31:
        return SystemAccess(False, instruction_encoding(word), 31)
    return None
