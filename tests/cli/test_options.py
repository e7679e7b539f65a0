"""Values of options."""

import pytest

from realmkit.arch.errors import RealmkitError
from realmkit.cli import options


@pytest.mark.parametrize(
    ("text", "value"),
    [("64M", 64 << 20), ("64m", 64 << 20), ("2G", 2 << 30), ("512K", 512 << 10), ("4096B", 4096), ("256", 256 << 20)],
)
def test_sizes(text: str, value: int) -> None:
    assert options.size(text) == value


@pytest.mark.parametrize("text", ["", "M", "-1M", "1.5G", "64MB", "0x10M", "six"])
def test_texts_that_are_no_sizes(text: str) -> None:
    with pytest.raises(RealmkitError, match="not a size"):
        options.size(text)


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("0x80000000", 0x8000_0000), ("10", 10)])
def test_numbers(text: str, value: int) -> None:
    assert options.number(text) == value


@pytest.mark.parametrize("text", ["", "ten", "-1", "0xg"])
def test_texts_that_are_no_numbers(text: str) -> None:
    with pytest.raises(RealmkitError):
        options.number(text)


def test_challenge_accepts_32_to_64_bytes() -> None:
    assert options.challenge("ab" * 32) == b"\xab" * 32
    assert options.challenge("0x" + "ab" * 64) == b"\xab" * 64


@pytest.mark.parametrize("text", ["ab" * 31, "ab" * 65, "a" * 65, "zz" * 32])
def test_other_challenges_are_refused(text: str) -> None:
    with pytest.raises(RealmkitError):
        options.challenge(text)


def test_personalization_is_padded() -> None:
    assert options.personalization("hello") == b"hello" + bytes(59)
