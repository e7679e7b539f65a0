"""A token maker for tests: every part of a token can be replaced, with signatures that stay valid."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512

from realmkit.arch import claims, cose

CURVES: dict[int, tuple[ec.EllipticCurve, type[SHA256 | SHA384 | SHA512], int]] = {
    cose.ES256: (ec.SECP256R1(), SHA256, 32),
    cose.ES384: (ec.SECP384R1(), SHA384, 48),
    cose.ES512: (ec.SECP521R1(), SHA512, 66),
}
NONCE = bytes(range(64))
RIM = b"\x11" * 32
REMS = tuple(bytes([0x20 + i]) * 32 for i in range(4))
RPV = b"\x55" * 64
RAK = ec.derive_private_key(0x1234567, ec.SECP384R1())
OTHER_RAK = ec.derive_private_key(0x7654321, ec.SECP384R1())
DROP = object()
"""As the value of a claim: leave the claim out."""


def cpak(algorithm: int = cose.ES384) -> ec.EllipticCurvePrivateKey:
    """The platform key of the tests on the curve of ``algorithm``."""
    return ec.derive_private_key(0xABCDEF, CURVES[algorithm][0])


def coordinates(key: ec.EllipticCurvePrivateKey) -> tuple[bytes, bytes]:
    numbers = key.public_key().public_numbers()
    return numbers.x.to_bytes(48), numbers.y.to_bytes(48)


def raw_point(key: ec.EllipticCurvePrivateKey = RAK) -> bytes:
    x, y = coordinates(key)
    return b"\x04" + x + y


def cose_key(key: ec.EllipticCurvePrivateKey = RAK) -> bytes:
    return cose.p384_key(*coordinates(key))


def sign1(payload: bytes, key: ec.EllipticCurvePrivateKey, algorithm: int = cose.ES384) -> bytes:
    _, hash_algo, size = CURVES[algorithm]

    def sign(message: bytes) -> bytes:
        der = key.sign(message, ec.ECDSA(hash_algo(), deterministic_signing=True))
        r, s = decode_dss_signature(der)
        return r.to_bytes(size) + s.to_bytes(size)

    return cose.sign1(payload, sign, algorithm)


def collection(platform: bytes, realm: bytes) -> bytes:
    halves = {claims.KEY_PLATFORM_TOKEN: platform, claims.KEY_REALM_TOKEN: realm}
    return cbor2.dumps(cbor2.CBORTag(claims.TAG_CCA_COLLECTION, halves))


def cmw(platform: bytes, realm: bytes) -> bytes:
    halves = {claims.KEY_PLATFORM_TOKEN: [263, platform], claims.KEY_REALM_TOKEN: [263, realm]}
    return cbor2.dumps(cbor2.CBORTag(claims.TAG_CMW_COLLECTION, halves))


@dataclass
class Recipe:
    """What a token is made of; ``platform`` and ``realm`` replace, add or drop single claims."""

    algorithm: int = cose.ES384
    legacy: bool = False
    """Legacy form of the Realm half: no profile claim, RAK as a raw point."""
    binding: str = "sha-256"
    platform_profile: str = claims.PLATFORM_PROFILE
    platform: Mapping[Any, Any] = field(default_factory=dict)
    realm: Mapping[Any, Any] = field(default_factory=dict)
    realm_key: ec.EllipticCurvePrivateKey = RAK
    """The key that signs the Realm half; the RAK claim and the binding name RAK."""

    def rak_claim(self) -> bytes:
        return raw_point() if self.legacy else cose_key()

    def platform_claims(self) -> dict[Any, Any]:
        return _merge(
            {
                claims.PROFILE: self.platform_profile,
                claims.CHALLENGE: hashlib.new(self.binding.replace("-", ""), self.rak_claim()).digest(),
                claims.PLATFORM_IMPLEMENTATION_ID: b"\x01" * 32,
                claims.PLATFORM_INSTANCE_ID: b"\x01" + b"\x02" * 32,
                claims.PLATFORM_CONFIG: b"\xcf" * 4,
                claims.PLATFORM_LIFECYCLE: 0x3003,
                claims.PLATFORM_HASH_ALGO: "sha-256",
                claims.PLATFORM_SW_COMPONENTS: [component("BL2", 0x0A), component("RMM", 0x0B)],
            },
            self.platform,
        )

    def realm_claims(self) -> dict[Any, Any]:
        profile = {} if self.legacy else {claims.PROFILE: claims.REALM_PROFILE}
        return _merge(
            {
                claims.CHALLENGE: NONCE,
                claims.REALM_RPV: RPV,
                claims.REALM_PUBLIC_KEY: self.rak_claim(),
                claims.REALM_HASH_ALGO: "sha-256",
                claims.REALM_PUBLIC_KEY_HASH_ALGO: self.binding,
                **profile,
                claims.REALM_RIM: RIM,
                claims.REALM_REMS: list(REMS),
            },
            self.realm,
        )

    def halves(self) -> tuple[bytes, bytes]:
        platform = sign1(cbor2.dumps(self.platform_claims()), cpak(self.algorithm), self.algorithm)
        return platform, sign1(cbor2.dumps(self.realm_claims()), self.realm_key)

    def token(self) -> bytes:
        return collection(*self.halves())


def component(name: str, fill: int, **more: Any) -> dict[int, Any]:
    entry = {
        claims.COMPONENT_TYPE: name,
        claims.COMPONENT_MEASUREMENT: bytes([fill]) * 32,
        claims.COMPONENT_VERSION: "1.0",
        claims.COMPONENT_SIGNER: b"\x0c" * 32,
    }
    return _merge(entry, {int(key.removeprefix("key")): value for key, value in more.items()})


def _merge(base: dict[Any, Any], changes: Mapping[Any, Any]) -> dict[Any, Any]:
    return {key: value for key, value in {**base, **changes}.items() if value is not DROP}
