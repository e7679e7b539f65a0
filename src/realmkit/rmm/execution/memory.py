"""The RMM's own accesses to Realm memory, by IPA (spec: rsi section 1, rec-run section 6.3)."""

from typing import TYPE_CHECKING, Final

from realmkit.arch.esr import FSC_TRANSLATION, Ec, make_esr
from realmkit.arch.pas import Pas
from realmkit.arch.rmi import ExitReason, Ripas
from realmkit.arch.vmsa import entry_size
from realmkit.machine.port import El2Port
from realmkit.rmm import rtt_entry
from realmkit.rmm.execution.exits import leave
from realmkit.rmm.rtt import walk
from realmkit.rmm.state import Rec

if TYPE_CHECKING:
    from realmkit.rmm.rmm import Rmm

REALM: Final = Pas.REALM


class NotMappedError(Exception):
    """The page is not there now: the Host must provide it (``level``: where the walk ended)."""

    def __init__(self, ipa: int, level: int) -> None:
        super().__init__(ipa)
        self.ipa, self.level = ipa, level


class EmptyError(Exception):
    """The page is RIPAS EMPTY: it never will be there."""


def locate(port: El2Port, rec: Rec, ipa: int) -> int:
    """Physical address of a Protected IPA that the Realm may access now."""
    found = walk(port, rec.realm, ipa)
    if rtt_entry.is_ram(found.raw):
        return rtt_entry.address(found.raw) | ipa & (entry_size(found.level) - 1)
    if rtt_entry.ripas(found.raw) is Ripas.EMPTY:
        raise EmptyError
    raise NotMappedError(ipa, found.level)


def leave_for_page(rmm: "Rmm", port: El2Port, rec: Rec, missing: NotMappedError) -> None:
    """REC exit as if the Realm itself had aborted at the page; PC stays, so the call is made again."""
    esr = make_esr(Ec.DABT_LOWER, FSC_TRANSLATION + missing.level, 0)
    leave(rmm, port, rec, ExitReason.SYNC, esr=esr, hpfar=(missing.ipa & ~0xFFF) >> 8)
