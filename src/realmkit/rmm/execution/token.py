"""Generation of the CCA attestation token, in slices (RMM 1.0-rel0 A7.2; spec: attestation sections 4, 5, 8).

Measurements are taken when generation starts. Signing takes TOKEN_SLICES slices of virtual time, each of which notices
a pending interrupt; the signature itself is deterministic (RFC 6979).
"""

from typing import Final

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from realmkit.arch import claims
from realmkit.arch.cose import sign1
from realmkit.arch.events import TokenIssued
from realmkit.arch.pas import GRANULE_SIZE
from realmkit.arch.time import TOKEN_SLICE, TOKEN_SLICES
from realmkit.machine.port import El2Port
from realmkit.rmm.state import AttestState, RealmAttestation, Rec

_REALM_TOKEN_BOUND: Final = 1024
"""More than the longest realm token (SHA-512 measurements) and the outer map take."""
_FIELD: Final = 48
_BINDING_ALGORITHM: Final = "sha-256"


def size_bound(attestation: RealmAttestation) -> int:
    """Upper bound of a whole token in bytes, in granules as a Realm's buffers are."""
    return -(-(len(attestation.platform_token) + _REALM_TOKEN_BOUND) // GRANULE_SIZE) * GRANULE_SIZE


def start(attestation: RealmAttestation, rec: Rec, challenge: bytes) -> None:
    """Begin a token for ``challenge`` (64 bytes): its claims are those of this moment."""
    realm = rec.realm
    size = realm.hash_algo.digest_size
    rim, *rems = (value[:size] for value in realm.measurements)
    rec.token_payload = cbor2.dumps(
        {
            claims.CHALLENGE: challenge,
            claims.REALM_RPV: realm.rpv,
            claims.REALM_PUBLIC_KEY: attestation.cose_key,
            claims.REALM_HASH_ALGO: realm.hash_algo.claim_name,
            claims.REALM_PUBLIC_KEY_HASH_ALGO: _BINDING_ALGORITHM,
            claims.PROFILE: claims.REALM_PROFILE,
            claims.REALM_RIM: rim,
            claims.REALM_REMS: rems,
        }
    )
    rec.token, rec.token_cursor, rec.token_slices = b"", 0, 0
    rec.attest_state = AttestState.IN_PROGRESS


def advance(port: El2Port, attestation: RealmAttestation, rec: Rec) -> bool:
    """Work until the token is signed: False when a pending interrupt wants the PE first."""
    while rec.token_slices < TOKEN_SLICES:
        if port.interrupt_pending():
            return False
        port.charge(TOKEN_SLICE)
        rec.token_slices += 1
    if not rec.token:
        rec.token = _assemble(attestation, rec.token_payload)
    return True


def take(port: El2Port, rec: Rec, size: int) -> tuple[bytes, bool]:
    """The next ``size`` bytes at most, and whether more follow; after the last ones the token is gone."""
    chunk = rec.token[rec.token_cursor : rec.token_cursor + size]
    rec.token_cursor += len(chunk)
    more = rec.token_cursor < len(rec.token)
    if not more:
        if port.events.active:
            port.events.emit(TokenIssued(port.now(), port.index, rec.realm.rd, rec.pa, len(rec.token)))
        rec.attest_state = AttestState.NONE
        rec.token, rec.token_payload, rec.token_cursor, rec.token_slices = b"", b"", 0, 0
    return chunk, more


def _assemble(attestation: RealmAttestation, payload: bytes) -> bytes:
    def sign(message: bytes) -> bytes:
        der = attestation.key.sign(message, ec.ECDSA(hashes.SHA384(), deterministic_signing=True))
        r, s = decode_dss_signature(der)
        return r.to_bytes(_FIELD, "big") + s.to_bytes(_FIELD, "big")

    return cbor2.dumps(
        cbor2.CBORTag(
            claims.TAG_CCA_COLLECTION,
            {
                claims.KEY_PLATFORM_TOKEN: attestation.platform_token,
                claims.KEY_REALM_TOKEN: sign1(payload, sign),
            },
        )
    )
