"""RMI_RTT_INIT_RIPAS and RMI_RTT_SET_RIPAS (spec: rmi sections 6.21, 6.22, rtt section 5.2).

Both work on whole entries of the one table that a walk from ``base`` reaches, and stop at the first that does not
qualify.
"""

from typing import TYPE_CHECKING, Final

from realmkit.arch.pas import GRANULE_MASK
from realmkit.arch.rmi import Ripas, Rmi, Status
from realmkit.arch.vmsa import DESC_VALID, ENTRIES, entry_size
from realmkit.machine.port import El2Port
from realmkit.rmm import rtt_entry
from realmkit.rmm.dispatch import Command, rmi_command
from realmkit.rmm.measurement import extend_rim_ripas
from realmkit.rmm.rtt import Walk, read_entries, report_change, walk, write_entries
from realmkit.rmm.rtt_entry import UNASSIGNED_EMPTY, UNASSIGNED_RAM, Hipas
from realmkit.rmm.state import GranuleState, Realm, RealmState, Refusal, RipasRequest

if TYPE_CHECKING:
    from realmkit.rmm.rmm import Rmm


def rtt_init_ripas(rmm: "Rmm", port: El2Port, rd: int, base: int, top: int) -> tuple[int, ...]:
    """RMI_RTT_INIT_RIPAS: entries without memory become RAM before activation, each measured."""
    if top <= base:
        raise Refusal("size_valid", Status.ERROR_INPUT)
    realm = rmm.require_realm(rd)
    if top & GRANULE_MASK:
        raise Refusal("top_gran_align", Status.ERROR_INPUT)
    if top > realm.unprotected_base:
        raise Refusal("top_bound", Status.ERROR_INPUT)
    if realm.state is not RealmState.NEW:
        raise Refusal("realm_state", Status.ERROR_REALM)
    found = walk(port, realm, base)
    level = found.level
    size = entry_size(level)
    if base % size:
        raise Refusal("base_align", Status.ERROR_RTT, level)
    if not rtt_entry.is_unassigned(found.raw):
        raise Refusal("rtte_state", Status.ERROR_RTT, level)
    before = _whole_entries(port, found, base, top)
    changed = 0
    while changed < len(before) and before[changed] in (UNASSIGNED_EMPTY, UNASSIGNED_RAM):
        changed += 1
    if not changed:
        raise Refusal("no_progress", Status.ERROR_RTT, level)

    write_entries(port, found.table_pa, found.slot, [UNASSIGNED_RAM] * changed)
    for entry_base in range(base, base + changed * size, size):
        extend_rim_ripas(port, realm, entry_base, entry_base + size)
    if port.events.active:
        _report(port, realm, level, base, before, [UNASSIGNED_RAM] * changed)
    return (base + changed * size,)


def rtt_set_ripas(rmm: "Rmm", port: El2Port, rd: int, rec: int, base: int, top: int) -> tuple[int, ...]:
    """RMI_RTT_SET_RIPAS: part of the change that the Realm asked for is done; memory and its contents stay."""
    if top <= base:
        raise Refusal("size_valid", Status.ERROR_INPUT)
    if top & GRANULE_MASK:
        raise Refusal("top_gran_align", Status.ERROR_INPUT)
    realm = rmm.require_realm(rd)
    rmm.granules.require(rec, GranuleState.REC, "rec", "rec_gran_state")
    caller = rmm.recs[rec]
    if caller.running:
        raise Refusal("rec_state", Status.ERROR_REC)
    if caller.realm is not realm:
        raise Refusal("rec_owner", Status.ERROR_REC)
    request = caller.ripas
    if base != (request.addr if request else 0):
        raise Refusal("base_bound", Status.ERROR_INPUT)
    if request is None or top > request.top:
        raise Refusal("top_bound", Status.ERROR_INPUT)
    found = walk(port, realm, base)
    level = found.level
    size = entry_size(level)
    if base % size:
        raise Refusal("base_align", Status.ERROR_RTT, level)
    before = _whole_entries(port, found, base, top)
    after = _requested(before, level, request)
    if not after:
        raise Refusal("no_progress", Status.ERROR_RTT, level)

    write_entries(port, found.table_pa, found.slot, after)
    out_top = base + len(after) * size
    if any(old & DESC_VALID and old != new for old, new in zip(before, after, strict=False)):
        port.tlbi_ipa(realm.vmid, base, out_top - base)
    request.addr = out_top
    if port.events.active:
        _report(port, realm, level, base, before, after)
    return (out_top,)


def uniform_ripas(port: El2Port, realm: Realm, base: int, top: int) -> tuple[int, Ripas]:
    """RIPAS at ``base`` and the end of the run of that RIPAS, at most ``top`` and within one table.

    For Protected, granule-aligned ``base`` < ``top`` (RSI_IPA_STATE_GET).
    """
    found = walk(port, realm, base)
    level = found.level
    size = entry_size(level)
    value = rtt_entry.ripas(found.raw)
    end = base & ~(size - 1)
    last = min(found.slot - (end - top) // size, ENTRIES)
    for raw in read_entries(port, found.table_pa, found.slot, last):
        if rtt_entry.is_table(raw, level) or rtt_entry.ripas(raw) is not value:
            break
        end += size
    return min(end, top), value


def _whole_entries(port: El2Port, found: Walk, base: int, top: int) -> tuple[int, ...]:
    """The entries from ``base`` on, in the table of the walk, that end at or below ``top``."""
    count = min((top - base) // entry_size(found.level), ENTRIES - found.slot)
    return read_entries(port, found.table_pa, found.slot, found.slot + count)


def _requested(entries: tuple[int, ...], level: int, request: RipasRequest) -> list[int]:
    """The new values of the leading entries that qualify for a RIPAS change."""
    after: list[int] = []
    for raw in entries:
        state = rtt_entry.hipas(raw, level)
        if state is Hipas.TABLE:
            break
        if rtt_entry.ripas(raw) is Ripas.DESTROYED and not request.change_destroyed:
            break
        if state is Hipas.ASSIGNED:
            after.append(rtt_entry.assigned(rtt_entry.address(raw), level, request.value))
        else:
            after.append(rtt_entry.unassigned(request.value))
    return after


def _report(port: El2Port, realm: Realm, level: int, base: int, before: tuple[int, ...], after: list[int]) -> None:
    size = entry_size(level)
    for number, (old, new) in enumerate(zip(before, after, strict=False)):
        if old != new:
            report_change(port, realm, level, base + number * size, old, new)


COMMANDS: Final[tuple[Command, ...]] = (
    rmi_command(Rmi.RTT_INIT_RIPAS, rtt_init_ripas),
    rmi_command(Rmi.RTT_SET_RIPAS, rtt_set_ripas),
)
