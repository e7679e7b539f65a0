"""Realm Services Interface 1.0 (RMM 1.0-rel0 B5; spec: rsi)."""

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from realmkit.arch.fields import Layout, at
from realmkit.arch.pas import GRANULE_SIZE

ABI_VERSION = 0x1_0000


class RsiStatus(IntEnum):
    """X0 of an RSI result."""

    SUCCESS = 0
    ERROR_INPUT = 1
    ERROR_STATE = 2
    INCOMPLETE = 3
    ERROR_UNKNOWN = 4


class Rsi(IntEnum):
    """Function identifiers."""

    VERSION = 0xC400_0190
    FEATURES = 0xC400_0191
    MEASUREMENT_READ = 0xC400_0192
    MEASUREMENT_EXTEND = 0xC400_0193
    ATTESTATION_TOKEN_INIT = 0xC400_0194
    ATTESTATION_TOKEN_CONTINUE = 0xC400_0195
    REALM_CONFIG = 0xC400_0196
    IPA_STATE_SET = 0xC400_0197
    IPA_STATE_GET = 0xC400_0198
    HOST_CALL = 0xC400_0199


INPUTS: dict[Rsi, tuple[str, ...]] = {
    Rsi.VERSION: ("req",),
    Rsi.FEATURES: ("index",),
    Rsi.MEASUREMENT_READ: ("index",),
    Rsi.MEASUREMENT_EXTEND: ("index", "size", *(f"value_{i}" for i in range(8))),
    Rsi.ATTESTATION_TOKEN_INIT: tuple(f"challenge_{i}" for i in range(8)),
    Rsi.ATTESTATION_TOKEN_CONTINUE: ("addr", "offset", "size"),
    Rsi.REALM_CONFIG: ("addr",),
    Rsi.IPA_STATE_SET: ("base", "top", "ripas", "flags"),
    Rsi.IPA_STATE_GET: ("base", "top"),
    Rsi.HOST_CALL: ("addr",),
}

OUTPUTS: dict[Rsi, tuple[str, ...]] = {
    Rsi.VERSION: ("lower", "higher"),
    Rsi.FEATURES: ("value",),
    Rsi.MEASUREMENT_READ: tuple(f"value_{i}" for i in range(8)),
    Rsi.ATTESTATION_TOKEN_INIT: ("max_size",),
    Rsi.ATTESTATION_TOKEN_CONTINUE: ("len",),
    Rsi.IPA_STATE_SET: ("new_base", "response"),
    Rsi.IPA_STATE_GET: ("out_top", "ripas"),
}

IPA_STATE_CHANGE_DESTROYED = 1 << 0
RESPONSE_ACCEPT = 0
RESPONSE_REJECT = 1


@dataclass(slots=True)
class RealmConfig(Layout):
    """RsiRealmConfig."""

    SIZE: ClassVar[int] = GRANULE_SIZE
    ipa_width: int = at(0x000, "u64")
    hash_algo: int = at(0x008, "u8")
    rpv: bytes = at(0x200, "bytes", 64)


@dataclass(slots=True)
class HostCall(Layout):
    """RsiHostCall: 256 bytes, 256-byte aligned."""

    SIZE: ClassVar[int] = 0x100
    imm: int = at(0x00, "u16")
    gprs: tuple[int, ...] = at(0x08, "u64", 31)
