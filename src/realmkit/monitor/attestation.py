"""Platform attestation: the keys CPAK and RAK, and the platform token (spec: attestation sections 2, 3 and 5)."""

import hashlib
import hmac
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import cbor2
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from realmkit.arch import claims, cose
from realmkit.arch.errors import RealmkitError
from realmkit.monitor.measured_boot import HASH_ALGORITHM, SwComponent

P384_BYTES: Final = 48
CHALLENGE_SIZES: Final = frozenset({32, 48, 64})
_P384_ORDER: Final = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16
)
_INSTANCE_ID_TYPE: Final = b"\x01"
_MAX_SEED: Final = 1 << 64


@dataclass(frozen=True, slots=True)
class PlatformKeys:
    """What the hardware security engine holds: the attestation key CPAK and a secret that RAKs derive from."""

    cpak: ec.EllipticCurvePrivateKey
    secret: bytes = field(repr=False)

    @classmethod
    def from_seed(cls, seed: int) -> "PlatformKeys":
        """Reproducible keys, the default. ``seed`` has at most 64 bits; RealmkitError otherwise."""
        secret = _secret_of(seed)
        scalar = _derive_scalar(secret, b"CPAK")
        return cls(ec.derive_private_key(scalar, ec.SECP384R1()), secret)

    @classmethod
    def from_pem(cls, path: Path, seed: int) -> "PlatformKeys":
        """CPAK from a PEM file with an unencrypted P-384 private key; the secret still comes from ``seed``."""
        try:
            pem = path.read_bytes()
        except OSError as error:
            raise RealmkitError(f"cannot read the platform attestation key {path}: {error.strerror}") from error
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise RealmkitError(f"{path} does not hold an unencrypted private key in PEM form: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
            raise RealmkitError(
                f"{path} holds a key of another kind: the platform attestation key is an EC key on P-384"
            )
        return cls(key, _secret_of(seed))


class PlatformAttestation:
    """The platform's root of trust for attestation. The Monitor reports what booted, the RMM asks for RAK and token.

    ``implementation_id``: 32 bytes that name the platform model; ``config``: its system properties, any bytes;
    ``lifecycle``: the claim, state in bits 15:8 (attestation 3.1).
    """

    def __init__(
        self,
        keys: PlatformKeys,
        *,
        implementation_id: bytes,
        config: bytes,
        lifecycle: int = claims.LIFECYCLE_SECURED,
    ) -> None:
        if len(implementation_id) != 32:
            raise RealmkitError(f"an implementation id has 32 bytes, got {len(implementation_id)}")
        if not 0 <= lifecycle <= 0xFFFF:
            raise RealmkitError(f"a lifecycle has 16 bits, got {lifecycle:#x}")
        self._keys = keys
        self.implementation_id = implementation_id
        self.config = config
        self.lifecycle = lifecycle
        self.components: tuple[SwComponent, ...] = ()
        """Boot records: empty until the Monitor has measured the firmware."""

    @property
    def instance_id(self) -> bytes:
        """Instance identifier: 0x01 and the SHA-256 of the CPAK's uncompressed point."""
        public = self._keys.cpak.public_key()
        point = public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
        return _INSTANCE_ID_TYPE + hashlib.sha256(point).digest()

    def trust_anchor_pem(self) -> bytes:
        """CPAK public key in PEM form (SubjectPublicKeyInfo), for the Realm owner."""
        return self._keys.cpak.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def realm_attestation_key(self) -> bytes:
        """Private scalar of the RAK, 48 bytes big-endian: another one after other firmware or in another lifecycle."""
        state = hashlib.sha384(self.lifecycle.to_bytes(2, "little"))
        for component in self.components:
            state.update(component.measurement)
        return _derive_scalar(self._keys.secret, b"RAK" + state.digest()).to_bytes(P384_BYTES, "big")

    def platform_token(self, challenge: bytes) -> bytes:
        """Platform token for a challenge of 32, 48 or 64 bytes: COSE_Sign1 by the CPAK, same inputs, same bytes."""
        if len(challenge) not in CHALLENGE_SIZES:
            raise RealmkitError(f"a platform challenge has 32, 48 or 64 bytes, got {len(challenge)}")
        payload = {
            claims.PROFILE: claims.PLATFORM_PROFILE,
            claims.CHALLENGE: challenge,
            claims.PLATFORM_IMPLEMENTATION_ID: self.implementation_id,
            claims.PLATFORM_INSTANCE_ID: self.instance_id,
            claims.PLATFORM_CONFIG: self.config,
            claims.PLATFORM_LIFECYCLE: self.lifecycle,
            claims.PLATFORM_HASH_ALGO: HASH_ALGORITHM,
            claims.PLATFORM_SW_COMPONENTS: [
                {
                    claims.COMPONENT_TYPE: component.kind,
                    claims.COMPONENT_MEASUREMENT: component.measurement,
                    claims.COMPONENT_VERSION: component.version,
                    claims.COMPONENT_SIGNER: component.signer,
                }
                for component in self.components
            ],
        }
        return cose.sign1(cbor2.dumps(payload), self._sign)

    def _sign(self, message: bytes) -> bytes:
        signature = self._keys.cpak.sign(message, ec.ECDSA(hashes.SHA384(), deterministic_signing=True))
        r, s = decode_dss_signature(signature)
        return r.to_bytes(P384_BYTES, "big") + s.to_bytes(P384_BYTES, "big")


def _secret_of(seed: int) -> bytes:
    if not 0 <= seed < _MAX_SEED:
        raise RealmkitError(f"a seed is a number from 0 to 2^64 - 1, got {seed}")
    return hashlib.sha512(b"realmkit platform secret" + seed.to_bytes(8, "little")).digest()


def _derive_scalar(secret: bytes, label: bytes) -> int:
    """A private scalar of P-384: 512 bits modulo the order have no bias that matters."""
    return int.from_bytes(hmac.digest(secret, label, "sha512"), "big") % (_P384_ORDER - 1) + 1
