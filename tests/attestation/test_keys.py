from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from realmkit.arch import cose
from realmkit.arch.errors import RealmkitError
from realmkit.attestation import TrustAnchor
from tests.attestation.tokens import cpak


def pem(key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("algorithm", [cose.ES256, cose.ES384, cose.ES512])
def test_pem_round_trip(algorithm: int, tmp_path: Path) -> None:
    anchor = TrustAnchor(cpak(algorithm).public_key())
    path = tmp_path / "anchor.pem"
    anchor.dump(path)
    assert path.read_bytes().startswith(b"-----BEGIN PUBLIC KEY-----")
    assert TrustAnchor.load(path).public_key.public_numbers() == anchor.public_key.public_numbers()


def test_ids_come_with_the_key() -> None:
    anchor = TrustAnchor.from_pem(pem(cpak().public_key()), implementation_id=b"i" * 32, instance_id=b"\x01" * 33)
    assert (anchor.implementation_id, anchor.instance_id) == (b"i" * 32, b"\x01" * 33)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a PEM public key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "not a PEM public key"),
        (pem(ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()), "not an elliptic-curve key"),
        (pem(ec.derive_private_key(5, ec.SECP256K1()).public_key()), "on curve secp256k1; expected one of secp256r1"),
    ],
)
def test_unusable_keys_are_named(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "anchor.pem"
    path.write_bytes(content)
    with pytest.raises(RealmkitError, match=message):
        TrustAnchor.load(path)


def test_off_curve_trust_anchor() -> None:
    good = pem(cpak(cose.ES256).public_key())
    lines = good.splitlines()
    flipped = lines[2][:-4] + (b"A" if lines[2][-4:-3] != b"A" else b"B") + lines[2][-3:]
    with pytest.raises(RealmkitError, match="not a PEM public key"):
        TrustAnchor.from_pem(b"\n".join([lines[0], lines[1], flipped, *lines[3:]]))


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(RealmkitError, match="cannot read the trust anchor"):
        TrustAnchor.load(tmp_path / "absent.pem")
    with pytest.raises(RealmkitError, match="cannot write the trust anchor"):
        TrustAnchor(cpak().public_key()).dump(tmp_path / "no" / "folder.pem")
