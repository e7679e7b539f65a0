"""RSI commands (RMM 1.0-rel0 B5; spec: rsi section 3).

A handler returns (status, outputs X1.., how to leave the Realm or None to go on), or raises RsiRefusal. It may raise
NotMappedError before it has changed anything: the Host then provides the page and the Realm makes the call again.
"""

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from realmkit.arch.pas import GRANULE_MASK, GRANULE_SIZE, Pas
from realmkit.arch.rmi import ExitReason, Ripas, negotiate
from realmkit.arch.rsi import ABI_VERSION, IPA_STATE_CHANGE_DESTROYED, HostCall, RealmConfig, Rsi, RsiStatus
from realmkit.arch.time import CHARGE_PAGE
from realmkit.machine.port import El2Port
from realmkit.rmm.commands_ripas import uniform_ripas
from realmkit.rmm.execution import memory, token
from realmkit.rmm.execution.exits import leave
from realmkit.rmm.measurement import MEASUREMENT_SIZE, extend_rem
from realmkit.rmm.state import AttestState, Rec, RipasRequest

if TYPE_CHECKING:
    from realmkit.rmm.rmm import Rmm

Leave = Callable[[], None]
Answer = tuple[RsiStatus, tuple[int, ...], Leave | None]
Handler = Callable[..., Answer]

_SUPPORTED: Final = (ABI_VERSION,)
_WORDS: Final = struct.Struct("<8Q")
_HOST_CALL: Final = struct.Struct("<H6x31Q")
"""RsiHostCall."""
_MEASUREMENTS: Final = 5
"""RIM and four REMs."""


class RsiRefusal(Exception):
    """A failure condition holds: ``label`` names it."""

    def __init__(self, label: str, status: RsiStatus = RsiStatus.ERROR_INPUT, outputs: tuple[int, ...] = ()) -> None:
        super().__init__(label)
        self.label, self.status, self.outputs = label, status, outputs


def version(rmm: "Rmm", port: El2Port, rec: Rec, req: int) -> Answer:
    """RSI_VERSION."""
    accepted, lower, higher = negotiate(_SUPPORTED, req)
    if not accepted:
        raise RsiRefusal("req_supp", outputs=(lower, higher))
    return RsiStatus.SUCCESS, (lower, higher), None


def features(rmm: "Rmm", port: El2Port, rec: Rec, index: int) -> Answer:
    """RSI_FEATURES: every register is zero in RSI 1.0."""
    return RsiStatus.SUCCESS, (0,), None


def measurement_read(rmm: "Rmm", port: El2Port, rec: Rec, index: int) -> Answer:
    """RSI_MEASUREMENT_READ: 0 is the RIM, 1 to 4 are REM0 to REM3."""
    if index >= _MEASUREMENTS:
        raise RsiRefusal("index_bound")
    return RsiStatus.SUCCESS, _WORDS.unpack(rec.realm.measurements[index]), None


def measurement_extend(rmm: "Rmm", port: El2Port, rec: Rec, index: int, size: int, *value: int) -> Answer:
    """RSI_MEASUREMENT_EXTEND with the first ``size`` bytes of eight registers."""
    if not 1 <= index < _MEASUREMENTS:
        raise RsiRefusal("index_bound")
    if size > MEASUREMENT_SIZE:
        raise RsiRefusal("size_bound")
    extend_rem(port, rec.realm, index, _WORDS.pack(*value)[:size])
    return RsiStatus.SUCCESS, (), None


def attestation_token_init(rmm: "Rmm", port: El2Port, rec: Rec, *challenge: int) -> Answer:
    """RSI_ATTESTATION_TOKEN_INIT: measurements are taken now; a token in progress is discarded."""
    if rmm.attestation is None:
        raise RsiRefusal("attestation_unavailable", RsiStatus.ERROR_UNKNOWN)
    token.start(rmm.attestation, rec, _WORDS.pack(*challenge))
    return RsiStatus.SUCCESS, (token.size_bound(rmm.attestation),), None


def attestation_token_continue(rmm: "Rmm", port: El2Port, rec: Rec, addr: int, offset: int, size: int) -> Answer:
    """RSI_ATTESTATION_TOKEN_CONTINUE: work on the token, then hand out its next bytes."""
    if addr & GRANULE_MASK:
        raise RsiRefusal("addr_align")
    if not rec.realm.is_protected(addr, GRANULE_SIZE):
        raise RsiRefusal("addr_bound")
    if offset >= GRANULE_SIZE:
        raise RsiRefusal("offset_bound")
    if offset + size > GRANULE_SIZE:
        raise RsiRefusal("size_bound")
    if rec.attest_state is AttestState.NONE or rmm.attestation is None:
        raise RsiRefusal("state", RsiStatus.ERROR_STATE)
    where = memory.locate(port, rec, addr)
    if not token.advance(port, rmm.attestation, rec):
        return RsiStatus.INCOMPLETE, (0,), lambda: leave(rmm, port, rec, ExitReason.IRQ)
    chunk, more = token.take(port, rec, size)
    if chunk:
        port.bus.write(Pas.REALM, where + offset, chunk)
    return RsiStatus.INCOMPLETE if more else RsiStatus.SUCCESS, (len(chunk),), None


def realm_config(rmm: "Rmm", port: El2Port, rec: Rec, addr: int) -> Answer:
    """RSI_REALM_CONFIG: write RsiRealmConfig to a page."""
    if addr & GRANULE_MASK:
        raise RsiRefusal("addr_align")
    realm = rec.realm
    if not realm.is_protected(addr, GRANULE_SIZE):
        raise RsiRefusal("addr_bound")
    where = memory.locate(port, rec, addr)
    config = RealmConfig(ipa_width=realm.ipa_width, hash_algo=realm.hash_algo, rpv=realm.rpv)
    port.bus.write(Pas.REALM, where, config.pack())
    port.charge(CHARGE_PAGE)
    return RsiStatus.SUCCESS, (), None


def ipa_state_set(rmm: "Rmm", port: El2Port, rec: Rec, base: int, top: int, ripas: int, flags: int) -> Answer:
    """RSI_IPA_STATE_SET: ask the Host to change the RIPAS of a range."""
    _require_range(rec, base, top)
    if ripas & 0xFF not in (Ripas.EMPTY, Ripas.RAM):
        raise RsiRefusal("ripas_valid")
    rec.ripas = RipasRequest(base, top, Ripas(ripas & 0xFF), bool(flags & IPA_STATE_CHANGE_DESTROYED))
    return RsiStatus.SUCCESS, (), lambda: leave(rmm, port, rec, ExitReason.RIPAS_CHANGE)


def ipa_state_get(rmm: "Rmm", port: El2Port, rec: Rec, base: int, top: int) -> Answer:
    """RSI_IPA_STATE_GET: RIPAS at ``base`` and how far it reaches."""
    _require_range(rec, base, top)
    out_top, ripas = uniform_ripas(port, rec.realm, base, top)
    return RsiStatus.SUCCESS, (out_top, int(ripas)), None


def _require_range(rec: Rec, base: int, top: int) -> None:
    if base & GRANULE_MASK:
        raise RsiRefusal("base_align")
    if top & GRANULE_MASK:
        raise RsiRefusal("top_align")
    if top <= base:
        raise RsiRefusal("size_valid")
    if top > rec.realm.unprotected_base:
        raise RsiRefusal("rgn_bound")


def host_call(rmm: "Rmm", port: El2Port, rec: Rec, addr: int) -> Answer:
    """RSI_HOST_CALL: exit with the immediate and registers of RsiHostCall."""
    if addr & (HostCall.SIZE - 1):
        raise RsiRefusal("addr_align")
    if not rec.realm.is_protected(addr, HostCall.SIZE):
        raise RsiRefusal("addr_bound")
    imm, *gprs = _HOST_CALL.unpack(port.bus.read(Pas.REALM, memory.locate(port, rec, addr), HostCall.SIZE))
    rec.host_call_ipa = addr
    return RsiStatus.SUCCESS, (), lambda: leave(rmm, port, rec, ExitReason.HOST_CALL, imm=imm, gprs=tuple(gprs))


HANDLERS: Final[dict[Rsi, Handler]] = {
    Rsi.VERSION: version,
    Rsi.FEATURES: features,
    Rsi.MEASUREMENT_READ: measurement_read,
    Rsi.MEASUREMENT_EXTEND: measurement_extend,
    Rsi.ATTESTATION_TOKEN_INIT: attestation_token_init,
    Rsi.ATTESTATION_TOKEN_CONTINUE: attestation_token_continue,
    Rsi.REALM_CONFIG: realm_config,
    Rsi.IPA_STATE_SET: ipa_state_set,
    Rsi.IPA_STATE_GET: ipa_state_get,
    Rsi.HOST_CALL: host_call,
}
