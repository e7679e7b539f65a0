"""How far code runs before it may unmask interrupts (Arm ARM D1.3.6: it takes a pending one then)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from realmkit.machine.core.cpu import Cpu

_LONGEST: Final = 32
_DAIFCLR: Final = 0xD503_40FF
_MSR_DAIF: Final = 0xD51B_4220


def distance(cpu: Cpu) -> int:
    """Instructions from PC up to one that may unmask interrupts, or that goes elsewhere; that one is included."""
    pc = cpu.ctx.pc
    for count in range(1, _LONGEST):
        word = cpu.word(pc)
        if word is None or _may_unmask(word) or _goes_elsewhere(word):
            return count
        pc += 4
    return _LONGEST


def _may_unmask(word: int) -> bool:
    return word & 0xFFFF_F0FF == _DAIFCLR or word & 0xFFFF_FFE0 == _MSR_DAIF


def _goes_elsewhere(word: int) -> bool:
    """B, BL, B.cond, CBZ, CBNZ, TBZ, TBNZ, BR, BLR, RET, ERET, and exception-generating instructions."""
    return (
        word >> 26 & 0x1F == 5 or word >> 24 in (0x54, 0xD4) or word >> 25 & 0x3F in (0x1A, 0x1B) or word >> 25 == 0x6B
    )
