"""Decoder of the AArch64 instructions that software around a PE must understand (Arm ARM C4.1).

Not a disassembler: it knows accesses to memory (exact address, syndrome, completion) and the system instructions
that trap.
"""

from realmkit.machine.insn.decoder import Instruction, decode, decode_access
from realmkit.machine.insn.loadstore import Extend, LoadStore, Operation
from realmkit.machine.insn.system import ExceptionCall, ExceptionReturn, Hint, HintKind, SystemAccess, Vector

__all__ = [
    "ExceptionCall",
    "ExceptionReturn",
    "Extend",
    "Hint",
    "HintKind",
    "Instruction",
    "LoadStore",
    "Operation",
    "SystemAccess",
    "Vector",
    "decode",
    "decode_access",
]
