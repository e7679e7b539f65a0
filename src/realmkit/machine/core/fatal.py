"""Instructions that Unicorn must never see: its translator ends the process at some unallocated ones among them.

Both groups are half-precision SIMD (FEAT_FP16), which our PEs do not have, so all of them are UNDEFINED. The engine is
given their addresses as places where to stop, which it does before it looks at the instruction, in the way of a trapped
WFI: with PC at the instruction before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from realmkit.arch.smccc import MASK64
from realmkit.machine.core import exceptions
from realmkit.machine.insn import Hint, HintKind, SystemAccess, decode

if TYPE_CHECKING:
    from realmkit.machine.core.cpu import Cpu

_TWO_REGISTERS: Final = 0x8F7E_0C00, 0x0E78_0800
"""Mask and value of the group with one source and, but for :data:`_SCALAR`, no others."""
_SCALAR: Final = 0x5000_0000, 0x1000_0000
"""The same bits in floating-point data processing, which has other places for them."""
_THREE_REGISTERS: Final = 0x9F60_C400, 0x0E40_0400
_UDF: Final = 1 << 16
"""UDF has zeros above."""


def is_fatal(word: int) -> bool:
    """Whether the instruction belongs to one of the groups."""
    if word & _THREE_REGISTERS[0] == _THREE_REGISTERS[1]:
        return True
    return word & _TWO_REGISTERS[0] == _TWO_REGISTERS[1] and word & _SCALAR[0] != _SCALAR[1]


def _may_trap(word: int) -> bool:
    """Whether Unicorn reports the instruction, when it traps or is UNDEFINED, as it reports the places."""
    if word < _UDF:
        return True
    instruction = decode(word)
    return isinstance(instruction, SystemAccess) or instruction == Hint(HintKind.WFI)


def serve(cpu: Cpu) -> bool:
    """An exception with PC before such a place: True when it was the place, and the exception has been taken.

    What is before it may itself have trapped. That comes first, once: if it had not, the engine stops here again.
    """
    engine, ctx = cpu.engine, cpu.ctx
    place = ctx.pc + 4 & MASK64
    before, engine.fatal_next = engine.fatal_next, -1
    if place not in engine.fatal:
        return False
    word = cpu.word()
    if before != place and word is not None and _may_trap(word):
        engine.fatal_next = place
        return False
    ctx.pc = place
    if is_fatal(cpu.word() or 0):
        exceptions.undefined(cpu)
    else:
        engine.forget_fatal(place)
    return True
