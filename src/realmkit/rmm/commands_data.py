"""RMI_DATA_CREATE, DATA_CREATE_UNKNOWN and DATA_DESTROY (spec: rmi sections 6.12-6.14)."""

from typing import TYPE_CHECKING, Final

from realmkit.arch.pas import GRANULE_MASK, GRANULE_SIZE, Pas
from realmkit.arch.rmi import DATA_MEASURE_CONTENT, Ripas, Rmi, Status
from realmkit.arch.time import CHARGE_PAGE
from realmkit.machine.port import El2Port
from realmkit.rmm import rtt_entry
from realmkit.rmm.dispatch import Command, rmi_command
from realmkit.rmm.features import PA_LIMIT
from realmkit.rmm.measurement import content_digest, extend_rim_data
from realmkit.rmm.rtt import PAGE_LEVEL, Walk, next_live, non_live_top, set_entry, walk
from realmkit.rmm.rtt_entry import ASSIGNED_RAM_PAGE, Hipas
from realmkit.rmm.state import GranuleState, Realm, RealmState, Refusal

if TYPE_CHECKING:
    from realmkit.rmm.rmm import Rmm

_NEW: Final = RealmState.NEW
_DELEGATED: Final = GranuleState.DELEGATED
_DATA: Final = GranuleState.DATA
_REALM: Final = Pas.REALM


def data_create(rmm: "Rmm", port: El2Port, rd: int, data: int, ipa: int, src: int, flags: int) -> tuple[int, ...]:
    """RMI_DATA_CREATE: ``data`` becomes the page at ``ipa`` with the contents of ``src``, measured."""
    if flags & ~DATA_MEASURE_CONTENT:
        raise Refusal("flags_valid", Status.ERROR_INPUT)
    granules = rmm.granules
    granules.require_ns(src, "src")
    granules.require(data, _DELEGATED, "data")
    realm = rmm.require_realm(rd)
    if realm.state is not _NEW:
        raise Refusal("realm_state", Status.ERROR_REALM)
    found = _require_unassigned(port, realm, data, ipa)
    content = granules.read_ns(port, src, "src")

    port.bus.write(_REALM, data, content)
    digest = content_digest(realm, content) if flags else b""
    port.charge(2 * CHARGE_PAGE if flags else CHARGE_PAGE)
    if digest and port.events.active:
        rmm.detail["content"] = digest.hex()
    extend_rim_data(port, realm, ipa, flags, digest)
    granules.take(port, data, _DATA)
    rmm.live_entries[found.table_pa] += 1
    set_entry(port, realm, found, ipa, data | ASSIGNED_RAM_PAGE)
    return ()


def data_create_unknown(rmm: "Rmm", port: El2Port, rd: int, data: int, ipa: int) -> tuple[int, ...]:
    """RMI_DATA_CREATE_UNKNOWN: ``data``, which is wiped, becomes the page at ``ipa``; the RIPAS stays what it was."""
    granules = rmm.granules
    granules.require(data, _DELEGATED, "data")
    realm = rmm.require_realm(rd)
    found = _require_unassigned(port, realm, data, ipa)

    granules.take(port, data, _DATA)
    rmm.live_entries[found.table_pa] += 1
    set_entry(port, realm, found, ipa, rtt_entry.assigned(data, PAGE_LEVEL, rtt_entry.ripas(found.raw)))
    return ()


def data_destroy(rmm: "Rmm", port: El2Port, rd: int, ipa: int) -> tuple[int, ...]:
    """RMI_DATA_DESTROY: the page at ``ipa`` is taken from the Realm; what was RAM becomes DESTROYED."""
    realm = rmm.require_realm(rd)
    if ipa >= realm.unprotected_base:
        raise Refusal("ipa_bound", Status.ERROR_INPUT)
    if ipa & GRANULE_MASK:
        raise Refusal("ipa_align", Status.ERROR_INPUT)
    found = walk(port, realm, ipa)
    if found.level != PAGE_LEVEL:
        top = non_live_top(rmm, port, realm, found, ipa)
        raise Refusal("rtt_walk", Status.ERROR_RTT, found.level, (0, top))
    if rtt_entry.hipas(found.raw, PAGE_LEVEL) is not Hipas.ASSIGNED:
        top = non_live_top(rmm, port, realm, found, ipa)
        raise Refusal("rtte_state", Status.ERROR_RTT, PAGE_LEVEL, (0, top))

    data = rtt_entry.address(found.raw)
    before = rtt_entry.ripas(found.raw)
    after = rtt_entry.unassigned(Ripas.DESTROYED if before is Ripas.RAM else before)
    set_entry(port, realm, found, ipa, after)
    if before is Ripas.RAM:
        port.tlbi_ipa(realm.vmid, ipa, GRANULE_SIZE)
    rmm.live_entries[found.table_pa] -= 1
    rmm.granules.release(port, data)
    return data, next_live(rmm, port, realm, found, ipa)


def _require_unassigned(port: El2Port, realm: Realm, data: int, ipa: int) -> Walk:
    """The conditions ``ipa_bound``, ``ipa_align``, ``data_bound2``, ``rtt_walk`` and ``rtte_state`` of a new page."""
    if ipa >= realm.unprotected_base:
        raise Refusal("ipa_bound", Status.ERROR_INPUT)
    if ipa & GRANULE_MASK:
        raise Refusal("ipa_align", Status.ERROR_INPUT)
    if data >= PA_LIMIT:
        raise Refusal("data_bound2", Status.ERROR_INPUT)
    found = walk(port, realm, ipa)
    if found.level != PAGE_LEVEL:
        raise Refusal("rtt_walk", Status.ERROR_RTT, found.level)
    if not rtt_entry.is_unassigned(found.raw):
        raise Refusal("rtte_state", Status.ERROR_RTT, PAGE_LEVEL)
    return found


COMMANDS: Final[tuple[Command, ...]] = (
    rmi_command(Rmi.DATA_CREATE, data_create),
    rmi_command(Rmi.DATA_CREATE_UNKNOWN, data_create_unknown),
    rmi_command(Rmi.DATA_DESTROY, data_destroy),
)
