"""RMI_RTT_MAP_UNPROTECTED and RMI_RTT_UNMAP_UNPROTECTED (spec: rmi sections 6.19, 6.20, rtt section 9)."""

from typing import TYPE_CHECKING, Final

from realmkit.arch.rmi import Rmi, Status
from realmkit.arch.smccc import signed
from realmkit.arch.vmsa import entry_size
from realmkit.machine.port import El2Port
from realmkit.rmm import rtt_entry
from realmkit.rmm.dispatch import Command, rmi_command
from realmkit.rmm.features import PA_LIMIT
from realmkit.rmm.rtt import PAGE_LEVEL, next_live, non_live_top, require_walk, set_entry, walk
from realmkit.rmm.rtt_entry import UNASSIGNED_NS, Hipas
from realmkit.rmm.state import Realm, Refusal

if TYPE_CHECKING:
    from realmkit.rmm.rmm import Rmm

_LARGEST_BLOCK_LEVEL: Final = 1


def rtt_map_unprotected(rmm: "Rmm", port: El2Port, rd: int, ipa: int, level: int, desc: int) -> tuple[int, ...]:
    """RMI_RTT_MAP_UNPROTECTED: the Host's descriptor becomes the entry at ``level``. Its target is not checked."""
    level = signed(level)
    realm = rmm.require_realm(rd)
    _require_leaf_level(realm, level)
    if not rtt_entry.host_descriptor_valid(desc):
        raise Refusal("attr_valid", Status.ERROR_INPUT)
    target = desc & ~rtt_entry.HOST_ATTRIBUTES
    if target % entry_size(level):
        raise Refusal("addr_align", Status.ERROR_INPUT)
    if target >= PA_LIMIT:
        raise Refusal("addr_bound", Status.ERROR_INPUT)
    _require_unprotected(realm, ipa, level)
    found = walk(port, realm, ipa, level)
    require_walk(found, level)
    if found.raw != UNASSIGNED_NS:
        raise Refusal("rtte_state", Status.ERROR_RTT, level)

    set_entry(port, realm, found, ipa, rtt_entry.assigned_ns(desc, level))
    return ()


def rtt_unmap_unprotected(rmm: "Rmm", port: El2Port, rd: int, ipa: int, level: int) -> tuple[int, ...]:
    """RMI_RTT_UNMAP_UNPROTECTED: the entry at ``level`` becomes UNASSIGNED_NS."""
    level = signed(level)
    realm = rmm.require_realm(rd)
    _require_leaf_level(realm, level)
    _require_unprotected(realm, ipa, level)
    found = walk(port, realm, ipa, level)
    if found.level != level:
        top = non_live_top(rmm, port, realm, found, ipa)
        raise Refusal("rtt_walk", Status.ERROR_RTT, found.level, (top,))
    if rtt_entry.hipas(found.raw, level) is not Hipas.ASSIGNED_NS:
        top = non_live_top(rmm, port, realm, found, ipa)
        raise Refusal("rtte_state", Status.ERROR_RTT, level, (top,))

    set_entry(port, realm, found, ipa, UNASSIGNED_NS)
    port.tlbi_ipa(realm.vmid, ipa, entry_size(level))
    return (next_live(rmm, port, realm, found, ipa),)


def _require_leaf_level(realm: Realm, level: int) -> None:
    """The condition ``level_bound``: a block or page level of this Realm's tables."""
    if not max(_LARGEST_BLOCK_LEVEL, realm.rtt_level_start) <= level <= PAGE_LEVEL:
        raise Refusal("level_bound", Status.ERROR_INPUT)


def _require_unprotected(realm: Realm, ipa: int, level: int) -> None:
    """The conditions ``ipa_align`` and ``ipa_bound``: an entry of ``level`` in the Unprotected half."""
    if ipa % entry_size(level):
        raise Refusal("ipa_align", Status.ERROR_INPUT)
    if not realm.unprotected_base <= ipa < realm.ipa_top:
        raise Refusal("ipa_bound", Status.ERROR_INPUT)


COMMANDS: Final[tuple[Command, ...]] = (
    rmi_command(Rmi.RTT_MAP_UNPROTECTED, rtt_map_unprotected),
    rmi_command(Rmi.RTT_UNMAP_UNPROTECTED, rtt_unmap_unprotected),
)
