"""Stage 1 walks of VMSAv8-64 (Arm ARM D8): EL1&0 and non-VHE EL2, granules of 4, 16 and 64 KB, 48-bit addresses."""

from collections.abc import Callable
from typing import NamedTuple

from realmkit.arch.esr import FSC_ACCESS_FLAG, FSC_ADDRESS_SIZE, FSC_PERMISSION, FSC_TRANSLATION
from realmkit.machine.walk.types import Access, Controls, Kind

_PS_BITS = (32, 36, 40, 42, 44, 48, 48, 48)
_TG0 = (12, 16, 14, 12)
_TG1 = (12, 14, 12, 16)
_LARGEST_BLOCK = {12: 1, 14: 2, 16: 2}
_AF = 1 << 10
_AP1, _AP2 = 1 << 6, 1 << 7
_DBM = 1 << 51
_ADDRESS = (1 << 48) - 1
_MIN_TSZ, _MAX_TSZ = 16, 39

ReadDescriptor = Callable[[int, int], int]
"""(address, level) to descriptor, through stage 2 and the granule check; raises StageFault."""
WriteDescriptor = Callable[[int, int, int, int], bool]
"""(address, level, expected, new): compare and swap; False when the descriptor has changed."""


class StageFault(Exception):
    """A fault that ends a translation: the status code with its level, found by ``stage`` for address ``ipa``."""

    def __init__(self, fsc: int, stage: int = 1, ipa: int = 0, s1ptw: bool = False, write: bool = False) -> None:
        super().__init__(fsc)
        self.fsc, self.stage, self.ipa, self.s1ptw, self.write = fsc, stage, ipa, s1ptw, write


class Stage1(NamedTuple):
    """Result of stage 1 for one address."""

    address: int
    read: bool
    write: bool
    execute: bool
    device: bool


class _Half(NamedTuple):
    tsz: int
    granule: int
    ttbr: int
    disabled: bool
    ignore_top: bool
    flat_attributes: bool
    el0_denied: bool


def _half(c: Controls, upper: bool) -> _Half:
    tcr = c.tcr
    if c.el2:
        return _Half(tcr & 63, _TG0[tcr >> 14 & 3], c.ttbr0, upper, bool(tcr >> 20 & 1), bool(tcr >> 24 & 1), False)
    if upper:
        return _Half(
            tcr >> 16 & 63,
            _TG1[tcr >> 30 & 3],
            c.ttbr1,
            bool(tcr >> 23 & 1),
            bool(tcr >> 38 & 1),
            bool(tcr >> 42 & 1),
            bool(tcr >> 56 & 1),
        )
    return _Half(
        tcr & 63,
        _TG0[tcr >> 14 & 3],
        c.ttbr0,
        bool(tcr >> 7 & 1),
        bool(tcr >> 37 & 1),
        bool(tcr >> 41 & 1),
        bool(tcr >> 55 & 1),
    )


def translate(c: Controls, va: int, access: Access, read: ReadDescriptor, swap: WriteDescriptor) -> Stage1:
    """Walk the tables for ``va``; raises StageFault."""
    if not c.sctlr & 1:
        return _flat(c, va)
    upper = bool(va >> 55 & 1)
    half = _half(c, upper)
    bits = 64 - half.tsz
    top = 56 if half.ignore_top else 64
    sign = va >> bits & ((1 << (top - bits)) - 1)
    if half.disabled or not _MIN_TSZ <= half.tsz <= _MAX_TSZ:
        raise StageFault(FSC_TRANSLATION)
    if sign != ((1 << (top - bits)) - 1 if upper else 0) or (half.el0_denied and not access.privileged):
        raise StageFault(FSC_TRANSLATION)
    stride = half.granule - 3
    level = 4 - -(-(bits - half.granule) // stride)
    table = half.ttbr & _ADDRESS & ~1
    table &= ~((1 << max(bits - (half.granule + stride * (3 - level)) + 3, 6)) - 1)
    pa_bits = min(_PS_BITS[(c.tcr >> 16 if c.el2 else c.tcr >> 32) & 7], c.pa_bits)
    if table >> pa_bits:
        raise StageFault(FSC_ADDRESS_SIZE)
    inherited = 0
    while True:
        shift = half.granule + stride * (3 - level)
        index = va >> shift & ((1 << min(stride, bits - shift)) - 1)
        where = table + index * 8
        descriptor = read(where, level)
        if not descriptor & 1:
            raise StageFault(FSC_TRANSLATION + level)
        if level < 3 and descriptor & 2:
            table = descriptor & _ADDRESS & ~((1 << half.granule) - 1)
            if table >> pa_bits:
                raise StageFault(FSC_ADDRESS_SIZE + level)
            if not half.flat_attributes:
                inherited |= descriptor
            level += 1
            continue
        if (level == 3) != bool(descriptor & 2) or (level < 3 and level < _LARGEST_BLOCK[half.granule]):
            raise StageFault(FSC_TRANSLATION + level)
        break
    output = descriptor & _ADDRESS & ~((1 << shift) - 1)
    if output >> pa_bits:
        raise StageFault(FSC_ADDRESS_SIZE + level)
    hardware_af = c.tcr >> (21 if c.el2 else 39) & 1
    hardware_dirty = hardware_af and c.tcr >> (22 if c.el2 else 40) & 1
    if not descriptor & _AF:
        if not hardware_af:
            raise StageFault(FSC_ACCESS_FLAG + level)
        if not swap(where, level, descriptor, descriptor | _AF):
            return translate(c, va, access, read, swap)
        descriptor |= _AF
    if hardware_dirty and descriptor & _DBM and descriptor & _AP2 and access.kind is Kind.WRITE:
        allowed = _permissions(c, descriptor & ~_AP2, inherited, access)
        if allowed[1]:
            if not swap(where, level, descriptor, descriptor & ~_AP2):
                return translate(c, va, access, read, swap)
            descriptor &= ~_AP2
    may_read, may_write, may_execute = _permissions(c, descriptor, inherited, access)
    if not (may_read, may_write, may_execute)[access.kind]:
        raise StageFault(FSC_PERMISSION + level)
    device = (c.mair >> 8 * (descriptor >> 2 & 7) & 0xF0) == 0
    return Stage1(output | va & ((1 << shift) - 1), may_read, may_write, may_execute, device)


def _flat(c: Controls, va: int) -> Stage1:
    """MMU off: addresses are output as they are; data is Device memory."""
    if va >> c.pa_bits:
        raise StageFault(FSC_ADDRESS_SIZE)
    return Stage1(va, True, True, True, True)


def _permissions(c: Controls, descriptor: int, inherited: int, access: Access) -> tuple[bool, bool, bool]:
    """(read, write, execute) of a leaf at the access's privilege."""
    read_only = bool(descriptor & _AP2 or inherited >> 62 & 1)
    wxn = bool(c.sctlr >> 19 & 1)
    if c.el2:
        execute = not (descriptor >> 54 & 1 or inherited >> 60 & 1)
        return True, not read_only, execute and not (wxn and not read_only)
    user = bool(descriptor & _AP1) and not inherited >> 61 & 1
    if access.privileged:
        execute = not (descriptor >> 53 & 1 or inherited >> 59 & 1 or (user and not read_only))
        if wxn and not read_only:
            execute = False
        data = not (access.pan and user)
        return data, data and not read_only, execute
    execute = not (descriptor >> 54 & 1 or inherited >> 60 & 1)
    if wxn and user and not read_only:
        execute = False
    return user, user and not read_only, execute
