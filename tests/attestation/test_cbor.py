import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realmkit.attestation.cbor import MAX_DEPTH, MAX_SIZE, CborError, Simple, Tag, Value, decode

SCALARS = (
    st.integers(-(2**64), 2**64 - 1)
    | st.binary(max_size=40)
    | st.text(max_size=20)
    | st.booleans()
    | st.none()
    | st.floats(allow_nan=False)
)
KEYS = st.integers(-(2**32), 2**32) | st.text(max_size=8)
VALUES: st.SearchStrategy[Value] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


@settings(max_examples=150)
@given(VALUES)
def test_reads_what_another_encoder_writes(value: Value) -> None:
    assert decode(cbor2.dumps(value)) == value


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_any_bytes_decode_or_raise_the_one_error(data: bytes) -> None:
    try:
        value = decode(data)
    except CborError:
        return
    assert isinstance(value, int | bytes | str | float | list | dict | Tag | Simple) or value is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "1 bytes expected at offset 0"),
        ("0000", "1 bytes follow"),
        ("18", "1 bytes expected at offset 1"),
        ("43aabb", "3 bytes expected at offset 1, 2 are left"),
        ("1c", "reserved encoding at offset 0"),
        ("f800", "reserved encoding at offset 0"),
        ("fc", "reserved encoding at offset 0"),
        ("5f4101ff", "indefinite length at offset 0"),
        ("7f6161ff", "indefinite length at offset 0"),
        ("9f01ff", "indefinite length at offset 0"),
        ("bf0102ff", "indefinite length at offset 0"),
        ("ff", "indefinite length at offset 0"),
        ("61ff", "not UTF-8"),
        ("a201010102", "duplicate map key 1 at offset 3"),
        ("a20101180102", "duplicate map key 1 at offset 3"),
        ("a2616101616102", "duplicate map key 'a'"),
        ("a1f501", "neither an integer nor text"),
        ("a1f93c0001", "neither an integer nor text"),
        ("a1410101", "neither an integer nor text"),
        ("a18001", "neither an integer nor text"),
        ("9bffffffffffffffff", "elements announced at offset 0, 0 bytes are left"),
        ("bb7fffffffffffffff00", "elements announced at offset 0, 1 bytes are left"),
        ("5bffffffffffffffff", "are left"),
    ],
)
def test_refuses_what_could_be_read_two_ways(data: str, message: str) -> None:
    with pytest.raises(CborError, match=message):
        decode(bytes.fromhex(data))


def test_depth_and_size_are_bounded() -> None:
    assert decode(b"\x81" * MAX_DEPTH + b"\x00") == cbor2.loads(b"\x81" * MAX_DEPTH + b"\x00")
    with pytest.raises(CborError, match="levels of nesting"):
        decode(b"\x81" * (MAX_DEPTH + 1) + b"\x00")
    with pytest.raises(CborError, match="levels of nesting"):
        decode(b"\xc1" * (MAX_DEPTH + 1) + b"\x00")
    with pytest.raises(CborError, match="at most"):
        decode(bytes(MAX_SIZE + 1))


def test_tags_and_simple_values_stay_data() -> None:
    assert decode(bytes.fromhex("c11903e8")) == Tag(1, 1000)
    assert decode(bytes.fromhex("f7")) == Simple(23)
    assert decode(bytes.fromhex("f8ff")) == Simple(255)
    assert decode(bytes.fromhex("83f93c00f4f6")) == [1.0, False, None]
