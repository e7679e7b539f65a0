"""Walks of a Realm's translation tables, and the changes that commands share (spec: rtt sections 2-7).

The tables are stage 2 descriptors in granules of the Realm PAS, the same that the hardware walks. TLB maintenance goes
with the change that needs it: whoever makes a valid entry invalid or different invalidates it at once, before
the memory behind it is given to someone else.
"""

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from realmkit.arch.events import RttChange
from realmkit.arch.pas import GRANULE_SHIFT, Pas
from realmkit.arch.rmi import Ripas, Status
from realmkit.arch.vmsa import ENTRIES, TABLE_SIZE, entry_size, shift
from realmkit.machine.port import El2Port
from realmkit.rmm import rtt_entry
from realmkit.rmm.rtt_entry import ADDR_MASK, TYPE_MASK, UNASSIGNED_NS, Hipas
from realmkit.rmm.state import Realm, Refusal

if TYPE_CHECKING:
    from realmkit.rmm.rmm import Rmm

_REALM: Final = Pas.REALM
_TABLE: Final = 0b11
_SLOT_MASK: Final = ENTRIES - 1
PAGE_LEVEL: Final = 3
_PAGE_TABLE_SHIFT: Final = shift(2)  # what one level 3 table covers
_TABLE_WORDS: Final = struct.Struct(f"<{ENTRIES}Q")


class Walk(NamedTuple):
    """Where a walk ended: the entry ``raw`` in ``slot`` of the table at ``table_pa``, which is of ``level``."""

    level: int
    table_pa: int
    slot: int
    raw: int


class Translation(NamedTuple):
    """The leaf that covers an IPA. ``pa`` is the physical address of that very IPA; 0 if the leaf has none."""

    hipas: Hipas
    ripas: Ripas
    pa: int
    level: int


def walk(port: El2Port, realm: Realm, ipa: int, target: int = PAGE_LEVEL) -> Walk:
    """Walk to level ``target`` (from the starting level to 3) for an ``ipa`` inside the Realm's IPA space.

    A result above ``target`` is a leaf that covers ``ipa``.
    """
    read64 = port.bus.read64
    if ipa >> _PAGE_TABLE_SHIFT == realm.page_table_block and target == PAGE_LEVEL:
        slot = ipa >> GRANULE_SHIFT & _SLOT_MASK
        return Walk(PAGE_LEVEL, realm.page_table, slot, read64(_REALM, realm.page_table + slot * 8))
    level = realm.rtt_level_start
    bits = shift(level)
    slot = ipa >> bits
    table = realm.rtt_base + (slot >> 9 << GRANULE_SHIFT)  # concatenated starting tables
    slot &= _SLOT_MASK
    raw = read64(_REALM, table + slot * 8)
    while level < target and raw & TYPE_MASK == _TABLE:
        level += 1
        bits -= 9
        table = raw & ADDR_MASK
        slot = ipa >> bits & _SLOT_MASK
        raw = read64(_REALM, table + slot * 8)
    if level == PAGE_LEVEL:
        realm.page_table_block = ipa >> _PAGE_TABLE_SHIFT
        realm.page_table = table
    return Walk(level, table, slot, raw)


def translate(port: El2Port, realm: Realm, ipa: int) -> Translation:
    """HIPAS, RIPAS and physical address of an ``ipa`` inside the Realm's IPA space, as the Realm sees it."""
    level, _, _, raw = walk(port, realm, ipa)
    pa = rtt_entry.address(raw) | ipa & (entry_size(level) - 1) if rtt_entry.is_live(raw) else 0
    return Translation(rtt_entry.hipas(raw, level), rtt_entry.ripas(raw), pa, level)


def require_walk(found: Walk, target: int) -> None:
    """The condition ``rtt_walk``: RMI_ERROR_RTT with the level where the walk stopped."""
    if found.level != target:
        raise Refusal("rtt_walk", Status.ERROR_RTT, found.level)


def non_live_top(rmm: "Rmm", port: El2Port, realm: Realm, found: Walk, ipa: int) -> int:
    """The "top" of a refused call (spec: rtt section 5.1): ``ipa`` if its entry is live, else :func:`next_live`."""
    return ipa if rtt_entry.is_live(found.raw) else next_live(rmm, port, realm, found, ipa)


def next_live(rmm: "Rmm", port: El2Port, realm: Realm, found: Walk, ipa: int) -> int:
    """Address of the first live entry after the one found for ``ipa``, which is not live, or the end of the table."""
    level, table, slot, _ = found
    bits = shift(level)
    start = (ipa >> bits) - slot
    if ipa < realm.unprotected_base and level > realm.rtt_level_start and not rmm.live_entries[table]:
        return start + ENTRIES << bits  # below the starting level a table is Protected as a whole
    rest = port.bus.read(_REALM, table + slot * 8, (ENTRIES - slot) * 8)
    for following, (entry,) in enumerate(struct.iter_unpack("<Q", rest), slot):
        if rtt_entry.is_live(entry):
            return start + following << bits
    return start + ENTRIES << bits


def set_entry(port: El2Port, realm: Realm, found: Walk, ipa: int, raw: int) -> None:
    """Write the entry that a walk for ``ipa`` has found; no TLB maintenance."""
    port.bus.write64(_REALM, found.table_pa + found.slot * 8, raw)
    if port.events.detailed:
        report_change(port, realm, found.level, ipa, found.raw, raw)


def report_change(port: El2Port, realm: Realm, level: int, ipa: int, before: int, after: int) -> None:
    """Emit the event of one changed entry."""
    port.events.emit(
        RttChange(
            port.now(),
            port.index,
            realm.rd,
            ipa & ~(entry_size(level) - 1),
            level,
            rtt_entry.describe(before, level),
            rtt_entry.describe(after, level),
        )
    )


def read_entries(port: El2Port, table: int, first: int, end: int) -> tuple[int, ...]:
    """Entries ``first`` up to ``end`` (exclusive) of a table."""
    count = end - first
    return struct.unpack(f"<{count}Q", port.bus.read(_REALM, table + first * 8, count * 8))


def write_entries(port: El2Port, table: int, first: int, entries: list[int]) -> None:
    """Overwrite entries of a table from ``first`` on."""
    port.bus.write(_REALM, table + first * 8, struct.pack(f"<{len(entries)}Q", *entries))


def read_table(port: El2Port, table: int) -> tuple[int, ...]:
    """All entries of a table."""
    return _TABLE_WORDS.unpack(port.bus.read(_REALM, table, TABLE_SIZE))


def fill_starting_tables(port: El2Port, realm: Realm) -> None:
    """Protected entries UNASSIGNED and EMPTY, which is what wiped granules hold; Unprotected ones UNASSIGNED_NS."""
    bits = shift(realm.rtt_level_start)
    for slot in range(realm.unprotected_base >> bits, realm.ipa_top >> bits):
        port.bus.write64(_REALM, realm.rtt_base + slot * 8, UNASSIGNED_NS)
