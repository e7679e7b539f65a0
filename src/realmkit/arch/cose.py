"""COSE_Sign1 and COSE_Key encodings that both token makers and verifiers share (RFC 9052; spec: attestation)."""

from collections.abc import Callable
from typing import Final

import cbor2

TAG_SIGN1: Final = 18
HEADER_ALG: Final = 1
HEADER_X5CHAIN: Final = 33
ES256: Final = -7
ES384: Final = -35
ES512: Final = -36

KEY_TYPE: Final = 1
KEY_TYPE_EC2: Final = 2
EC2_CURVE: Final = -1
EC2_X: Final = -2
EC2_Y: Final = -3
CURVE_P256: Final = 1
CURVE_P384: Final = 2
CURVE_P521: Final = 3


def sig_structure(protected: bytes, payload: bytes) -> bytes:
    """The bytes that a COSE_Sign1 signature covers, with empty external data."""
    return cbor2.dumps(["Signature1", protected, b"", payload])


def sign1(payload: bytes, sign: Callable[[bytes], bytes], algorithm: int = ES384) -> bytes:
    """A tagged COSE_Sign1 over ``payload``.

    ``sign`` gets the bytes to be signed and returns r || s, each as long as the curve's field (96 bytes for P-384).
    """
    protected = cbor2.dumps({HEADER_ALG: algorithm})
    signature = sign(sig_structure(protected, payload))
    return cbor2.dumps(cbor2.CBORTag(TAG_SIGN1, [protected, {}, payload, signature]))


def p384_key(x: bytes, y: bytes) -> bytes:
    """COSE_Key of a P-384 public key as the RAK claim carries it: 107 bytes, labels in the order 1, -1, -2, -3."""
    return cbor2.dumps({KEY_TYPE: KEY_TYPE_EC2, EC2_CURVE: CURVE_P384, EC2_X: x, EC2_Y: y})
