"""A look at a Realm's own stage 1 tables: the level at which the walk of an address leaves the IPA space."""

from typing import Final

from realmkit.arch.pas import Pas
from realmkit.machine.port import El2Port
from realmkit.rmm.execution import memory
from realmkit.rmm.state import Rec

_GRANULES: Final = ({0: 12, 1: 16, 2: 14}, {1: 14, 2: 12, 3: 16})
_ADDRESS: Final = (1 << 48) - 1


def faulting_level(port: El2Port, rec: Rec, va: int) -> int:
    """Level of the stage 1 descriptor that leads ``va`` outside; 0 for the table base, or while the MMU is off.

    Reads only memory that the Realm can read now; where that is not possible the level reached so far is the answer.
    """
    ctx = rec.ctx
    if not ctx.read("SCTLR_EL1") & 1:
        return 0
    tcr = ctx.read("TCR_EL1")
    upper = va >> 55 & 1
    field = tcr >> (16 if upper else 0)
    granule = _GRANULES[upper].get(field >> 14 & 3, 12)
    bits = max(64 - (field & 63), granule + 1)
    stride = granule - 3
    level = max(4 - -(-(bits - granule) // stride), 0)
    table = ctx.read("TTBR1_EL1" if upper else "TTBR0_EL1") & _ADDRESS & ~0x3F
    if table >= rec.realm.ipa_top:
        return 0
    while True:
        shift = granule + stride * (3 - level)
        where = table + (va >> shift & ((1 << min(stride, bits - shift)) - 1)) * 8
        if where >= rec.realm.unprotected_base:
            return level
        try:
            pa = memory.locate(port, rec, where)
        except (memory.EmptyError, memory.NotMappedError):
            return level
        descriptor = port.bus.read64(Pas.REALM, pa & ~7)
        if level == 3 or not descriptor & 1 or not descriptor & 2:
            return level
        table = descriptor & _ADDRESS & ~((1 << granule) - 1)
        if table >= rec.realm.ipa_top:
            return level
        level += 1
