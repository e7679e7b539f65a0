"""Address translation instructions (Arm ARM C5.5, D24.2.139): the result goes to PAR_EL1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from realmkit.arch.pas import Pas
from realmkit.machine.insn import SystemAccess
from realmkit.machine.walk import Access, Fault, Kind

if TYPE_CHECKING:
    from realmkit.machine.core.cpu import Cpu

_F: Final = 1 << 0
_PTW: Final = 1 << 8
_S: Final = 1 << 9
_NS: Final = 1 << 9
_RES1: Final = 1 << 11
_INNER_SHAREABLE: Final = 3 << 7
_NORMAL: Final = 0xFF << 56
_ADDRESS: Final = (1 << 48) - 1 & ~0xFFF
_BOTH_STAGES: Final = 4
"""op2 of AT S12E<n><x>."""


def address_translate(cpu: Cpu, access: SystemAccess, va: int) -> None:
    """AT by EL1 or EL2. A stage 2 fault of the walk of an EL1 instruction is reported in PAR_EL1 as well."""
    _, op1, _, _, op2 = access.encoding
    both = op1 == 4 and op2 >= _BOTH_STAGES
    controls = cpu.controls_of(2 if op1 == 4 and not both else 1)
    request = Access(Kind.WRITE if op2 & 1 else Kind.READ, not op2 & 2, False)
    mmu = cpu.services.mmu(cpu.state)
    found = mmu.translate(controls, va, request) if both else mmu.translate_stage1(controls, va, request)
    if isinstance(found, Fault):
        stage2 = _S if found.stage == 2 else 0
        result = _F | _RES1 | found.fsc << 1 | (_PTW if found.s1ptw else 0) | stage2
    else:
        result = _RES1 | _INNER_SHAREABLE | found.pa & _ADDRESS
        if not found.device:
            result |= _NORMAL
        if found.pas is Pas.NS:
            result |= _NS
    cpu.engine.write_register("PAR_EL1", result)
