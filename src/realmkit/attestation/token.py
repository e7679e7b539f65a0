"""CCA attestation tokens as data: decoding and rules of form (RMM 1.0-rel0 A7.2; spec: attestation sections 1 to 5).

Decoding proves nothing: signatures, key binding and freshness are judged by :mod:`realmkit.attestation.verify`.
Texts of a token are untrusted: print them with :func:`shown`.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from realmkit.arch import claims, cose
from realmkit.arch.errors import RealmkitError
from realmkit.attestation import cbor

OUTER_FORM: Final = "outer-form"
PLATFORM_CLAIMS: Final = "platform-claims"
REALM_CLAIMS: Final = "realm-claims"

CMW_CONTENT_FORMAT: Final = 263
"""CoAP content format of application/eat+cwt."""

DIGEST_SIZES: Final = (32, 48, 64)
P384_FIELD_SIZE: Final = 48
NUM_REMS: Final = 4

_HEADER_CRIT: Final = 2
_SHOWN_LENGTH: Final = 100


class TokenError(RealmkitError):
    """Evidence that breaks a rule of form. ``check`` is the verification check that fails because of it."""

    def __init__(self, check: str, message: str) -> None:
        super().__init__(message)
        self.check = check


class Lifecycle(IntEnum):
    """Platform lifecycle state, bits 15:8 of the claim; bits 7:0 are implementation defined."""

    UNKNOWN = 0x00
    ASSEMBLY_AND_TEST = 0x10
    PLATFORM_ROT_PROVISIONING = 0x20
    SECURED = 0x30
    NON_CCA_PLATFORM_DEBUG = 0x40
    RECOVERABLE_CCA_PLATFORM_DEBUG = 0x50
    DECOMMISSIONED = 0x60


@dataclass(frozen=True, slots=True)
class Sign1:
    """A COSE_Sign1 as received: ``protected`` are header bytes that the signature covers, ``algorithm`` is in them."""

    protected: bytes
    payload: bytes
    signature: bytes
    algorithm: int


@dataclass(frozen=True, slots=True)
class Collection:
    """The two encoded halves of a token, and whether they came in the CMW form (tag 907) or not (tag 399)."""

    platform: bytes
    realm: bytes
    cmw: bool


@dataclass(frozen=True, slots=True)
class SwComponent:
    """A measured firmware component of the platform; digests have 32, 48 or 64 bytes."""

    measurement: bytes
    signer_id: bytes
    name: str | None = None
    version: str | None = None
    hash_algo: str | None = None
    """Algorithm of ``measurement``; None stands for the platform token's own."""


@dataclass(frozen=True, slots=True)
class PlatformToken:
    """Claims of the platform half; ``challenge`` has 32, 48 or 64 bytes, the ids 32 and 33."""

    envelope: Sign1
    profile: str
    challenge: bytes
    implementation_id: bytes
    instance_id: bytes
    config: bytes
    lifecycle: int
    components: tuple[SwComponent, ...]
    hash_algo: str
    verification_service: str | None = None

    @property
    def lifecycle_state(self) -> Lifecycle:
        """The defined part of ``lifecycle``."""
        return Lifecycle(self.lifecycle >> 8)


@dataclass(frozen=True, slots=True)
class RealmToken:
    """Claims of the Realm half; ``challenge`` and ``rpv`` have 64 bytes, ``rim`` and the four ``rems`` 32, 48 or 64.

    ``public_key`` is the RAK claim exactly as carried (the binding covers these bytes), ``public_point`` the same key
    as an uncompressed SEC1 point, not yet known to be on the curve.
    """

    envelope: Sign1
    profile: str | None
    challenge: bytes
    rpv: bytes
    hash_algo: str
    public_key: bytes
    public_point: bytes
    public_key_hash_algo: str
    rim: bytes
    rems: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class CcaToken:
    """A whole token."""

    platform: PlatformToken
    realm: RealmToken
    cmw: bool


def shown(value: object) -> str:
    """Something that a forger may have chosen, safe to print: quoted, escaped and cut to a readable length."""
    text = repr(value)
    return text if len(text) <= _SHOWN_LENGTH else f"{text[:_SHOWN_LENGTH]}..."


def decode(token: bytes) -> CcaToken:
    """Decode a token of either outer form; raises TokenError that names the first broken rule."""
    collection = decode_collection(token)
    platform = decode_sign1(collection.platform, "platform")
    realm = decode_sign1(collection.realm, "realm")
    return CcaToken(decode_platform(platform), decode_realm(realm), collection.cmw)


def decode_collection(token: bytes) -> Collection:
    """Split a token into its halves (section 1); raises TokenError."""
    outer = _parse(OUTER_FORM, "token", token)
    forms = (claims.TAG_CCA_COLLECTION, claims.TAG_CMW_COLLECTION)
    if not isinstance(outer, cbor.Tag) or outer.number not in forms:
        raise TokenError(
            OUTER_FORM, f"token is {_kind(outer)}; expected tag {forms[0]} (CCA token) or {forms[1]} (CMW)"
        )
    halves = outer.content
    wanted = {claims.KEY_PLATFORM_TOKEN, claims.KEY_REALM_TOKEN}
    if not isinstance(halves, dict) or halves.keys() != wanted:
        found = f"a map with keys {shown(sorted(map(str, halves)))}" if isinstance(halves, dict) else _kind(halves)
        raise TokenError(
            OUTER_FORM,
            f"token holds {found}; expected a map with keys {claims.KEY_PLATFORM_TOKEN} (platform) and "
            f"{claims.KEY_REALM_TOKEN} (realm)",
        )
    cmw = outer.number == claims.TAG_CMW_COLLECTION
    return Collection(
        _half(halves[claims.KEY_PLATFORM_TOKEN], "platform", cmw),
        _half(halves[claims.KEY_REALM_TOKEN], "realm", cmw),
        cmw,
    )


def decode_sign1(encoded: bytes, name: str) -> Sign1:
    """Take a tagged COSE_Sign1 apart (section 2); ``name`` is "platform" or "realm"; raises TokenError."""
    item = _parse(OUTER_FORM, f"{name} token", encoded)
    if not isinstance(item, cbor.Tag) or item.number != cose.TAG_SIGN1:
        raise TokenError(OUTER_FORM, f"{name} token is {_kind(item)}; expected tag {cose.TAG_SIGN1} (COSE_Sign1)")
    match item.content:
        case [bytes(protected), dict(unprotected), bytes(payload), bytes(signature)]:
            pass
        case _:
            raise TokenError(
                OUTER_FORM,
                f"{name} token's COSE_Sign1 is {_kind(item.content)}; expected an array of protected header bytes, "
                "unprotected header map, payload bytes and signature bytes",
            )
    header = _parse(OUTER_FORM, f"{name} token's protected header", protected)
    if not isinstance(header, dict):
        raise TokenError(OUTER_FORM, f"{name} token's protected header is {_kind(header)}; expected a map")
    if _HEADER_CRIT in header or _HEADER_CRIT in unprotected:
        raise TokenError(OUTER_FORM, f"{name} token names critical header parameters; none are supported")
    if header.keys() & unprotected.keys():
        raise TokenError(OUTER_FORM, f"{name} token repeats a protected header parameter in the unprotected header")
    algorithm = header.get(cose.HEADER_ALG)
    if type(algorithm) is not int:
        raise TokenError(
            OUTER_FORM, f"{name} token's protected header has no integer algorithm (label {cose.HEADER_ALG})"
        )
    return Sign1(protected, payload, signature, algorithm)


def decode_platform(envelope: Sign1) -> PlatformToken:
    """Decode the claims of a platform token (section 3); raises TokenError."""
    found = _Claims(PLATFORM_CLAIMS, "platform token", envelope.payload)
    profile = found.text(claims.PROFILE, "profile")
    known = (claims.PLATFORM_PROFILE, claims.PLATFORM_PROFILE_LEGACY)
    if profile not in known:
        raise TokenError(PLATFORM_CLAIMS, f"platform profile is {shown(profile)}; expected {' or '.join(known)}")
    instance_id = found.bstr(claims.PLATFORM_INSTANCE_ID, "instance-id", (33,))
    if instance_id[0] != 0x01:
        raise TokenError(PLATFORM_CLAIMS, f"instance-id starts with {instance_id[0]:#04x}; expected 0x01 (RAND UEID)")
    return PlatformToken(
        envelope=envelope,
        profile=profile,
        challenge=found.bstr(claims.CHALLENGE, "challenge", DIGEST_SIZES),
        implementation_id=found.bstr(claims.PLATFORM_IMPLEMENTATION_ID, "implementation-id", (32,)),
        instance_id=instance_id,
        config=found.bstr(claims.PLATFORM_CONFIG, "config"),
        lifecycle=_lifecycle(found.get(claims.PLATFORM_LIFECYCLE, "lifecycle")),
        components=_components(found.get(claims.PLATFORM_SW_COMPONENTS, "sw-components")),
        hash_algo=found.text(claims.PLATFORM_HASH_ALGO, "hash-algo-id"),
        verification_service=found.optional_text(claims.PLATFORM_VERIFICATION_SERVICE, "verification-service"),
    )


def decode_realm(envelope: Sign1) -> RealmToken:
    """Decode the claims of a Realm token (sections 4 and 5); raises TokenError."""
    found = _Claims(REALM_CLAIMS, "realm token", envelope.payload)
    profile = found.optional_text(claims.PROFILE, "profile")
    if profile not in (None, claims.REALM_PROFILE):
        raise TokenError(REALM_CLAIMS, f"realm profile is {shown(profile)}; expected {claims.REALM_PROFILE} or none")
    rems = found.get(claims.REALM_REMS, "REMs")
    if not isinstance(rems, list) or len(rems) != NUM_REMS:
        raise TokenError(REALM_CLAIMS, f"REMs are {_kind(rems)}; expected an array of exactly {NUM_REMS}")
    public_key = found.bstr(claims.REALM_PUBLIC_KEY, "RAK public key")
    return RealmToken(
        envelope=envelope,
        profile=profile,
        challenge=found.bstr(claims.CHALLENGE, "challenge", (64,)),
        rpv=found.bstr(claims.REALM_RPV, "RPV", (64,)),
        hash_algo=found.text(claims.REALM_HASH_ALGO, "hash algorithm"),
        public_key=public_key,
        public_point=_raw_point(public_key) if profile is None else _cose_key_point(public_key),
        public_key_hash_algo=found.text(claims.REALM_PUBLIC_KEY_HASH_ALGO, "RAK hash algorithm"),
        rim=found.bstr(claims.REALM_RIM, "RIM", DIGEST_SIZES),
        rems=tuple(_bstr(REALM_CLAIMS, f"REM{i}", rem, DIGEST_SIZES) for i, rem in enumerate(rems)),
    )


class _Claims:
    """Typed access to a claims map; claims that nobody asks for are tolerated."""

    def __init__(self, check: str, name: str, payload: bytes) -> None:
        parsed = _parse(check, f"{name}'s payload", payload)
        if not isinstance(parsed, dict):
            raise TokenError(check, f"{name}'s payload is {_kind(parsed)}; expected a map of claims")
        self._check, self._name, self._claims = check, name, parsed

    def get(self, key: int, name: str) -> cbor.Value:
        if key not in self._claims:
            raise TokenError(self._check, f"{self._name} has no {name} (claim {key}), which is mandatory")
        return self._claims[key]

    def bstr(self, key: int, name: str, sizes: tuple[int, ...] = ()) -> bytes:
        return _bstr(self._check, f"{name} (claim {key})", self.get(key, name), sizes)

    def text(self, key: int, name: str) -> str:
        return _text(self._check, f"{name} (claim {key})", self.get(key, name))

    def optional_text(self, key: int, name: str) -> str | None:
        return self.text(key, name) if key in self._claims else None


def _parse(check: str, name: str, data: bytes) -> cbor.Value:
    try:
        return cbor.decode(data)
    except cbor.CborError as error:
        raise TokenError(check, f"{name} is not strict CBOR: {error}") from error


def _half(value: cbor.Value, name: str, cmw: bool) -> bytes:
    if cmw:
        match value:
            case [int(content_format), bytes(inner)] if content_format == CMW_CONTENT_FORMAT:
                return inner
        raise TokenError(
            OUTER_FORM,
            f"{name} entry of the CMW collection is {_kind(value)}; expected [{CMW_CONTENT_FORMAT}, byte string]",
        )
    return _bstr(OUTER_FORM, f"{name} entry of the collection", value)


def _lifecycle(value: cbor.Value) -> int:
    if type(value) is int and value >= 0 and value >> 8 in set(Lifecycle):
        return value
    found = f"{value:#x}" if type(value) is int else _kind(value)
    raise TokenError(
        PLATFORM_CLAIMS, f"lifecycle is {found}; expected 0xSSnn with a defined state SS of 00, 10, 20, ... 60"
    )


def _components(value: cbor.Value) -> tuple[SwComponent, ...]:
    if not isinstance(value, list) or not value:
        raise TokenError(PLATFORM_CLAIMS, f"sw-components are {_kind(value)}; expected an array of at least one map")
    return tuple(_component(f"sw-component {i}", entry) for i, entry in enumerate(value))


def _component(name: str, entry: cbor.Value) -> SwComponent:
    if not isinstance(entry, dict):
        raise TokenError(PLATFORM_CLAIMS, f"{name} is {_kind(entry)}; expected a map")

    def text(key: int, what: str) -> str | None:
        return _text(PLATFORM_CLAIMS, f"{name}'s {what}", entry[key]) if key in entry else None

    for key, what in ((claims.COMPONENT_MEASUREMENT, "measurement"), (claims.COMPONENT_SIGNER, "signer id")):
        if key not in entry:
            raise TokenError(PLATFORM_CLAIMS, f"{name} has no {what} (key {key}), which is mandatory")
    return SwComponent(
        _bstr(PLATFORM_CLAIMS, f"{name}'s measurement", entry[claims.COMPONENT_MEASUREMENT], DIGEST_SIZES),
        _bstr(PLATFORM_CLAIMS, f"{name}'s signer id", entry[claims.COMPONENT_SIGNER], DIGEST_SIZES),
        text(claims.COMPONENT_TYPE, "type"),
        text(claims.COMPONENT_VERSION, "version"),
        text(claims.COMPONENT_HASH_ALGO, "hash algorithm"),
    )


def _raw_point(key: bytes) -> bytes:
    """The legacy RAK form, without a realm profile: an uncompressed SEC1 point of P-384."""
    if len(key) != 1 + 2 * P384_FIELD_SIZE or key[0] != 0x04:
        raise TokenError(
            REALM_CLAIMS,
            f"RAK public key of {len(key)} bytes is not an uncompressed P-384 point (97 bytes that start with 04), the "
            "only form without a realm profile",
        )
    return key


def _cose_key_point(key: bytes) -> bytes:
    """The RAK form under the realm profile: a COSE_Key of type EC2 on P-384 with both coordinates."""
    parsed = _parse(REALM_CLAIMS, "RAK public key (a COSE_Key under this realm profile)", key)
    if not isinstance(parsed, dict):
        raise TokenError(REALM_CLAIMS, f"RAK public key is {_kind(parsed)}; expected a COSE_Key map")
    for label, name, wanted in (
        (cose.KEY_TYPE, "key type", cose.KEY_TYPE_EC2),
        (cose.EC2_CURVE, "curve", cose.CURVE_P384),
    ):
        found = parsed.get(label)
        if type(found) is not int or found != wanted:
            raise TokenError(REALM_CLAIMS, f"RAK {name} (label {label}) is {shown(found)}; expected {wanted}")
    return b"\x04" + b"".join(
        _bstr(REALM_CLAIMS, f"RAK coordinate {name}", parsed.get(label), (P384_FIELD_SIZE,))
        for label, name in ((cose.EC2_X, "x"), (cose.EC2_Y, "y"))
    )


def _bstr(check: str, name: str, value: cbor.Value, sizes: tuple[int, ...] = ()) -> bytes:
    wanted = f"a byte string of {' or '.join(map(str, sizes))} bytes" if sizes else "a byte string"
    if not isinstance(value, bytes):
        raise TokenError(check, f"{name} is {_kind(value)}; expected {wanted}")
    if sizes and len(value) not in sizes:
        raise TokenError(check, f"{name} has {len(value)} bytes; expected {wanted}")
    return value


def _text(check: str, name: str, value: cbor.Value) -> str:
    if not isinstance(value, str):
        raise TokenError(check, f"{name} is {_kind(value)}; expected text")
    return value


def _kind(value: cbor.Value) -> str:
    """What an item is, in words, without its content."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return f"the integer {value}"
        case bytes():
            return f"a byte string of {len(value)} bytes"
        case str():
            return "text"
        case list():
            return f"an array of {len(value)}"
        case dict():
            return f"a map of {len(value)}"
        case cbor.Tag():
            return f"tag {value.number}"
        case _:
            return "a float or simple value"
