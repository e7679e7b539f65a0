"""RMI_RTT_CREATE, DESTROY, FOLD and READ_ENTRY (spec: rmi sections 6.15-6.18, rtt section 7)."""

from typing import TYPE_CHECKING, Final

from realmkit.arch.rmi import Rmi, RttEntryState, Status
from realmkit.arch.smccc import signed
from realmkit.arch.vmsa import ENTRIES, entry_size
from realmkit.machine.port import El2Port
from realmkit.rmm import rtt_entry
from realmkit.rmm.dispatch import Command, rmi_command
from realmkit.rmm.features import PA_LIMIT
from realmkit.rmm.rtt import (
    PAGE_LEVEL,
    Walk,
    next_live,
    non_live_top,
    read_table,
    require_walk,
    set_entry,
    walk,
    write_entries,
)
from realmkit.rmm.rtt_entry import UNASSIGNED_DESTROYED, UNASSIGNED_NS, Hipas
from realmkit.rmm.state import GranuleState, Realm, Refusal

if TYPE_CHECKING:
    from realmkit.rmm.rmm import Rmm

_REPORTED_STATE: Final = {
    Hipas.UNASSIGNED: RttEntryState.UNASSIGNED,
    Hipas.UNASSIGNED_NS: RttEntryState.UNASSIGNED,
    Hipas.ASSIGNED: RttEntryState.ASSIGNED,
    Hipas.ASSIGNED_NS: RttEntryState.ASSIGNED,
    Hipas.TABLE: RttEntryState.TABLE,
}
_FOLDS_TO_BLOCK: Final = (2, 3)
"""Levels of tables whose entries can become one block, of level 1 or 2."""


def rtt_create(rmm: "Rmm", port: El2Port, rd: int, rtt: int, ipa: int, level: int) -> tuple[int, ...]:
    """RMI_RTT_CREATE: ``rtt`` becomes the table at ``level`` that covers ``ipa``, with what its parent entry said."""
    level = signed(level)
    granules = rmm.granules
    granules.require(rtt, GranuleState.DELEGATED, "rtt")
    realm = rmm.require_realm(rd)
    _require_table_place(realm, ipa, level)
    if rtt >= PA_LIMIT:
        raise Refusal("rtt_bound2", Status.ERROR_INPUT)
    found = walk(port, realm, ipa, level - 1)
    require_walk(found, level - 1)
    parent = found.raw
    if rtt_entry.is_table(parent, level - 1):
        raise Refusal("rtte_state", Status.ERROR_RTT, level - 1)

    first = rtt_entry.with_level(parent, level)
    step = rtt_entry.leaf_step(parent, entry_size(level))
    write_entries(port, rtt, 0, [first + slot * step for slot in range(ENTRIES)])
    if rtt_entry.hipas(parent, level - 1) is Hipas.ASSIGNED:
        rmm.live_entries[rtt] = ENTRIES
    else:
        rmm.live_entries[rtt] = 0
        rmm.live_entries[found.table_pa] += 1
    granules.take(port, rtt, GranuleState.RTT)
    _replace(port, realm, found, ipa, rtt_entry.table(rtt))
    return ()


def rtt_destroy(rmm: "Rmm", port: El2Port, rd: int, ipa: int, level: int) -> tuple[int, ...]:
    """RMI_RTT_DESTROY: a table without live contents is removed; the Protected range it covered becomes DESTROYED."""
    level = signed(level)
    realm = rmm.require_realm(rd)
    _require_table_place(realm, ipa, level)
    found = walk(port, realm, ipa, level - 1)
    if found.level != level - 1:
        top = non_live_top(rmm, port, realm, found, ipa)
        raise Refusal("rtt_walk", Status.ERROR_RTT, found.level, (0, top))
    if not rtt_entry.is_table(found.raw, level - 1):
        top = non_live_top(rmm, port, realm, found, ipa)
        raise Refusal("rtte_state", Status.ERROR_RTT, level - 1, (0, top))
    rtt = rtt_entry.address(found.raw)
    if rmm.live_entries[rtt]:
        raise Refusal("rtt_live", Status.ERROR_RTT, level, (0, ipa))

    after = UNASSIGNED_DESTROYED if realm.is_protected(ipa) else UNASSIGNED_NS
    _replace(port, realm, found, ipa, after)
    _remove_table(rmm, port, realm, rtt)
    rmm.live_entries[found.table_pa] -= 1
    return rtt, next_live(rmm, port, realm, found, ipa)


def rtt_fold(rmm: "Rmm", port: El2Port, rd: int, ipa: int, level: int) -> tuple[int, ...]:
    """RMI_RTT_FOLD: a homogeneous table is replaced by one parent entry that says the same."""
    level = signed(level)
    realm = rmm.require_realm(rd)
    _require_table_place(realm, ipa, level)
    found = walk(port, realm, ipa, level - 1)
    require_walk(found, level - 1)
    if not rtt_entry.is_table(found.raw, level - 1):
        raise Refusal("rtte_state", Status.ERROR_RTT, level - 1)
    rtt = rtt_entry.address(found.raw)
    folded = _fold(read_table(port, rtt), level)
    if folded is None:
        raise Refusal("rtt_homo", Status.ERROR_RTT, level)

    _replace(port, realm, found, ipa, folded)
    _remove_table(rmm, port, realm, rtt)
    if rtt_entry.hipas(folded, level - 1) is not Hipas.ASSIGNED:
        rmm.live_entries[found.table_pa] -= 1
    return (rtt,)


def rtt_read_entry(rmm: "Rmm", port: El2Port, rd: int, ipa: int, level: int) -> tuple[int, ...]:
    """RMI_RTT_READ_ENTRY: the entry where a walk to ``level`` ends."""
    level = signed(level)
    realm = rmm.require_realm(rd)
    if not realm.rtt_level_start <= level <= PAGE_LEVEL:
        raise Refusal("level_bound", Status.ERROR_INPUT)
    if ipa >= realm.ipa_top:
        raise Refusal("ipa_bound", Status.ERROR_INPUT)
    if ipa % entry_size(level):
        raise Refusal("ipa_align", Status.ERROR_INPUT)
    found = walk(port, realm, ipa, level)

    raw = found.raw
    state = rtt_entry.hipas(raw, found.level)
    if state is Hipas.ASSIGNED_NS:
        desc = rtt_entry.host_descriptor(raw)
    else:
        desc = rtt_entry.address(raw) if rtt_entry.is_live(raw) else 0
    ripas = 0 if state is Hipas.TABLE else rtt_entry.ripas(raw)
    return found.level, _REPORTED_STATE[state], desc, ripas


def _require_table_place(realm: Realm, ipa: int, level: int) -> None:
    """The conditions ``level_bound``, ``ipa_bound`` and ``ipa_align`` of a table below the starting level."""
    if not realm.rtt_level_start < level <= PAGE_LEVEL:
        raise Refusal("level_bound", Status.ERROR_INPUT)
    if ipa >= realm.ipa_top:
        raise Refusal("ipa_bound", Status.ERROR_INPUT)
    if ipa % entry_size(level - 1):
        raise Refusal("ipa_align", Status.ERROR_INPUT)


def _replace(port: El2Port, realm: Realm, found: Walk, ipa: int, raw: int) -> None:
    """Change a parent entry; what was valid, a table descriptor included, is invalidated for its whole range."""
    set_entry(port, realm, found, ipa, raw)
    if found.raw & 1:
        port.tlbi_ipa(realm.vmid, ipa, entry_size(found.level))


def _remove_table(rmm: "Rmm", port: El2Port, realm: Realm, rtt: int) -> None:
    """Give a table back that no entry points to any more."""
    realm.page_table_block = -1
    del rmm.live_entries[rtt]
    rmm.granules.release(port, rtt)


def _fold(entries: tuple[int, ...], level: int) -> int | None:
    """The parent entry that says the same as a table of ``level``; None if the table is not homogeneous."""
    first = entries[0]
    state = rtt_entry.hipas(first, level)
    if state is Hipas.TABLE:
        return None
    if not rtt_entry.is_live(first):
        return first if entries.count(first) == ENTRIES else None
    size = entry_size(level)
    if level not in _FOLDS_TO_BLOCK or rtt_entry.address(first) % entry_size(level - 1):
        return None
    if entries != tuple(range(first, first + ENTRIES * size, size)):
        return None  # not contiguous, or of different RIPAS or attributes
    return rtt_entry.with_level(first, level - 1)


COMMANDS: Final[tuple[Command, ...]] = (
    rmi_command(Rmi.RTT_CREATE, rtt_create),
    rmi_command(Rmi.RTT_DESTROY, rtt_destroy),
    rmi_command(Rmi.RTT_FOLD, rtt_fold),
    rmi_command(Rmi.RTT_READ_ENTRY, rtt_read_entry),
)
