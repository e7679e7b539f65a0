import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realmkit.arch.errors import RealmkitError
from realmkit.attestation import Expectations, ExpectedComponent, Lifecycle, load_expectations, save_expectations
from realmkit.attestation.reference import AFFIRMING_LIFECYCLES, format_expectations, parse_expectations

DIGESTS = st.sampled_from([32, 48, 64]).flatmap(lambda size: st.binary(min_size=size, max_size=size))
EXPECTATIONS = st.builds(
    Expectations,
    rim=st.none() | DIGESTS,
    rems=st.none() | st.tuples(*[st.none() | DIGESTS] * 4),
    rpv=st.none() | st.binary(min_size=64, max_size=64),
    hash_algo=st.sampled_from([None, "sha-256", "sha-512"]),
    config=st.none() | st.binary(max_size=16),
    components=st.none()
    | st.lists(
        st.builds(ExpectedComponent, DIGESTS, st.none() | st.text(max_size=8), st.none() | st.text(max_size=8)),
        max_size=3,
    ).map(tuple),
    lifecycles=st.frozensets(st.sampled_from(list(Lifecycle))),
)


@settings(max_examples=60)
@given(EXPECTATIONS)
def test_round_trip(expected: Expectations) -> None:
    assert parse_expectations(format_expectations(expected).encode()) == expected


def test_file(tmp_path: Path) -> None:
    path = tmp_path / "reference.json"
    expected = Expectations(rim=b"\x11" * 32, components=(ExpectedComponent(b"\x0a" * 32, "RMM"),))
    save_expectations(expected, path)
    assert load_expectations(path) == expected
    assert json.loads(path.read_text()) == {
        "schema": 1,
        "realm": {"rim": "11" * 32},
        "platform": {
            "lifecycles": ["secured", "non_cca_platform_debug"],
            "components": [{"measurement": "0a" * 32, "name": "RMM"}],
        },
    }


def test_absent_members_are_not_appraised() -> None:
    assert parse_expectations(b'{"schema": 1}') == Expectations()
    assert Expectations().lifecycles == AFFIRMING_LIFECYCLES


def document(realm: Any = None, platform: Any = None, **more: Any) -> bytes:
    return json.dumps({"schema": 1, "realm": realm or {}, "platform": platform or {}, **more}).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"schema": 1, "schema": 1}', "duplicate member"),
        (b"[]", "expected an object with members schema, realm, platform"),
        (b"{}", "schema None; expected 1"),
        (document(schema=2), "schema 2; expected 1"),
        (document(plattform={}), "unknown member 'plattform'"),
        (document(realm={"rims": []}), "realm: unknown member 'rims'; expected rim, rems"),
        (document(realm=["rim"]), "realm: expected an object"),
        (document(realm={"rim": "xyz"}), "realm.rim: expected hexadecimal"),
        (document(realm={"rim": 5}), "realm.rim: expected hexadecimal"),
        (document(realm={"rim": "00"}), "expected rim has 1 bytes; it has 32 or 48 or 64"),
        (document(realm={"rems": "00"}), "realm.rems: expected an array"),
        (document(realm={"rems": [None] * 3}), "a Realm has 4, got 3"),
        (document(realm={"rems": ["00", None, None, None]}), "expected rem has 1 bytes"),
        (document(realm={"rpv": "00" * 32}), "expected rpv has 32 bytes; it has 64"),
        (document(realm={"hash_algo": 1}), "realm.hash_algo: expected text"),
        (document(platform={"lifecycles": ["safe"]}), "lifecycle 'safe' is unknown; expected one of unknown, assembly"),
        (document(platform={"lifecycles": [["secured"]]}), "is unknown"),
        (document(platform={"components": [{"name": "RMM"}]}), "a component has no measurement"),
        (document(platform={"components": [{"measurement": "00"}]}), "component measurement has 1 bytes"),
        (document(platform={"components": [7]}), "component: expected an object"),
        (document(platform={"components": [{"measurement": "00" * 32, "signer": ""}]}), "unknown member 'signer'"),
        (b" " * (1 << 20) + b"{}", "more than 1048576 bytes"),
    ],
)
def test_bad_files_are_named(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "reference.json"
    path.write_bytes(content)
    with pytest.raises(RealmkitError, match=message) as caught:
        load_expectations(path)
    assert "reference.json" in str(caught.value)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(RealmkitError, match="cannot read the reference values"):
        load_expectations(tmp_path / "absent.json")
    with pytest.raises(RealmkitError, match="cannot write the reference values"):
        save_expectations(Expectations(), tmp_path)
