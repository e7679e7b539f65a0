"""Stage 1 walks of VMSAv8-64 (Arm ARM D8): EL1&0 and non-VHE EL2, granules of 4, 16 and 64 KB, 48-bit addresses.

Implemented: FEAT_HAFDBS, FEAT_HPDS, FEAT_E0PD, FEAT_PAN. The Contiguous bit is a hint and ignored.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from realmkit.arch.esr import FSC_ACCESS_FLAG, FSC_ADDRESS_SIZE, FSC_PERMISSION, FSC_TRANSLATION, FSC_UNSUPPORTED_ATOMIC
from realmkit.arch.pas import SecurityState
from realmkit.machine.walk.types import UPDATE_TRIES, Access, Controls, Kind, StageFault

PS_BITS: Final = (32, 36, 40, 42, 44, 48, 48, 48)
"""TCR_EL1.IPS, TCR_EL2.PS and VTCR_EL2.PS: bits of an output address."""
_TG0: Final = (12, 16, 14, 12)
_TG1: Final = (12, 14, 12, 16)
_LARGEST_BLOCK: Final = {12: 1, 14: 2, 16: 2}
_AF: Final = 1 << 10
_AP1: Final = 1 << 6
_AP2: Final = 1 << 7
_DBM: Final = 1 << 51
_ADDRESS: Final = (1 << 48) - 1
_MIN_TSZ: Final = 16
_MAX_TSZ: Final = 39
ATTRIBUTES: Final = 3 << 53 | 1 << 51 | 3 << 10 | 7 << 5 | 3
"""What of a last descriptor decides rights: UXN and PXN, DBM, nG, AF, AP[2:1], NS, and what makes it one."""
LEAVES: Final = 32
"""Kinds of descriptors that are remembered of one table."""
KNOWN_SHIFT: Final = 21
"""log2 of the bytes that the least table at level 3 covers, and the least block maps (4 KB granule)."""
KNOWN_TABLES: Final = 1 << 14
_WRITE: Final = Kind.WRITE
_EXECUTE: Final = Kind.EXECUTE

ReadDescriptor = Callable[[int, int, bool], int]
"""(address, level, Non-secure) to descriptor, through stage 2 and the granule check; raises StageFault."""
WriteDescriptor = Callable[[int, int, bool, int, int], bool]
"""(address, level, Non-secure, expected, new): compare and swap; False when the descriptor has changed."""


class Stage1(NamedTuple):
    """Result of stage 1 for one address.

    ``ns``: in the Non-secure PAS, although the state is another one; ``not_global`` and ``reach`` as in Mapping.
    """

    address: int
    read: bool
    write: bool
    execute: bool
    device: bool
    ns: bool
    not_global: bool = False
    reach: int = 12


class Leaf(NamedTuple):
    """What the attributes of a last descriptor mean: ``rights`` has bit n for kind n of an access."""

    rights: int
    not_global: bool
    ns: bool


class LeafTable(NamedTuple):
    """A table with last descriptors in it, and what the walk has gathered above it.

    ``mask`` and ``shift``: which bits of an address are the index. ``staged``: its address passes stage 2. ``leaves``:
    what its last descriptors have meant so far, by :data:`ATTRIBUTES`; only those that hardware does not update. A kind
    of access that has no right by them may have to update one (a clean page).
    """

    address: int
    mask: int
    shift: int
    ns: bool
    pa_bits: int
    staged: bool
    leaves: dict[int, Leaf]
    level: int
    inherited: int
    granule: int


KnownTables = dict[int, LeafTable]
"""By VA[63:KNOWN_SHIFT]: at level 3, or where a block was."""


class _Half(NamedTuple):
    """Controls of one of the two address ranges of a regime."""

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


def translate(
    c: Controls,
    va: int,
    access: Access,
    read: ReadDescriptor,
    swap: WriteDescriptor,
    known: KnownTables | None = None,
) -> Stage1:
    """Walk the tables for ``va``; raises StageFault.

    ``known`` remembers last tables for the caller, as a TLB may: it belongs to one ``c``, privilege and PAN.
    """
    if not c.stage1:
        return _flat(c, va, access)
    for _ in range(UPDATE_TRIES):
        found = _walk(c, va, access, read, swap, known)
        if found is not None:
            return found
    raise StageFault(FSC_UNSUPPORTED_ATOMIC, write=True)


def _walk(
    c: Controls,
    va: int,
    access: Access,
    read: ReadDescriptor,
    swap: WriteDescriptor,
    known: KnownTables | None,
) -> Stage1 | None:
    """One walk; None when a descriptor changed under it."""
    table = None if known is None else known.get(va >> KNOWN_SHIFT)
    if table is not None:
        level = table.level
        where = table.address + (va >> table.shift & table.mask) * 8
        descriptor = read(where, level, table.ns)
        if not descriptor & 1:
            raise StageFault(FSC_TRANSLATION + level)
        if level == 3 or not descriptor & 2:
            return _leaf(c, va, access, swap, where, descriptor, table)
    return _leaf(c, va, access, swap, *_descend(c, va, access, read, known))


def _descend(
    c: Controls, va: int, access: Access, read: ReadDescriptor, known: KnownTables | None
) -> tuple[int, int, LeafTable]:
    """Address and value of the descriptor at which the walk ends, and its table."""
    upper = bool(va >> 55 & 1)
    tsz, granule, ttbr, disabled, ignore_top, flat_attributes, el0_denied = _half(c, upper)
    if disabled or not _MIN_TSZ <= tsz <= _MAX_TSZ or (el0_denied and not access.privileged):
        raise StageFault(FSC_TRANSLATION)
    bits = 64 - tsz
    top = (1 << (56 if ignore_top else 64) - bits) - 1
    if va >> bits & top != (top if upper else 0):
        raise StageFault(FSC_TRANSLATION)
    stride = granule - 3
    level = 4 - -(-(bits - granule) // stride)
    shift = granule + stride * (3 - level)
    table = ttbr & _ADDRESS & -(1 << max(bits - shift + 3, 6))
    pa_bits = min(PS_BITS[(c.tcr >> 16 if c.el2 else c.tcr >> 32) & 7], c.pa_bits)
    if table >> pa_bits:
        raise StageFault(FSC_ADDRESS_SIZE)
    mask = (1 << bits - shift) - 1
    inherited = 0
    ns = False
    secure = c.state is SecurityState.SECURE
    last = None
    while True:
        if level == 3:
            last = _last(known, va, LeafTable(table, mask, shift, ns, pa_bits, c.stage2, {}, level, inherited, granule))
        where = table + (va >> shift & mask) * 8
        descriptor = read(where, level, ns)
        if not descriptor & 1:
            raise StageFault(FSC_TRANSLATION + level)
        if level == 3 or not descriptor & 2:
            break
        table = descriptor & _ADDRESS & -(1 << granule)
        if table >> pa_bits:
            raise StageFault(FSC_ADDRESS_SIZE + level)
        if not flat_attributes:
            inherited |= descriptor
        if secure and descriptor >> 63:
            ns = True
        level += 1
        shift -= stride
        mask = (1 << stride) - 1
    if last is None:
        last = _last(known, va, LeafTable(table, mask, shift, ns, pa_bits, c.stage2, {}, level, inherited, granule))
    return where, descriptor, last


def _last(known: KnownTables | None, va: int, table: LeafTable) -> LeafTable:
    """Remember a last table."""
    if known is not None:
        if len(known) >= KNOWN_TABLES:
            known.clear()
        known[va >> KNOWN_SHIFT] = table
    return table


def _leaf(
    c: Controls,
    va: int,
    access: Access,
    swap: WriteDescriptor,
    where: int,
    descriptor: int,
    table: LeafTable,
) -> Stage1 | None:
    """What the last descriptor gives, with its hardware updates; None when it changed under them."""
    _, _, shift, ns, pa_bits, _, leaves, level, inherited, granule = table
    secure = c.state is SecurityState.SECURE
    if not descriptor & 2 if level == 3 else level < _LARGEST_BLOCK[granule]:
        raise StageFault(FSC_TRANSLATION + level)
    output = descriptor & _ADDRESS & -(1 << shift)
    if output >> pa_bits:
        raise StageFault(FSC_ADDRESS_SIZE + level)
    hardware_af = c.tcr >> (21 if c.el2 else 39) & 1
    if not descriptor & _AF and not hardware_af:
        raise StageFault(FSC_ACCESS_FLAG + level)
    # With hardware management of dirty state, DBM makes a page writable whatever AP[2] says.
    managed = hardware_af and c.tcr >> (22 if c.el2 else 40) & 1 and descriptor & _DBM
    effective = descriptor & ~_AP2 if managed else descriptor
    leaf_ns = ns or (bool(descriptor >> 5 & 1) and (secure or (c.el2 and c.state is SecurityState.REALM)))
    permissions = may_read, may_write, may_execute = _permissions(c, effective, inherited, access)
    if leaf_ns and not secure:
        # Software in the Realm state does not execute Non-secure memory.
        permissions = may_read, may_write, may_execute = may_read, may_write, False
    kind = access.kind
    if not permissions[kind]:
        raise StageFault(FSC_PERMISSION + level)
    updated = (effective if kind is _WRITE else descriptor) | _AF
    if updated != descriptor and not swap(where, level, ns, descriptor, updated):
        return None
    may_write = may_write and not (managed and updated & _AP2)
    device = not c.mair >> 8 * (descriptor >> 2 & 7) & 0xF0
    not_global = bool(descriptor >> 11 & 1) and not c.el2
    if updated == descriptor and len(leaves) < LEAVES:
        leaves[descriptor & ATTRIBUTES] = Leaf(may_read | may_write << 1 | may_execute << 2, not_global, leaf_ns)
    return Stage1(output | va & (1 << shift) - 1, may_read, may_write, may_execute, device, leaf_ns, not_global, shift)


def _flat(c: Controls, va: int, access: Access) -> Stage1:
    """Stage 1 off: addresses are output as they are; data is Device memory unless HCR_EL2.DC is set."""
    half = _half(c, bool(va >> 55 & 1))
    if half.ignore_top:
        va &= (1 << 56) - 1
    if va >> c.pa_bits:
        raise StageFault(FSC_ADDRESS_SIZE)
    return Stage1(va, True, True, True, not (c.default_cacheable or access.kind is _EXECUTE), False)


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
