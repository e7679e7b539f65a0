"""Stage 2 walks of VMSAv8-64 with 4 KB granules (Arm ARM D8; spec: rtt sections 2 and 10)."""

from collections.abc import Callable
from typing import NamedTuple

from realmkit.arch.esr import FSC_ACCESS_FLAG, FSC_ADDRESS_SIZE, FSC_TRANSLATION
from realmkit.arch.pas import Pas, SecurityState
from realmkit.machine.walk.stage1 import StageFault
from realmkit.machine.walk.types import Controls

_ADDRESS = (1 << 48) - 1
_FWB = 1 << 46
_START = {0: 2, 1: 1, 2: 0}


class Stage2(NamedTuple):
    """Result of stage 2 for the 4 KB page of one IPA; ``level`` is that of the leaf."""

    pa: int
    pas: Pas
    read: bool
    write: bool
    execute_privileged: bool
    execute_user: bool
    device: bool
    level: int


def translate(c: Controls, ipa: int, read: Callable[[int, int], int]) -> Stage2:
    """Walk the tables of VTTBR_EL2 for ``ipa``; ``read(pa, level)`` fetches a descriptor. Raises StageFault."""
    bits = 64 - (c.vtcr & 63)
    level = _START.get(c.vtcr >> 6 & 3)
    if level is None or ipa >> bits:
        raise StageFault(FSC_TRANSLATION, 2, ipa)
    shift = 12 + 9 * (3 - level)
    table = c.vttbr & _ADDRESS & ~0xFFF
    index = ipa >> shift  # concatenated starting tables
    while True:
        descriptor = read(table + index * 8, level)
        if not descriptor & 1:
            raise StageFault(FSC_TRANSLATION + level, 2, ipa)
        if level < 3 and descriptor & 2:
            table = descriptor & _ADDRESS & ~0xFFF
            level += 1
            shift -= 9
            index = ipa >> shift & 511
            continue
        if (level == 3) != bool(descriptor & 2) or level == 0:
            raise StageFault(FSC_TRANSLATION + level, 2, ipa)
        break
    if not descriptor >> 10 & 1:
        raise StageFault(FSC_ACCESS_FLAG + level, 2, ipa)
    output = descriptor & _ADDRESS & ~((1 << shift) - 1)
    if output >> c.pa_bits:
        raise StageFault(FSC_ADDRESS_SIZE + level, 2, ipa)
    pa = (output | ipa & ((1 << shift) - 1)) & ~0xFFF
    never = descriptor >> 53 & 3
    privileged, user = never in (0, 1), never in (0, 3)
    if c.state is SecurityState.REALM:
        pas = Pas.NS if descriptor >> 55 & 1 else Pas.REALM
        if pas is Pas.NS:
            privileged = user = False
    else:
        pas = Pas.NS
    attribute = descriptor >> 2 & 15
    device = attribute & 7 < 4 if c.hcr & _FWB else attribute < 4
    return Stage2(pa, pas, bool(descriptor >> 6 & 1), bool(descriptor >> 7 & 1), privileged, user, bool(device), level)
