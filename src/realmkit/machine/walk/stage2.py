"""Stage 2 walks of VMSAv8-64 with 4 KB granules (Arm ARM D8; spec: rtt sections 2 and 10).

Implemented: FEAT_HAFDBS, FEAT_S2FWB, FEAT_XNX. The Contiguous bit is a hint and ignored.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from realmkit.arch.esr import FSC_ACCESS_FLAG, FSC_ADDRESS_SIZE, FSC_TRANSLATION, FSC_UNSUPPORTED_ATOMIC
from realmkit.arch.pas import Pas, SecurityState
from realmkit.machine.walk.stage1 import PS_BITS
from realmkit.machine.walk.types import UPDATE_TRIES, Controls, Kind, StageFault

_ADDRESS: Final = (1 << 48) - 1
_FWB: Final = 1 << 46
_START: Final = {0: 2, 1: 1, 2: 0}
"""VTCR_EL2.SL0 to starting level."""
_LEVEL_0_PA_BITS: Final = 44
"""Physical address bits that a walk from level 0 needs."""
_MAX_TSZ: Final = 39
_AF: Final = 1 << 10
_WRITE: Final = 1 << 7
_DBM: Final = 1 << 51
_NS: Final = 1 << 55
_FORCED_WRITE_BACK: Final = 6
_EXECUTE_PRIVILEGED: Final = frozenset({0b00, 0b11})
_EXECUTE_USER: Final = frozenset({0b00, 0b01})

ReadEntry = Callable[[int, int], int]
"""(pa, level) to descriptor; raises StageFault."""
WriteEntry = Callable[[int, int, int, int], bool]
"""(pa, level, expected, new): compare and swap; False when the descriptor has changed."""


class Stage2(NamedTuple):
    """Result of stage 2 for the 4 KB page of one IPA; ``level`` is that of the leaf.

    ``rights``, of EL0 and of EL1, have bit n for kind n of an access. ``clean``: a write sets the dirty state first.
    ``forced``: Normal memory, whatever stage 1 says (FEAT_S2FWB).
    """

    pa: int
    pas: Pas
    rights: tuple[int, int]
    device: bool
    level: int
    clean: bool = False
    forced: bool = False


def start(c: Controls) -> tuple[int, int] | None:
    """(IPA bits, starting level) of VTCR_EL2; None for values that are reserved or do not go together.

    Up to sixteen concatenated tables start the walk, so each starting level suits a range of IPA sizes.
    """
    tsz = c.vtcr & 63
    bits = 64 - tsz
    level = _START.get(c.vtcr >> 6 & 3)
    if level is None or tsz > _MAX_TSZ or bits > min(c.pa_bits, 48):
        return None
    if level == 0 and c.pa_bits < _LEVEL_0_PA_BITS:
        return None
    shift = 12 + 9 * (3 - level)
    return (bits, level) if shift + 1 <= bits <= shift + 9 + 4 else None


def translate(c: Controls, ipa: int, write: bool, read: ReadEntry, swap: WriteEntry) -> Stage2:
    """Walk the tables of VTTBR_EL2 for an access to ``ipa``. Raises StageFault(stage=2)."""
    found = start(c)
    if found is None or ipa >> found[0]:
        raise StageFault(FSC_TRANSLATION, 2, ipa)
    for _ in range(UPDATE_TRIES):
        result = _walk(c, ipa, *found, write, read, swap)
        if result is not None:
            return result
    raise StageFault(FSC_UNSUPPORTED_ATOMIC, 2, ipa, write=True)


def _walk(
    c: Controls, ipa: int, bits: int, level: int, write: bool, read: ReadEntry, swap: WriteEntry
) -> Stage2 | None:
    """One walk; None when a descriptor changed under it."""
    shift = 12 + 9 * (3 - level)
    pa_bits = min(PS_BITS[c.vtcr >> 16 & 7], c.pa_bits)
    table = c.vttbr & _ADDRESS & -(1 << max(bits - shift + 3, 6))
    if table >> pa_bits:
        raise StageFault(FSC_ADDRESS_SIZE, 2, ipa)
    index = ipa >> shift  # concatenated starting tables
    while True:
        where = table + index * 8
        descriptor = read(where, level)
        if not descriptor & 1:
            raise StageFault(FSC_TRANSLATION + level, 2, ipa)
        if level == 3 or not descriptor & 2:
            break
        table = descriptor & _ADDRESS & ~0xFFF
        if table >> pa_bits:
            raise StageFault(FSC_ADDRESS_SIZE + level, 2, ipa)
        level += 1
        shift -= 9
        index = ipa >> shift & 511
    if not descriptor & 2 if level == 3 else level == 0:
        raise StageFault(FSC_TRANSLATION + level, 2, ipa)
    output = descriptor & _ADDRESS & -(1 << shift)
    if output >> pa_bits:
        raise StageFault(FSC_ADDRESS_SIZE + level, 2, ipa)
    hardware_af = c.vtcr >> 21 & 1
    if not descriptor & _AF and not hardware_af:
        raise StageFault(FSC_ACCESS_FLAG + level, 2, ipa)
    managed = bool(hardware_af and c.vtcr >> 22 & 1 and descriptor & _DBM)
    updated = descriptor | _AF | (_WRITE if managed and write else 0)
    if updated != descriptor and not swap(where, level, descriptor, updated):
        return None
    data = updated >> 6 & 3  # S2AP has read and write in the order of their kinds
    never = descriptor >> 53 & 3
    privileged, user = never in _EXECUTE_PRIVILEGED, never in _EXECUTE_USER
    pas = Pas(c.state)
    if c.state is SecurityState.REALM and descriptor & _NS:
        # A Realm does not execute memory that is not in the Realm PAS.
        pas, privileged, user = Pas.NS, False, False
    attribute = descriptor >> 2 & 15
    fwb = c.hcr & _FWB
    return Stage2(
        (output | ipa & (1 << shift) - 1) & ~0xFFF,
        pas,
        (data | user << Kind.EXECUTE, data | privileged << Kind.EXECUTE),
        attribute & (7 if fwb else 15) < 4,
        level,
        managed and not updated & _WRITE,
        bool(fwb) and attribute & 7 == _FORCED_WRITE_BACK,
    )
