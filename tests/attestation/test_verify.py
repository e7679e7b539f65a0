import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from realmkit.arch import claims, cose
from realmkit.arch.errors import RealmkitError
from realmkit.attestation import Expectations, ExpectedComponent, Lifecycle, TrustAnchor, Verdict, verify
from tests.attestation.tokens import (
    NONCE,
    OTHER_RAK,
    REMS,
    RIM,
    RPV,
    Recipe,
    cmw,
    collection,
    component,
    cose_key,
    cpak,
    raw_point,
    sign1,
)

CHECKS = [
    "outer-form",
    "platform-claims",
    "realm-claims",
    "platform-identity",
    "platform-signature",
    "realm-key-binding",
    "realm-signature",
    "challenge",
    "lifecycle",
    "platform-config",
    "platform-components",
    "hash-algorithm",
    "rim",
    "rems",
    "rpv",
]
COMPONENTS = (
    ExpectedComponent(b"\x0a" * 32, "BL2", "1.0"),
    ExpectedComponent(b"\x0b" * 32, "RMM"),
    ExpectedComponent(b"\x0d" * 32),
)
FULL = Expectations(rim=RIM, rems=REMS, rpv=RPV, hash_algo="sha-256", config=b"\xcf" * 4, components=COMPONENTS)
ANCHOR = TrustAnchor(cpak().public_key(), b"\x01" * 32, b"\x01" + b"\x02" * 32)
GOOD = Recipe().token()


def judge(token: bytes, algorithm: int = cose.ES384, expected: Expectations | None = FULL) -> Verdict:
    return verify(token, trust_anchor=cpak(algorithm).public_key(), challenge=NONCE, expected=expected)


def failures(verdict: Verdict) -> dict[str, str]:
    assert [check.name for check in verdict.checks] == CHECKS
    failed = {check.name: check.status for check in verdict.checks if not check.ok}
    assert verdict.verified == (not failed)
    return failed


@pytest.mark.parametrize(
    ("recipe", "algorithm"),
    [
        pytest.param(Recipe(), cose.ES384, id="2023 profiles, COSE_Key"),
        pytest.param(
            Recipe(legacy=True, platform_profile=claims.PLATFORM_PROFILE_LEGACY), cose.ES384, id="legacy, raw point"
        ),
        pytest.param(
            Recipe(
                legacy=True,
                platform_profile=claims.PLATFORM_PROFILE_LEGACY,
                algorithm=cose.ES256,
                binding="sha-512",
            ),
            cose.ES256,
            id="legacy, ES256 platform, SHA-512 binding",
        ),
        pytest.param(
            Recipe(platform_profile=claims.PLATFORM_PROFILE_LEGACY, algorithm=cose.ES256),
            cose.ES256,
            id="legacy platform with 2023 realm",
        ),
        pytest.param(Recipe(legacy=True), cose.ES384, id="2023 platform with legacy realm"),
        pytest.param(Recipe(algorithm=cose.ES512, binding="sha-384"), cose.ES512, id="ES512, SHA-384 binding"),
    ],
)
def test_good_tokens_of_every_published_shape(recipe: Recipe, algorithm: int) -> None:
    assert failures(judge(recipe.token(), algorithm)) == {}
    assert failures(judge(cmw(*recipe.halves()), algorithm)) == {}


def test_verdict_as_report() -> None:
    verdict = verify(GOOD, trust_anchor=ANCHOR, challenge=NONCE, expected=FULL)
    report = verdict.as_dict()
    assert report["verified"] is True
    assert report["token_bytes"] == len(GOOD)
    statuses = {check.name: check.status for check in verdict.checks}
    assert report["checks"] == [{"name": name, "status": statuses[name], "ok": True} for name in CHECKS]
    assert statuses["platform-identity"] == "implementation-id and instance-id as the trust anchor's"
    assert statuses["platform-signature"] == "ES384 by the trusted platform key"
    assert statuses["lifecycle"] == "secured (0x3003)"
    assert statuses["rim"] == f"as expected: {RIM.hex()}"
    assert verdict.token is not None
    assert verdict.token.realm.rim == RIM


def test_without_reference_values_their_checks_are_not_applicable() -> None:
    verdict = judge(GOOD, expected=None)
    assert failures(verdict) == {}
    idle = {check.name for check in verdict.checks if check.status.startswith("not applicable")}
    assert idle == {"platform-identity", "platform-config", "platform-components", "rim", "rems", "rpv"}


def test_token_larger_than_a_granule() -> None:
    many = [component(f"FW{i}", 0x0D) for i in range(60)]
    token = Recipe(platform={claims.PLATFORM_SW_COMPONENTS: [*many, component("BL2", 0x0A), component("RMM", 0x0B)]})
    encoded = token.token()
    assert len(encoded) > 4096
    assert failures(judge(encoded)) == {}


# Attacks on the structure: valid signatures, wrong meaning.


def test_valid_signatures_with_a_wrong_binding_are_refused() -> None:
    recipe = Recipe(legacy=True, platform={claims.CHALLENGE: b"\xab" * 32})
    failed = failures(judge(recipe.token()))
    assert failed.keys() == {"realm-key-binding"}
    assert "the halves do not belong together" in failed["realm-key-binding"]


def test_a_realm_half_signed_by_a_key_of_the_forgers_own() -> None:
    substituted = Recipe(realm={claims.REALM_PUBLIC_KEY: cose_key(OTHER_RAK)}, realm_key=OTHER_RAK)
    assert failures(judge(substituted.token())).keys() == {"realm-key-binding"}
    foreign_signature = Recipe(realm_key=OTHER_RAK)
    assert failures(judge(foreign_signature.token())).keys() == {"realm-signature"}


def test_binding_covers_the_claim_as_carried_not_the_point_inside() -> None:
    hashed_point = Recipe(legacy=True).platform_claims()[claims.CHALLENGE]
    failed = failures(judge(Recipe(platform={claims.CHALLENGE: hashed_point}).token()))
    assert failed.keys() == {"realm-key-binding"}


def test_halves_of_two_good_tokens_do_not_combine() -> None:
    platform, _ = Recipe().halves()
    _, realm = Recipe(legacy=True).halves()
    assert failures(judge(collection(platform, realm))).keys() == {"realm-key-binding"}


def test_halves_swapped() -> None:
    platform, realm = Recipe().halves()
    failed = failures(judge(collection(realm, platform)))
    assert {"platform-claims", "realm-claims", "platform-signature", "realm-signature"} <= failed.keys()


def test_claims_from_a_realm_cannot_stand_in_for_the_platform() -> None:
    platform = sign1(cbor2.dumps(Recipe().platform_claims()), OTHER_RAK)
    failed = failures(judge(collection(platform, Recipe().halves()[1])))
    assert failed == {"platform-signature": "the ES384 signature does not verify with this key"}


def test_off_curve_rak() -> None:
    point = raw_point()[:-1] + bytes([raw_point()[-1] ^ 1])
    for recipe, carried in (
        (Recipe(legacy=True), point),
        (Recipe(), cose.p384_key(point[1:49], point[49:])),
    ):
        failed = failures(judge(replace(recipe, realm={claims.REALM_PUBLIC_KEY: carried}).token()))
        assert failed["realm-signature"] == "the key is not a point of P-384"


# Signatures.


def resigned(half: bytes, change: Callable[[list[Any]], None]) -> bytes:
    elements = list(cbor2.loads(half).value)
    change(elements)
    return cbor2.dumps(cbor2.CBORTag(cose.TAG_SIGN1, elements))


def set_signature(signature: bytes) -> Callable[[list[Any]], None]:
    def change(elements: list[Any]) -> None:
        elements[3] = signature

    return change


def set_algorithm(algorithm: int) -> Callable[[list[Any]], None]:
    def change(elements: list[Any]) -> None:
        elements[0] = cbor2.dumps({cose.HEADER_ALG: algorithm})

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_signature(b""), "the signature has 0 bytes; ES384 has 96"),
        (set_signature(bytes(95)), "the signature has 95 bytes"),
        (set_signature(bytes(97)), "the signature has 97 bytes"),
        (set_signature(bytes(96)), "does not verify"),
        (set_signature(b"\xff" * 96), "does not verify"),
        (set_algorithm(cose.ES256), "ES256 needs a key on secp256r1, this one is on secp384r1"),
        (set_algorithm(cose.ES512), "ES512 needs a key on secp521r1"),
        (set_algorithm(-8), "algorithm -8 is not supported; expected ES256, ES384 or ES512"),
        (set_algorithm(0), "algorithm 0 is not supported"),
        (set_algorithm(5), "algorithm 5 is not supported"),
    ],
)
def test_signatures_that_do_not_count(change: Callable[[list[Any]], None], message: str) -> None:
    platform, realm = Recipe().halves()
    failed = failures(judge(collection(resigned(platform, change), realm)))
    assert failed.keys() == {"platform-signature"}
    assert message in failed["platform-signature"]
    failed = failures(judge(collection(platform, resigned(realm, change))))
    assert failed.keys() == {"realm-signature"}
    assert message in failed["realm-signature"]


def test_signature_covers_the_protected_header_as_received() -> None:
    platform, realm = Recipe().halves()

    def respell(elements: list[Any]) -> None:
        elements[0] = bytes.fromhex("a101390022")  # the same algorithm, other bytes

    assert failures(judge(collection(respelt := resigned(platform, respell), realm))).keys() == {"platform-signature"}
    assert respelt != platform


def test_another_platforms_key() -> None:
    stranger = ec.derive_private_key(99, ec.SECP384R1()).public_key()
    verdict = verify(GOOD, trust_anchor=stranger, challenge=NONCE, expected=FULL)
    assert failures(verdict).keys() == {"platform-signature"}


@pytest.mark.parametrize(
    ("anchor", "message"),
    [
        (replace(ANCHOR, implementation_id=bytes(32)), "implementation-id is 0101"),
        (replace(ANCHOR, instance_id=b"\x01" + bytes(32)), "instance-id is 0102"),
    ],
)
def test_trust_anchor_of_another_platform(anchor: TrustAnchor, message: str) -> None:
    failed = failures(verify(GOOD, trust_anchor=anchor, challenge=NONCE))
    assert failed.keys() == {"platform-identity"}
    assert failed["platform-identity"].startswith(message)


# Freshness.


@pytest.mark.parametrize("size", [32, 33, 48, 63, 64])
def test_shorter_challenges_are_zero_padded(size: int) -> None:
    nonce = NONCE[:size]
    token = Recipe(realm={claims.CHALLENGE: nonce.ljust(64, b"\0")}).token()
    assert failures(verify(token, trust_anchor=ANCHOR, challenge=nonce)) == {}


def test_another_challenge_is_refused() -> None:
    for other in (NONCE[:32], bytes(64), NONCE[:63] + b"\0", NONCE[::-1]):
        failed = failures(verify(GOOD, trust_anchor=ANCHOR, challenge=other))
        assert failed.keys() == {"challenge"}
        assert NONCE.hex() in failed["challenge"]


@pytest.mark.parametrize("size", [0, 31, 65])
def test_challenge_of_a_wrong_size_is_misuse(size: int) -> None:
    with pytest.raises(RealmkitError, match=f"32 to 64 bytes, got {size}"):
        verify(GOOD, trust_anchor=ANCHOR, challenge=bytes(size))


# Appraisal.


@pytest.mark.parametrize("state", list(Lifecycle))
def test_lifecycle(state: Lifecycle) -> None:
    token = Recipe(platform={claims.PLATFORM_LIFECYCLE: state << 8 | 0x5A}).token()
    failed = failures(judge(token))
    if state in (Lifecycle.SECURED, Lifecycle.NON_CCA_PLATFORM_DEBUG):
        assert failed == {}
    else:
        assert failed.keys() == {"lifecycle"}
        assert state.name.lower() in failed["lifecycle"]
    assert failures(judge(token, expected=replace(FULL, lifecycles=frozenset({state})))) == {}


@pytest.mark.parametrize(
    ("recipe", "check", "message"),
    [
        (Recipe(realm={44238: b"\x12" * 32}), "rim", f"RIM is {'12' * 32}; expected {RIM.hex()}"),
        (Recipe(realm={44238: RIM + bytes(32)}), "rim", f"expected {RIM.hex()}"),
        (Recipe(realm={44239: [*REMS[:3], bytes(32)]}), "rems", f"REM3 is {'00' * 32}; expected {REMS[3].hex()}"),
        (Recipe(realm={44235: bytes(64)}), "rpv", "RPV is 00"),
        (Recipe(realm={44236: "sha-512"}), "hash-algorithm", "is sha-512; expected sha-256"),
        (Recipe(realm={44236: "sha-1"}), "hash-algorithm", "is 'sha-1'; expected sha-256 or sha-512"),
        (Recipe(realm={44240: "md5"}), "realm-key-binding", "is 'md5'; expected one of sha-224, sha-256"),
        (Recipe(realm={44240: "SHA-256"}), "realm-key-binding", "is 'SHA-256'"),
        (Recipe(realm={44240: "sha-224"}), "realm-key-binding", "the sha-224 hash of the RAK"),
        (Recipe(platform={2401: b"\xcf" * 300}), "platform-config", "(300 bytes); expected cfcfcfcf"),
        (
            Recipe(platform={2399: [component("BL2", 0x0A), component("RMM", 0x0A)]}),
            "platform-components",
            f"sw-component 1 'RMM' {'0a' * 32} is no reference value",
        ),
        (
            Recipe(platform={2399: [component("BL2", 0x0A, key4="2.0"), component("RMM", 0x0B)]}),
            "platform-components",
            "sw-component 0 'BL2'",
        ),
        (
            Recipe(platform={2399: [component("BL2", 0x0A)]}),
            "platform-components",
            "the platform reports no component named RMM",
        ),
    ],
)
def test_reference_value_mismatch_fails_that_check_alone(recipe: Recipe, check: str, message: str) -> None:
    failed = failures(judge(recipe.token()))
    assert failed.keys() == {check}
    assert message in failed[check]


def test_unnamed_reference_component_matches_by_digest() -> None:
    token = Recipe(platform={2399: [component("BL2", 0x0A), component("RMM", 0x0B), component("SCP", 0x0D)]}).token()
    assert failures(judge(token)) == {}


def test_single_rems_can_be_appraised() -> None:
    only_second = Expectations(rems=(None, REMS[1], None, None))
    status = {check.name: check.status for check in judge(GOOD, expected=only_second).checks}
    assert status["rems"] == "as expected: REM1"
    none_given = judge(GOOD, expected=Expectations(rems=(None,) * 4))
    assert {c.name: c.status for c in none_given.checks}["rems"].startswith("not applicable")


# A failing early check does not hide later ones.


def test_all_checks_are_reported_for_garbage() -> None:
    failed = failures(judge(b"garbage"))
    assert list(failed) == CHECKS
    assert all(status.startswith("not evaluated") for name, status in failed.items() if name != "outer-form")


def test_a_broken_half_leaves_the_other_judged() -> None:
    _, realm = Recipe().halves()
    failed = failures(judge(collection(b"\x00", realm)))
    whole_or_platform = set(CHECKS) - {"realm-claims", "realm-signature", "challenge", "hash-algorithm", "rim"}
    assert failed.keys() == whole_or_platform - {"rems", "rpv"}
    both = failures(judge(collection(b"\x00", b"\x01")))["outer-form"]
    assert "platform token is the integer 0" in both
    assert "realm token is the integer 1" in both
    bad_claims = Recipe(platform={2396: b""})
    failed = failures(judge(bad_claims.token()))
    assert "platform-signature" not in failed, "the signature can be judged without the claims"
    assert {"platform-claims", "realm-key-binding", "lifecycle"} <= failed.keys()


# Whatever the bytes, the answer is a verdict.


@settings(max_examples=100)
@given(st.binary(max_size=120))
def test_any_bytes_give_a_verdict(data: bytes) -> None:
    assert not judge(data).verified


def assert_refused_or_same(changed: bytes) -> None:
    """The outer wrapping is not signed: what verifies must carry every signed byte as it was."""
    verdict = judge(changed)
    if verdict.verified:
        assert verdict.token == judge(GOOD).token


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_any_changed_byte_is_refused(at: int, flip: int) -> None:
    changed = GOOD[:at] + bytes([GOOD[at] ^ flip]) + GOOD[at + 1 :]
    assert_refused_or_same(changed)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(GOOD)), st.integers(0, 40), st.binary(max_size=8))
def test_spliced_tokens_give_a_verdict(at: int, cut: int, patch: bytes) -> None:
    changed = GOOD[:at] + patch + GOOD[at + cut :]
    assert_refused_or_same(changed)


def test_attestation_does_not_load_the_machine() -> None:
    script = (
        "import sys, realmkit.attestation; print([m for m in sys.modules if m.startswith(('unicorn', 'realmkit.'))])"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "realmkit.attestation.verify" in loaded
    assert not any(name in loaded for name in ("unicorn", "realmkit.machine", "realmkit.rmm", "realmkit.monitor"))
