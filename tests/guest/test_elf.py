import pytest
from hypothesis import given
from hypothesis import strategies as st

from realmkit.arch.errors import RealmkitError
from realmkit.guest.elf import modinfo, parse
from tests.guest.kit import make_elf, make_module


def test_modinfo_is_the_first_value_of_each_key() -> None:
    module = make_elf({".modinfo": b"depends=a,b\0alias=x\0alias=y\0no separator\0empty=\0"})
    assert modinfo(module, "m") == {"depends": "a,b", "alias": "x", "empty": ""}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "m is not an ELF file"),
        (b"\x7fELF", "m is truncated: its ELF header"),
        (make_module()[:-1], "m is truncated: its section headers"),
        (make_elf({".modinfo": b"a=b"}, machine=62), "another architecture"),
        (make_elf({".modinfo": b"a=b"}, kind=2), "m is not a kernel module"),
        (make_elf({".text": b"a=b"}), "m is not a kernel module"),
    ],
)
def test_what_is_no_module_is_named(content: bytes, message: str) -> None:
    with pytest.raises(RealmkitError, match=message):
        modinfo(content, "m")


def test_a_program_with_an_interpreter_is_told_from_one_without() -> None:
    assert parse(make_elf(kind=2, segments=(6, 3, 1)), "p").interpreted
    assert not parse(make_elf(kind=2, segments=(1,)), "p").interpreted


@given(st.integers(0, len(make_module()) - 1), st.integers(0, 255))
def test_a_damaged_module_parses_or_raises_the_one_error(position: int, value: int) -> None:
    content = bytearray(make_module())
    content[position] = value
    try:
        modinfo(bytes(content), "m")
    except RealmkitError:
        return


@given(st.integers(0, len(make_module()) - 1))
def test_a_truncated_module_is_refused(size: int) -> None:
    with pytest.raises(RealmkitError, match=r"truncated|not an ELF file"):
        modinfo(make_module()[:size], "m")
