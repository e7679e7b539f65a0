from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realmkit.arch import claims, cose
from realmkit.attestation import CcaToken, Lifecycle, SwComponent, TokenError, decode, describe
from tests.attestation.tokens import (
    DROP,
    NONCE,
    REMS,
    RIM,
    RPV,
    Recipe,
    cmw,
    collection,
    component,
    cose_key,
    raw_point,
)

GOOD = Recipe().token()


def tagged(tag: int, value: Any) -> bytes:
    return cbor2.dumps(cbor2.CBORTag(tag, value))


def envelope(*elements: Any) -> bytes:
    """A Realm half whose COSE_Sign1 array is ``elements``, in an otherwise good token."""
    return collection(Recipe().halves()[0], tagged(cose.TAG_SIGN1, list(elements)))


HEADER = cbor2.dumps({cose.HEADER_ALG: cose.ES384})


def test_all_claims_are_decoded() -> None:
    token = decode(GOOD)
    assert not token.cmw
    platform, realm = token.platform, token.realm
    assert platform.profile == claims.PLATFORM_PROFILE
    assert platform.implementation_id == b"\x01" * 32
    assert platform.instance_id == b"\x01" + b"\x02" * 32
    assert platform.config == b"\xcf" * 4
    assert (platform.lifecycle, platform.lifecycle_state) == (0x3003, Lifecycle.SECURED)
    assert platform.components[1] == SwComponent(b"\x0b" * 32, b"\x0c" * 32, "RMM", "1.0")
    assert (platform.hash_algo, platform.verification_service) == ("sha-256", None)
    assert (realm.challenge, realm.rpv, realm.rim, realm.rems) == (NONCE, RPV, RIM, REMS)
    assert (realm.profile, realm.hash_algo, realm.public_key_hash_algo) == (claims.REALM_PROFILE, "sha-256", "sha-256")
    assert (realm.public_key, realm.public_point) == (cose_key(), raw_point())
    assert len(realm.public_key) == 107
    assert realm.envelope.algorithm == cose.ES384
    assert len(realm.envelope.signature) == 96


def test_cmw_form_holds_the_same_token() -> None:
    plain, wrapped = decode(GOOD), decode(cmw(*Recipe().halves()))
    assert wrapped == CcaToken(plain.platform, plain.realm, cmw=True)


def test_legacy_realm_carries_the_raw_point() -> None:
    realm = decode(Recipe(legacy=True).token()).realm
    assert (realm.profile, realm.public_key, realm.public_point) == (None, raw_point(), raw_point())
    assert len(realm.public_key) == 97


@pytest.mark.parametrize("size", [32, 48, 64])
def test_digests_of_every_size(size: int) -> None:
    token = decode(
        Recipe(
            platform={claims.CHALLENGE: bytes(size)},
            realm={claims.REALM_RIM: bytes(size), claims.REALM_REMS: [bytes(size)] * 4},
        ).token()
    )
    assert {len(token.platform.challenge), len(token.realm.rim), *map(len, token.realm.rems)} == {size}


def test_unknown_and_optional_claims_are_tolerated() -> None:
    spurious: dict[Any, Any] = {999: [{"a": 1.5}], -7: None, "text": cbor2.CBORTag(1, 0)}
    service = {claims.PLATFORM_VERIFICATION_SERVICE: "https://verifier.example/"}
    bare = {2: b"\x0a" * 32, 5: b"\x0c" * 32}
    recipe = Recipe(platform={**spurious, **service, claims.PLATFORM_SW_COMPONENTS: [bare]}, realm=spurious)
    token = decode(recipe.token())
    assert token.platform.verification_service == "https://verifier.example/"
    assert token.platform.components == (SwComponent(b"\x0a" * 32, b"\x0c" * 32),)


def test_protected_header_is_kept_as_received() -> None:
    header = bytes.fromhex("a101390022")  # alg -35 in a longer encoding than needed
    token = decode(envelope(header, {}, cbor2.dumps(Recipe().realm_claims()), bytes(96)))
    assert token.realm.envelope.protected == header
    assert token.realm.envelope.algorithm == cose.ES384


PLATFORM, REALM = Recipe().halves()


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (b"", "token is not strict CBOR: 1 bytes expected"),
        (GOOD + b"\0", "1 bytes follow"),
        (GOOD[:-1], "bytes expected at offset"),
        (cbor2.dumps({1: 2}), r"token is a map of 1; expected tag 399 \(CCA token\) or 907 \(CMW\)"),
        (tagged(400, {}), "token is tag 400; expected tag 399"),
        (tagged(399, [PLATFORM, REALM]), "token holds an array of 2; expected a map with keys 44234"),
        (tagged(399, {44234: PLATFORM}), r"keys \['44234'\]; expected .* 44241 \(realm\)"),
        (tagged(399, {44234: PLATFORM, 44241: REALM, 1: 0}), "expected a map with keys"),
        (tagged(399, {44234: PLATFORM, 44241: [263, REALM]}), "realm entry of the collection is an array of 2"),
        (tagged(907, {44234: PLATFORM, 44241: REALM}), r"platform entry of the CMW .* expected \[263, byte string\]"),
        (tagged(907, {44234: [263, PLATFORM], 44241: [60, REALM]}), "realm entry of the CMW collection"),
        (tagged(907, {44234: [263, PLATFORM, 1], 44241: [263, REALM]}), "platform entry of the CMW collection"),
        (collection(PLATFORM[1:], REALM), r"platform token is an array of 4; expected tag 18"),
        (collection(PLATFORM, b"\xd1" + REALM[1:]), r"realm token is tag 17; expected tag 18 \(COSE_Sign1\)"),
        (collection(PLATFORM, REALM + b"\0"), "realm token is not strict CBOR: 1 bytes follow"),
        (envelope(HEADER, {}, b"\xa0"), "COSE_Sign1 is an array of 3; expected an array of protected"),
        (envelope(HEADER, {}, b"\xa0", b"", b""), "COSE_Sign1 is an array of 5"),
        (envelope({1: -35}, {}, b"\xa0", bytes(96)), "expected an array of protected header bytes"),
        (envelope(HEADER, {}, None, bytes(96)), "expected an array of protected header bytes"),
        (envelope(b"", {}, b"\xa0", bytes(96)), "protected header is not strict CBOR"),
        (envelope(b"\x80", {}, b"\xa0", bytes(96)), "protected header is an array of 0; expected a map"),
        (envelope(b"\xa0", {1: -35}, b"\xa0", bytes(96)), r"no integer algorithm \(label 1\)"),
        (envelope(cbor2.dumps({1: "ES384"}), {}, b"\xa0", bytes(96)), "no integer algorithm"),
        (envelope(cbor2.dumps({1: True}), {}, b"\xa0", bytes(96)), "no integer algorithm"),
        (envelope(HEADER, {1: -7}, b"\xa0", bytes(96)), "repeats a protected header parameter"),
        (envelope(cbor2.dumps({1: -35, 2: [99], 99: 0}), {}, b"\xa0", bytes(96)), "critical header parameters"),
    ],
)
def test_outer_form(token: bytes, message: str) -> None:
    with pytest.raises(TokenError, match=message) as caught:
        decode(token)
    assert caught.value.check == "outer-form"


def test_indefinite_and_duplicate_forms_are_refused() -> None:
    head = b"\xd9\x01\x8f"
    pair = cbor2.dumps(44234) + cbor2.dumps(PLATFORM)
    other = cbor2.dumps(44241) + cbor2.dumps(REALM)
    assert decode(head + b"\xa2" + pair + other) == decode(GOOD)
    for body in (b"\xbf" + pair + other + b"\xff", b"\xa3" + pair + pair + other):
        assert cbor2.loads(head + body).value.keys() == {44234, 44241}, "a lax decoder takes it"
        with pytest.raises(TokenError, match=r"indefinite length|duplicate map key"):
            decode(head + body)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({265: DROP}, r"platform token has no profile \(claim 265\)"),
        ({265: "tag:arm.com,2023:psa#1"}, "platform profile is 'tag:arm.com,2023:psa#1'; expected tag:arm.com"),
        ({265: b"x"}, "profile .* is a byte string of 1 bytes; expected text"),
        ({10: DROP}, r"no challenge \(claim 10\)"),
        ({10: bytes(31)}, "challenge .* has 31 bytes; expected a byte string of 32 or 48 or 64"),
        ({10: [bytes(32)]}, "challenge .* is an array of 1; expected a byte string"),
        ({2396: DROP}, "no implementation-id"),
        ({2396: bytes(33)}, "implementation-id .* has 33 bytes"),
        ({256: DROP}, "no instance-id"),
        ({256: bytes(33)}, "instance-id starts with 0x00; expected 0x01"),
        ({256: b"\x01" * 32}, "instance-id .* has 32 bytes"),
        ({2401: DROP}, "no config"),
        ({2401: "text"}, "config .* is text; expected a byte string"),
        ({2395: DROP}, "no lifecycle"),
        ({2395: 0x7000}, "lifecycle is 0x7000; expected 0xSSnn"),
        ({2395: 0x3800}, "lifecycle is 0x3800"),
        ({2395: -1}, "lifecycle is -0x1"),
        ({2395: 0x13000}, "lifecycle is 0x13000"),
        ({2395: True}, "lifecycle is a boolean"),
        ({2395: "secured"}, "lifecycle is text"),
        ({2402: DROP}, "no hash-algo-id"),
        ({2402: -16}, "hash-algo-id .* is the integer -16; expected text"),
        ({2400: 1}, "verification-service .* is the integer 1; expected text"),
        ({2399: DROP}, "no sw-components"),
        ({2399: []}, "sw-components are an array of 0; expected an array of at least one"),
        ({2399: {}}, "sw-components are a map of 0"),
        ({2399: [component("RMM", 1), 5]}, "sw-component 1 is the integer 5; expected a map"),
        ({2399: [component("RMM", 1, key2=DROP)]}, r"sw-component 0 has no measurement \(key 2\)"),
        ({2399: [component("RMM", 1, key2=bytes(20))]}, "measurement has 20 bytes"),
        ({2399: [component("RMM", 1, key5=DROP)]}, "no signer id"),
        ({2399: [component("RMM", 1, key5=None)]}, "signer id is null"),
        ({2399: [component("RMM", 1, key1=7)]}, "type is the integer 7; expected text"),
        ({2399: [component("RMM", 1, key4=1.5)]}, "version is a float or simple value"),
        ({2399: [component("RMM", 1, key6=cbor2.CBORTag(1, 1))]}, "hash algorithm is tag 1"),
    ],
)
def test_platform_claims(changes: dict[Any, Any], message: str) -> None:
    with pytest.raises(TokenError, match=message) as caught:
        decode(Recipe(platform=changes).token())
    assert caught.value.check == "platform-claims"


X, Y = raw_point()[1:49], raw_point()[49:]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({10: DROP}, r"realm token has no challenge \(claim 10\)"),
        ({10: bytes(32)}, "challenge .* has 32 bytes; expected a byte string of 64"),
        ({265: "tag:arm.com,2099:realm#9"}, "realm profile is 'tag:arm.com,2099:realm#9'; expected .* or none"),
        ({265: 1}, "profile .* expected text"),
        ({44235: DROP}, "no RPV"),
        ({44235: bytes(63)}, "RPV .* has 63 bytes"),
        ({44236: DROP}, "no hash algorithm"),
        ({44236: 0}, "hash algorithm .* is the integer 0"),
        ({44238: DROP}, "no RIM"),
        ({44238: bytes(33)}, "RIM .* has 33 bytes"),
        ({44239: DROP}, "no REMs"),
        ({44239: [bytes(32)] * 3}, "REMs are an array of 3; expected an array of exactly 4"),
        ({44239: [bytes(32)] * 5}, "REMs are an array of 5"),
        ({44239: [bytes(32)] * 3 + [b""]}, "REM3 has 0 bytes"),
        ({44239: bytes(128)}, "REMs are a byte string of 128 bytes"),
        ({44240: DROP}, "no RAK hash algorithm"),
        ({44237: DROP}, "no RAK public key"),
        ({44237: cbor2.loads(cose_key())}, "RAK public key .* is a map of 4; expected a byte string"),
        ({44237: raw_point()}, r"RAK public key \(a COSE_Key under this realm profile\) is not strict CBOR"),
        ({44237: b"\x80"}, "RAK public key is an array of 0; expected a COSE_Key map"),
        ({44237: cbor2.dumps({1: 1, -1: 2, -2: X, -3: Y})}, r"RAK key type \(label 1\) is 1; expected 2"),
        ({44237: cbor2.dumps({1: 2.0, -1: 2, -2: X, -3: Y})}, "RAK key type .* is 2.0; expected 2"),
        ({44237: cbor2.dumps({1: 2, -1: 1, -2: X, -3: Y})}, r"RAK curve \(label -1\) is 1; expected 2"),
        ({44237: cbor2.dumps({1: 2, -1: 2, -2: X[1:], -3: Y})}, "RAK coordinate x has 47 bytes"),
        ({44237: cbor2.dumps({1: 2, -1: 2, -2: X, -3: True})}, "RAK coordinate y is a boolean"),
        ({44237: cbor2.dumps({1: 2, -1: 2, -2: X})}, "RAK coordinate y is null"),
        ({44237: cose_key() + b"\0"}, "1 bytes follow"),
        ({265: DROP, 44237: cose_key()}, "RAK public key of 107 bytes is not an uncompressed P-384 point"),
        ({265: DROP, 44237: b"\x02" + X}, "RAK public key of 49 bytes"),
        ({265: DROP, 44237: b"\x06" + X + Y}, "97 bytes that start with 04"),
    ],
)
def test_realm_claims(changes: dict[Any, Any], message: str) -> None:
    with pytest.raises(TokenError, match=message) as caught:
        decode(Recipe(realm=changes).token())
    assert caught.value.check == "realm-claims"


@pytest.mark.parametrize("payload", [b"", b"\x80", b"\xa2\x01\x02\x01\x02", b"\xff"])
def test_payload_must_be_a_strict_map(payload: bytes) -> None:
    with pytest.raises(TokenError, match="realm token's payload") as caught:
        decode(envelope(HEADER, {}, payload, bytes(96)))
    assert caught.value.check == "realm-claims"


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_give_a_token_error(data: bytes) -> None:
    with pytest.raises(TokenError):
        decode(data)


@settings(max_examples=300)
@given(
    st.integers(0, len(GOOD) - 1),
    st.binary(max_size=6),
    st.integers(0, 6),
    st.sampled_from([GOOD, cmw(PLATFORM, REALM)]),
)
def test_mutated_tokens_decode_or_give_a_token_error(at: int, patch: bytes, cut: int, token: bytes) -> None:
    try:
        decoded = decode(token[:at] + patch + token[at + cut :])
    except TokenError:
        return
    assert "CCA attestation token" in describe(decoded)


def test_description_shows_every_claim_and_escapes_hostile_text() -> None:
    hostile = component("\x1b[2J\nverified: yes", 0x0A)
    text = describe(decode(Recipe(platform={claims.PLATFORM_SW_COMPONENTS: [hostile], 2400: "u" * 5000}).token()))
    assert "\x1b" not in text
    assert "\nverified" not in text
    for value in (RIM.hex(), RPV.hex(), NONCE.hex(), *(rem.hex() for rem in REMS), "secured (0x3003)", "'sha-256'"):
        assert value in text
    assert max(map(len, text.splitlines())) < 300
