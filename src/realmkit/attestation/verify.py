"""Verification and appraisal of a token (spec: attestation section 6).

Each rule is a check with a name; all that can be evaluated are, so that one report shows everything that is wrong.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from realmkit.arch.errors import RealmkitError
from realmkit.attestation import token as form
from realmkit.attestation.keys import SignatureError, TrustAnchor, p384_public_key, verify_sign1
from realmkit.attestation.reference import Expectations, ExpectedComponent
from realmkit.attestation.token import CcaToken, PlatformToken, RealmToken, Sign1, SwComponent, TokenError, shown

MIN_CHALLENGE: Final = 32
MAX_CHALLENGE: Final = 64

_REALM_HASHES: Final = ("sha-256", "sha-512")
_BINDING_HASHES: Final = {
    "sha-224": hashlib.sha224,
    "sha-256": hashlib.sha256,
    "sha-384": hashlib.sha384,
    "sha-512": hashlib.sha512,
}
_NOT_EVALUATED: Final = "not evaluated: this part of the token could not be decoded"
_NO_REFERENCE: Final = "not applicable: no reference value"

_T = TypeVar("_T")


class _Failed(Exception):
    """A rule does not hold; the message becomes the status."""


@dataclass(frozen=True, slots=True)
class Check:
    """One rule: its name, the outcome in words, and whether it holds (true also when it is not applicable)."""

    name: str
    status: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of a verification. ``token`` is None unless both halves could be decoded."""

    checks: tuple[Check, ...]
    token: CcaToken | None
    token_bytes: int

    @property
    def verified(self) -> bool:
        """Every check holds."""
        return all(check.ok for check in self.checks)

    def as_dict(self) -> dict[str, object]:
        """The verdict as a report holds it: verified, token_bytes, checks."""
        return {
            "verified": self.verified,
            "token_bytes": self.token_bytes,
            "checks": [{"name": c.name, "status": c.status, "ok": c.ok} for c in self.checks],
        }


def verify(
    token: bytes,
    *,
    trust_anchor: TrustAnchor | EllipticCurvePublicKey,
    challenge: bytes,
    expected: Expectations | None = None,
) -> Verdict:
    """Verify ``token`` as the answer to ``challenge`` (32 to 64 bytes), made on the platform of ``trust_anchor``.

    Whatever the bytes of ``token``, the answer is a Verdict. Raises RealmkitError for a challenge of another size or a
    trust anchor on an unsupported curve.
    """
    if not MIN_CHALLENGE <= len(challenge) <= MAX_CHALLENGE:
        raise RealmkitError(f"a challenge has {MIN_CHALLENGE} to {MAX_CHALLENGE} bytes, got {len(challenge)}")
    anchor = trust_anchor if isinstance(trust_anchor, TrustAnchor) else TrustAnchor(trust_anchor)
    expected = expected or Expectations()

    opened = _open(token)
    platform, platform_claims = _decode(form.PLATFORM_CLAIMS, opened.platform, form.decode_platform)
    realm, realm_claims = _decode(form.REALM_CLAIMS, opened.realm, form.decode_realm)
    whole = CcaToken(platform, realm, opened.cmw) if platform and realm else None
    checks = (
        opened.check,
        platform_claims,
        realm_claims,
        _judge("platform-identity", platform, partial(_platform_identity, anchor)),
        _judge("platform-signature", opened.platform, partial(_platform_signature, anchor)),
        _judge("realm-key-binding", whole, _realm_key_binding),
        _judge("realm-signature", realm, _realm_signature),
        _judge("challenge", realm, partial(_challenge, challenge)),
        _judge("lifecycle", platform, partial(_lifecycle, expected)),
        _judge("platform-config", platform, partial(_platform_config, expected)),
        _judge("platform-components", platform, partial(_platform_components, expected)),
        _judge("hash-algorithm", realm, partial(_hash_algorithm, expected)),
        _judge("rim", realm, partial(_rim, expected)),
        _judge("rems", realm, partial(_rems, expected)),
        _judge("rpv", realm, partial(_rpv, expected)),
    )
    return Verdict(checks, whole, len(token))


@dataclass(frozen=True, slots=True)
class _Opened:
    """The outer form of a token: the check on it, and the halves that could be taken apart."""

    check: Check
    cmw: bool
    platform: Sign1 | None
    realm: Sign1 | None


def _open(token: bytes) -> _Opened:
    try:
        collection = form.decode_collection(token)
    except TokenError as error:
        return _Opened(Check(form.OUTER_FORM, str(error), False), False, None, None)
    problems: list[str] = []

    def half(encoded: bytes, name: str) -> Sign1 | None:
        try:
            return form.decode_sign1(encoded, name)
        except TokenError as error:
            problems.append(str(error))
            return None

    platform, realm = half(collection.platform, "platform"), half(collection.realm, "realm")
    kind = "CMW collection (tag 907)" if collection.cmw else "CCA token (tag 399)"
    status = "; ".join(problems) or f"{kind} of {len(token)} bytes"
    return _Opened(Check(form.OUTER_FORM, status, not problems), collection.cmw, platform, realm)


def _decode(name: str, envelope: Sign1 | None, decode: Callable[[Sign1], _T]) -> tuple[_T | None, Check]:
    if envelope is None:
        return None, Check(name, _NOT_EVALUATED, False)
    try:
        return decode(envelope), Check(name, "complete and well-formed", True)
    except TokenError as error:
        return None, Check(name, str(error), False)


def _judge(name: str, evidence: _T | None, rule: Callable[[_T], str]) -> Check:
    """Apply a rule that returns its status when it holds and raises when it does not."""
    if evidence is None:
        return Check(name, _NOT_EVALUATED, False)
    try:
        return Check(name, rule(evidence), True)
    except (_Failed, SignatureError) as error:
        return Check(name, str(error), False)


def _platform_identity(anchor: TrustAnchor, platform: PlatformToken) -> str:
    pairs = (
        ("implementation-id", anchor.implementation_id, platform.implementation_id),
        ("instance-id", anchor.instance_id, platform.instance_id),
    )
    given = [(name, wanted, found) for name, wanted, found in pairs if wanted is not None]
    for name, wanted, found in given:
        _check_equal(name, found, wanted)
    if not given:
        return "not applicable: the trust anchor names no platform"
    return f"{' and '.join(name for name, _, _ in given)} as the trust anchor's"


def _platform_signature(anchor: TrustAnchor, envelope: Sign1) -> str:
    return f"{verify_sign1(envelope, anchor.public_key)} by the trusted platform key"


def _realm_key_binding(token: CcaToken) -> str:
    name = token.realm.public_key_hash_algo
    algorithm = _BINDING_HASHES.get(name)
    if algorithm is None:
        raise _Failed(f"RAK hash algorithm is {shown(name)}; expected one of {', '.join(_BINDING_HASHES)}")
    # Over the claim exactly as carried: hashing the point inside a COSE_Key instead is a known mistake.
    digest = algorithm(token.realm.public_key).digest()
    if digest != token.platform.challenge:
        raise _Failed(
            f"the platform token is bound to {token.platform.challenge.hex()}, but the {name} hash of the RAK is "
            f"{digest.hex()}: the halves do not belong together"
        )
    return f"the platform token's challenge is the {name} hash of the RAK"


def _realm_signature(realm: RealmToken) -> str:
    return f"{verify_sign1(realm.envelope, p384_public_key(realm.public_point))} by the RAK"


def _challenge(challenge: bytes, realm: RealmToken) -> str:
    _check_equal("challenge", realm.challenge, challenge.ljust(MAX_CHALLENGE, b"\0"))
    return "the owner's challenge"


def _lifecycle(expected: Expectations, platform: PlatformToken) -> str:
    state = platform.lifecycle_state
    name = f"{state.name.lower()} ({platform.lifecycle:#06x})"
    if state not in expected.lifecycles:
        accepted = ", ".join(s.name.lower() for s in sorted(expected.lifecycles)) or "none"
        raise _Failed(f"{name} does not protect Realms; accepted: {accepted}")
    return name


def _platform_config(expected: Expectations, platform: PlatformToken) -> str:
    if expected.config is None:
        return _NO_REFERENCE
    _check_equal("platform config", platform.config, expected.config)
    return "as expected"


def _platform_components(expected: Expectations, platform: PlatformToken) -> str:
    if expected.components is None:
        return _NO_REFERENCE
    for i, found in enumerate(platform.components):
        if not any(_is_component(found, wanted) for wanted in expected.components):
            raise _Failed(f"sw-component {i} {shown(found.name)} {found.measurement.hex()} is no reference value")
    present = {component.name for component in platform.components}
    missing = sorted({c.name for c in expected.components if c.name is not None} - present)
    if missing:
        raise _Failed(f"the platform reports no component named {', '.join(missing)}")
    return f"all {len(platform.components)} are reference values"


def _is_component(found: SwComponent, wanted: ExpectedComponent) -> bool:
    return (
        found.measurement == wanted.measurement
        and wanted.name in (None, found.name)
        and wanted.version in (None, found.version)
    )


def _hash_algorithm(expected: Expectations, realm: RealmToken) -> str:
    if realm.hash_algo not in _REALM_HASHES:
        raise _Failed(f"realm hash algorithm is {shown(realm.hash_algo)}; expected {' or '.join(_REALM_HASHES)}")
    if expected.hash_algo not in (None, realm.hash_algo):
        raise _Failed(f"realm hash algorithm is {realm.hash_algo}; expected {expected.hash_algo}")
    return realm.hash_algo


def _rim(expected: Expectations, realm: RealmToken) -> str:
    if expected.rim is None:
        return _NO_REFERENCE
    _check_equal("RIM", realm.rim, expected.rim)
    return f"as expected: {realm.rim.hex()}"


def _rems(expected: Expectations, realm: RealmToken) -> str:
    if expected.rems is None:
        return _NO_REFERENCE
    appraised: list[str] = []
    for i, (found, wanted) in enumerate(zip(realm.rems, expected.rems, strict=True)):
        if wanted is not None:
            _check_equal(f"REM{i}", found, wanted)
            appraised.append(f"REM{i}")
    return f"as expected: {', '.join(appraised)}" if appraised else _NO_REFERENCE


def _rpv(expected: Expectations, realm: RealmToken) -> str:
    if expected.rpv is None:
        return _NO_REFERENCE
    _check_equal("RPV", realm.rpv, expected.rpv)
    return "as expected"


def _check_equal(name: str, found: bytes, wanted: bytes) -> None:
    if found != wanted:
        raise _Failed(f"{name} is {_hex(found)}; expected {_hex(wanted)}")


def _hex(value: bytes) -> str:
    return value.hex() if len(value) <= MAX_CHALLENGE else f"{value[:32].hex()}... ({len(value)} bytes)"
