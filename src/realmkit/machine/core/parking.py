"""Code that has parked itself: a loop of branches, hints and barriers, such as ``b .`` or ``wfe; b``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from realmkit.arch.smccc import MASK64
from realmkit.machine.insn import Hint, HintKind, decode

if TYPE_CHECKING:
    from realmkit.machine.core.cpu import Cpu

REACH: Final = 32
"""Bytes that such a loop spans at most."""
LEAST_SLICE: Final = 256
"""Instructions of a slice after which it is worth to look."""
_HARMLESS: Final = frozenset({HintKind.NOP, HintKind.YIELD, HintKind.WFE, HintKind.WFI})


def is_parked(cpu: Cpu) -> bool:
    """Whether the code at PC comes back to where it is without doing anything on its way."""
    pc = cpu.ctx.pc
    seen: set[int] = set()
    for _ in range(2 * REACH // 4):
        if pc in seen:
            return True
        seen.add(pc)
        word = cpu.word(pc)
        if word is None:
            return False
        if word >> 26 == 5:  # B
            offset = word & 0x3FF_FFFF
            pc = pc + 4 * (offset - (offset >> 25 << 26)) & MASK64
            continue
        instruction = decode(word)
        barrier = word & 0xFFFF_F01F == 0xD503_301F
        if not barrier and not (isinstance(instruction, Hint) and instruction.kind in _HARMLESS):
            return False
        pc = pc + 4 & MASK64
    return False
