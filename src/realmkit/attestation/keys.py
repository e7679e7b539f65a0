"""Public keys and ECDSA over COSE (RFC 9053 2.1; spec: attestation sections 2 and 6)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from realmkit.arch import cose
from realmkit.arch.errors import RealmkitError
from realmkit.attestation.token import Sign1


class _Ecdsa(NamedTuple):
    name: str
    curve: ec.EllipticCurve
    hash_algo: type[HashAlgorithm]
    field_size: int


# Each algorithm with the one curve it is used with: a key never chooses a weaker hash, nor a token another curve.
_ALGORITHMS: Final = {
    cose.ES256: _Ecdsa("ES256", ec.SECP256R1(), SHA256, 32),
    cose.ES384: _Ecdsa("ES384", ec.SECP384R1(), SHA384, 48),
    cose.ES512: _Ecdsa("ES512", ec.SECP521R1(), SHA512, 66),
}
_CURVES: Final = tuple(a.curve.name for a in _ALGORITHMS.values())


class SignatureError(Exception):
    """A signature does not verify; the message says why."""


@dataclass(frozen=True, slots=True)
class TrustAnchor:
    """The platform attestation key that the owner trusts, and the platform it belongs to where that is known.

    ``implementation_id`` (32 bytes) and ``instance_id`` (33 bytes) must equal the token's when they are given.
    """

    public_key: ec.EllipticCurvePublicKey
    implementation_id: bytes | None = None
    instance_id: bytes | None = None

    def __post_init__(self) -> None:
        if self.public_key.curve.name not in _CURVES:
            raise RealmkitError(
                f"trust anchor is on curve {self.public_key.curve.name}; expected one of {', '.join(_CURVES)}"
            )

    @classmethod
    def from_pem(
        cls, pem: bytes, *, implementation_id: bytes | None = None, instance_id: bytes | None = None
    ) -> "TrustAnchor":
        """Read a PEM SubjectPublicKeyInfo; raises RealmkitError when it is not an EC key on a supported curve."""
        try:
            key = load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise RealmkitError(
                f"trust anchor is not a PEM public key (-----BEGIN PUBLIC KEY-----): {error}"
            ) from error
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise RealmkitError(f"trust anchor is not an elliptic-curve key; expected one on {', '.join(_CURVES)}")
        return cls(key, implementation_id, instance_id)

    def to_pem(self) -> bytes:
        """The key as PEM SubjectPublicKeyInfo."""
        return self.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @classmethod
    def load(cls, path: Path) -> "TrustAnchor":
        """Read the key from a PEM file; raises RealmkitError when it cannot be read or used."""
        try:
            pem = path.read_bytes()
        except OSError as error:
            raise RealmkitError(f"cannot read the trust anchor {path}: {error.strerror}") from error
        return cls.from_pem(pem)

    def dump(self, path: Path) -> None:
        """Write the key to a PEM file; raises RealmkitError when it cannot be written."""
        try:
            path.write_bytes(self.to_pem())
        except OSError as error:
            raise RealmkitError(f"cannot write the trust anchor {path}: {error.strerror}") from error


def p384_public_key(point: bytes) -> ec.EllipticCurvePublicKey:
    """The P-384 key at an uncompressed SEC1 ``point``; raises SignatureError when it is not on the curve."""
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), point)
    except ValueError as error:
        raise SignatureError("the key is not a point of P-384") from error


def verify_sign1(envelope: Sign1, key: ec.EllipticCurvePublicKey) -> str:
    """Check the signature of ``envelope``; returns the algorithm's name, raises SignatureError."""
    algorithm = _ALGORITHMS.get(envelope.algorithm)
    if algorithm is None:
        raise SignatureError(f"algorithm {envelope.algorithm} is not supported; expected ES256, ES384 or ES512")
    if key.curve.name != algorithm.curve.name:
        raise SignatureError(f"{algorithm.name} needs a key on {algorithm.curve.name}, this one is on {key.curve.name}")
    size = algorithm.field_size
    raw = envelope.signature
    if len(raw) != 2 * size:
        raise SignatureError(f"the signature has {len(raw)} bytes; {algorithm.name} has {2 * size}")
    der = encode_dss_signature(int.from_bytes(raw[:size]), int.from_bytes(raw[size:]))
    signed = cose.sig_structure(envelope.protected, envelope.payload)
    try:
        key.verify(der, signed, ec.ECDSA(algorithm.hash_algo()))
    except InvalidSignature as error:
        raise SignatureError(f"the {algorithm.name} signature does not verify with this key") from error
    return algorithm.name
