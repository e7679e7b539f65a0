"""AArch64 instructions as words: enough to write attackers and victims as Python lists."""

from collections.abc import Iterable, Sequence
from itertools import chain

from realmkit.arch.sysregs import ENCODINGS

Code = Sequence[int]
XZR = 31

NOP = 0xD503_201F
WFI = 0xD503_207F
ISB = 0xD503_3FDF
DSB = 0xD503_3F9F
ERET = 0xD69F_03E0
RET = 0xD65F_03C0
SMC = 0xD400_0003
HVC = 0xD400_0002
BRK = 0xD420_0000
STAY = 0x1400_0000
"""A branch to itself."""


def mov(rd: int, value: int) -> list[int]:
    """A 64-bit constant."""
    halves = [(n, value >> 16 * n & 0xFFFF) for n in range(4)]
    parts = [(n, half) for n, half in halves if half] or [(0, 0)]
    return [(0xF280_0000 if at else 0xD280_0000) | n << 21 | half << 5 | rd for at, (n, half) in enumerate(parts)]


def ldr(rt: int, rn: int, offset: int = 0) -> int:
    """64-bit load."""
    return 0xF940_0000 | offset >> 3 << 10 | rn << 5 | rt


def store(rt: int, rn: int, offset: int = 0) -> int:
    """64-bit store."""
    return 0xF900_0000 | offset >> 3 << 10 | rn << 5 | rt


def strb(rt: int, rn: int, offset: int = 0) -> int:
    """8-bit store."""
    return 0x3900_0000 | offset << 10 | rn << 5 | rt


def stp(rt: int, rt2: int, rn: int) -> int:
    """Store of a pair: its abort has no instruction syndrome."""
    return 0xA900_0000 | rt2 << 10 | rn << 5 | rt


def add(rd: int, rn: int, imm: int) -> int:
    """Addition of a constant."""
    return 0x9100_0000 | imm << 10 | rn << 5 | rd


def sub(rd: int, rn: int, imm: int) -> int:
    """Subtraction of a constant."""
    return 0xD100_0000 | imm << 10 | rn << 5 | rd


def eor(rd: int, rn: int, rm: int) -> int:
    """Exclusive or."""
    return 0xCA00_0000 | rm << 16 | rn << 5 | rd


def ror(rd: int, rn: int, imm: int) -> int:
    """Rotate right."""
    return 0x93C0_0000 | rn << 16 | imm << 10 | rn << 5 | rd


def b(words: int) -> int:
    """Branch by a number of instructions."""
    return 0x1400_0000 | words & 0x3FF_FFFF


def cbnz(rt: int, words: int) -> int:
    """Branch by a number of instructions unless the register is zero."""
    return 0xB500_0000 | (words & 0x7_FFFF) << 5 | rt


def cbz(rt: int, words: int) -> int:
    """Branch by a number of instructions if the register is zero."""
    return 0xB400_0000 | (words & 0x7_FFFF) << 5 | rt


def blr(rn: int) -> int:
    """Call."""
    return 0xD63F_0000 | rn << 5


def mrs(rt: int, name: str) -> int:
    """Read a system register."""
    return 1 << 21 | msr(name, rt)


def msr(name: str, rt: int) -> int:
    """Write a system register."""
    return sysinsn(*ENCODINGS[name], rt)


def sysinsn(op0: int, op1: int, crn: int, crm: int, op2: int, rt: int = XZR) -> int:
    """MSR or SYS by encoding."""
    return 0xD500_0000 | op0 << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5 | rt


def write_sysreg(name: str, value: int) -> list[int]:
    """Set a system register to a constant, by X9."""
    return [*mov(9, value), msr(name, 9)]


TLBI_VMALLE1 = sysinsn(1, 0, 8, 7, 0)
IC_IALLU = sysinsn(1, 0, 7, 5, 0)


def checksum(rd: int, base: int, size: int) -> list[int]:
    """Mix all words of memory into ``rd``; uses X9-X11."""
    loop = [ldr(11, 9), ror(rd, rd, 7), eor(rd, rd, 11), add(9, 9, 8), sub(10, 10, 1), cbnz(10, -5)]
    return [*mov(9, base), *mov(10, size // 8), *mov(rd, 0), *loop]


def smc(fid: int, *arguments: int) -> list[int]:
    """An SMC with constants in X0, X1..."""
    return [*chain.from_iterable(mov(n, value) for n, value in enumerate((fid, *arguments))), SMC]


def pack(words: Iterable[int]) -> bytes:
    """The words as memory holds them."""
    return b"".join(word.to_bytes(4, "little") for word in words)
