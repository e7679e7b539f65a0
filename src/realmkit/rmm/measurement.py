"""RIM and REM (RMM 1.0-rel0 A7.1, C1; spec: measurement).

A stored measurement is always 64 bytes, a shorter digest zero-extended. All functions update ``realm.measurements``.
"""

import hashlib
import struct
from typing import Final

from realmkit.arch.events import Measured
from realmkit.arch.rmi import HashAlgorithm, RealmParams, RecParams
from realmkit.machine.port import El2Port
from realmkit.rmm.state import Realm

MEASUREMENT_SIZE: Final = 64
_DESCRIPTOR_SIZE: Final = 0x100
_DATA: Final = 0
_REC: Final = 1
_RIPAS: Final = 2
# type u8, len u64 at 8, old RIM[64] at 0x10, then from 0x50; struct's "s" zero-extends a shorter digest.
_DATA_DESCRIPTOR: Final = struct.Struct("<B7xQ64sQQ64s96x")
_REC_DESCRIPTOR: Final = struct.Struct("<B7xQ64s64s112x")
_RIPAS_DESCRIPTOR: Final = struct.Struct("<B7xQ64sQQ160x")
_SHA_256: Final = HashAlgorithm.SHA_256


def content_digest(realm: Realm, content: bytes) -> bytes:
    """H(content) by the Realm's hash algorithm, at its own length."""
    if realm.hash_algo is _SHA_256:
        return hashlib.sha256(content).digest()
    return hashlib.sha512(content).digest()


def initial_rim(port: El2Port, realm: Realm, params: RealmParams) -> None:
    """RMI_REALM_CREATE: the hash of RmiRealmParams with only the measured fields."""
    image = RealmParams(
        flags=params.flags,
        s2sz=params.s2sz,
        sve_vl=params.sve_vl,
        num_bps=params.num_bps,
        num_wps=params.num_wps,
        pmu_num_ctrs=params.pmu_num_ctrs,
        hash_algo=params.hash_algo,
    ).pack()
    _store(port, realm, 0, "REALM", image)


def extend_rim_data(port: El2Port, realm: Realm, ipa: int, flags: int, digest: bytes) -> None:
    """RMI_DATA_CREATE; ``digest`` is that of the content, or empty if the content is not measured."""
    _store(
        port,
        realm,
        0,
        "DATA",
        _DATA_DESCRIPTOR.pack(_DATA, _DESCRIPTOR_SIZE, realm.measurements[0], ipa, flags, digest),
    )


def extend_rim_rec(port: El2Port, realm: Realm, params: RecParams) -> None:
    """RMI_REC_CREATE of a runnable REC: the hash of RmiRecParams with only flags, pc and gprs."""
    image = RecParams(flags=params.flags, pc=params.pc, gprs=params.gprs).pack()
    digest = content_digest(realm, image)
    _store(port, realm, 0, "REC", _REC_DESCRIPTOR.pack(_REC, _DESCRIPTOR_SIZE, realm.measurements[0], digest))


def extend_rim_ripas(port: El2Port, realm: Realm, base: int, top: int) -> None:
    """RMI_RTT_INIT_RIPAS of one RTT entry that covers [base, top)."""
    _store(port, realm, 0, "RIPAS", _RIPAS_DESCRIPTOR.pack(_RIPAS, _DESCRIPTOR_SIZE, realm.measurements[0], base, top))


def extend_rem(port: El2Port, realm: Realm, index: int, value: bytes) -> None:
    """RSI_MEASUREMENT_EXTEND of measurement ``index`` (1..4) with 0 to 64 bytes (spec: measurement section 4)."""
    _store(port, realm, index, "REM", realm.measurements[index][: realm.hash_algo.digest_size] + value)


def _store(port: El2Port, realm: Realm, index: int, kind: str, hashed: bytes) -> None:
    value = content_digest(realm, hashed).ljust(MEASUREMENT_SIZE, b"\0")
    realm.measurements[index] = value
    if port.events.active:
        port.events.emit(Measured(port.now(), port.index, realm.rd, index, kind, value, hashed))
