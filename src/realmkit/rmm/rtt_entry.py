"""RTT entries as stage 2 descriptors (RMM 1.0-rel0 A5.5; Arm ARM D8.3; spec: rtt sections 3, 9, 10).

What the Realm may use is a valid block or page descriptor; TABLE is a table descriptor. All other entries are invalid
descriptors, whose bits 63:1 the hardware ignores. In those the RMM keeps:

====== ==========================================================================
Bits   Meaning in an invalid descriptor
====== ==========================================================================
2      ASSIGNED (else UNASSIGNED)
5:4    RIPAS, as RmiRipas encodes it
47:12  output address, if ASSIGNED
55     Unprotected: UNASSIGNED_NS (the place of NS in a valid descriptor)
====== ==========================================================================

So a table of zeros is a table of UNASSIGNED, EMPTY entries.
"""

from enum import Enum
from typing import Final

from realmkit.arch.rmi import Ripas
from realmkit.arch.vmsa import (
    ADDR_MASK_48,
    DESC_AF,
    DESC_BLOCK,
    DESC_PAGE,
    DESC_SH_INNER,
    DESC_TABLE,
    DESC_VALID,
    S2_AP_READ,
    S2_AP_WRITE,
    S2_MEMATTR_SHIFT,
    S2_NS,
    S2_XN,
)

ADDR_MASK: Final = ADDR_MASK_48
TYPE_MASK: Final = 0b11
_ASSIGNED: Final = 1 << 2
_RIPAS_SHIFT: Final = 4
RIPAS_MASK: Final = 0b11 << _RIPAS_SHIFT

_MEMATTR_NORMAL_WB: Final = 6  # FEAT_S2FWB: Write-Back whatever stage 1 says
_MEMATTR_STAGE_1: Final = 7
_MEMATTR_RESERVED: Final = 4
_MEMATTR_MASK: Final = 0b111 << S2_MEMATTR_SHIFT
_SH_OUTER: Final = 0b10 << 8
_RAM: Final = (
    _MEMATTR_NORMAL_WB << S2_MEMATTR_SHIFT | S2_AP_READ | S2_AP_WRITE | DESC_SH_INNER | DESC_AF
)  # executable, Realm PAS
_PAGE_LEVEL: Final = 3

UNASSIGNED_EMPTY: Final = Ripas.EMPTY << _RIPAS_SHIFT
UNASSIGNED_RAM: Final = Ripas.RAM << _RIPAS_SHIFT
UNASSIGNED_DESTROYED: Final = Ripas.DESTROYED << _RIPAS_SHIFT
UNASSIGNED_NS: Final = S2_NS
ASSIGNED_RAM_PAGE: Final = _RAM | DESC_PAGE
"""To be combined with an address: the descriptor of a populated page."""
HOST_ATTRIBUTES: Final = _MEMATTR_MASK | S2_AP_READ | S2_AP_WRITE
"""Bits of an Unprotected mapping that the Host chooses, besides the address."""


class Hipas(Enum):
    """State of an RTT entry."""

    UNASSIGNED = "UNASSIGNED"
    ASSIGNED = "ASSIGNED"
    UNASSIGNED_NS = "UNASSIGNED_NS"
    ASSIGNED_NS = "ASSIGNED_NS"
    TABLE = "TABLE"


def is_table(raw: int, level: int) -> bool:
    """Whether the entry is TABLE; the same bits at level 3 are a page."""
    return raw & TYPE_MASK == DESC_TABLE and level < _PAGE_LEVEL


def is_unassigned(raw: int) -> bool:
    """Whether the entry is UNASSIGNED (Protected half), of any RIPAS."""
    return raw & ~RIPAS_MASK == 0


def is_live(raw: int) -> bool:
    """Whether the entry holds a physical address: ASSIGNED, ASSIGNED_NS or TABLE (spec: rtt section 6)."""
    return raw & (DESC_VALID | _ASSIGNED) != 0


def hipas(raw: int, level: int) -> Hipas:
    """State of the entry."""
    if raw & DESC_VALID:
        if is_table(raw, level):
            return Hipas.TABLE
        return Hipas.ASSIGNED_NS if raw & S2_NS else Hipas.ASSIGNED
    if raw & S2_NS:
        return Hipas.UNASSIGNED_NS
    return Hipas.ASSIGNED if raw & _ASSIGNED else Hipas.UNASSIGNED


def is_ram(raw: int) -> bool:
    """Whether a Protected leaf is ASSIGNED with RIPAS RAM: the Realm can use it."""
    return raw & (DESC_VALID | S2_NS) == DESC_VALID


def ripas(raw: int) -> Ripas:
    """RIPAS of a Protected leaf; entries without RIPAS read as EMPTY."""
    if raw & DESC_VALID:
        return Ripas.EMPTY if raw & S2_NS else Ripas.RAM
    return Ripas(raw >> _RIPAS_SHIFT & 0b11)


def unassigned(value: Ripas) -> int:
    """A Protected entry without memory."""
    return value << _RIPAS_SHIFT


def assigned(pa: int, level: int, value: Ripas) -> int:
    """A Protected entry with DATA granules; the Realm can use it only if ``value`` is RAM."""
    if value is Ripas.RAM:
        return pa | _RAM | (DESC_PAGE if level == _PAGE_LEVEL else DESC_BLOCK)
    return pa | _ASSIGNED | value << _RIPAS_SHIFT


def assigned_ns(desc: int, level: int) -> int:
    """An Unprotected mapping from the Host's descriptor, which must be valid by :func:`host_descriptor_valid`.

    Without LPA2 shareability is the RMM's to choose: Inner where the memory type is cacheable, else Outer.
    """
    cacheable = desc >> S2_MEMATTR_SHIFT & 0b111 in (_MEMATTR_NORMAL_WB, _MEMATTR_STAGE_1)
    shareability = DESC_SH_INNER if cacheable else _SH_OUTER
    return desc | S2_NS | S2_XN | DESC_AF | shareability | (DESC_PAGE if level == _PAGE_LEVEL else DESC_BLOCK)


def table(pa: int) -> int:
    """A TABLE entry."""
    return pa | DESC_TABLE


def address(raw: int) -> int:
    """Output address of a live entry."""
    return raw & ADDR_MASK


def host_descriptor(raw: int) -> int:
    """The part of an ASSIGNED_NS entry that the Host gave: address, MemAttr, S2AP."""
    return raw & (ADDR_MASK | HOST_ATTRIBUTES)


def host_descriptor_valid(desc: int) -> bool:
    """Whether the Host set only its own fields, to legal values; OA[49:48] are judged as part of the address."""
    if desc & ~(ADDR_MASK | 0b11 << 48 | HOST_ATTRIBUTES):
        return False
    return desc >> S2_MEMATTR_SHIFT & 0b111 != _MEMATTR_RESERVED


def leaf_step(raw: int, size: int) -> int:
    """Difference between neighbours when a leaf is split into entries of ``size``: 0 for one without address."""
    return size if is_live(raw) else 0


def with_level(raw: int, level: int) -> int:
    """A leaf with its descriptor type changed to that of ``level`` (block or page)."""
    if not raw & DESC_VALID:
        return raw
    return raw & ~TYPE_MASK | (DESC_PAGE if level == _PAGE_LEVEL else DESC_BLOCK)


def describe(raw: int, level: int) -> str:
    """The entry in words: HIPAS/RIPAS and address."""
    state = hipas(raw, level)
    words = state.value
    if state in (Hipas.UNASSIGNED, Hipas.ASSIGNED):
        words += f"/{ripas(raw).name}"
    if is_live(raw):
        words += f" {address(raw):#x}"
    return words
