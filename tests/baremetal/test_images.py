import gzip
from pathlib import Path

import pytest

from realmkit.arch.errors import RealmkitError
from realmkit.baremetal import Configuration, parse_placement, place
from tests.baremetal.kit import CODE, EXAMPLE, POWER_OFF, flat


@pytest.mark.parametrize(
    ("text", "path", "address"),
    [
        ("a.bin@0x88000000", "a.bin", 0x8800_0000),
        ("a.bin@100", "a.bin", 100),
        ("a.elf", "a.elf", None),
        ("a@b/c.elf", "a@b/c.elf", None),
        ("a@b@0x80", "a@b", 0x80),
        ("@0x80", "@0x80", None),
    ],
)
def test_placements(text: str, path: str, address: int | None) -> None:
    assert parse_placement(text) == (Path(path), address)


def test_negative_address_is_refused() -> None:
    with pytest.raises(RealmkitError, match="negative"):
        parse_placement("a.bin@-4")


def test_a_flat_image_is_entered_where_it_lies() -> None:
    image = flat(POWER_OFF)
    assert image.entry == CODE
    assert image.occupies.base == CODE
    assert image.occupies.size == 4 * len(POWER_OFF)


def test_a_flat_image_needs_an_address() -> None:
    with pytest.raises(RealmkitError, match=r"say where it goes, as in x@0x"):
        place(b"1234", "x", None)


def test_code_is_aligned() -> None:
    with pytest.raises(RealmkitError, match="aligned to 4"):
        place(b"1234", "x", CODE + 2)


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(RealmkitError, match="is empty"):
        place(b"", "x", CODE)


def test_gzip_is_unpacked() -> None:
    content = EXAMPLE.read_bytes()
    assert place(gzip.compress(content), "x", None) == place(content, "x", None)


def test_damaged_gzip_is_refused() -> None:
    with pytest.raises(RealmkitError, match="not a complete gzip file"):
        place(gzip.compress(EXAMPLE.read_bytes())[:-100], "x", None)


def test_an_elf_file_moves_by_pages() -> None:
    content = EXAMPLE.read_bytes()
    image = place(content, "x", None)
    moved = place(content, "x", image.segments[0][0] + 0x10_0000)
    assert moved.entry == image.entry + 0x10_0000
    assert moved.segments[0][1] == image.segments[0][1]
    with pytest.raises(RealmkitError, match="multiples of 4096"):
        place(content, "x", image.segments[0][0] + 4)


@pytest.mark.parametrize("length", [8, 64, 200])
def test_truncated_elf_files_are_refused(length: int) -> None:
    with pytest.raises(RealmkitError):
        place(EXAMPLE.read_bytes()[:length], "x", None)


@pytest.mark.parametrize("address", [0x0, 0x400_0000, 0x7FFF_FFFC, 0xFDF8_0000, 0x1_0000_0000, 1 << 60])
def test_images_outside_nonsecure_memory_are_refused(address: int) -> None:
    with pytest.raises(RealmkitError, match="not inside Non-secure memory"):
        Configuration((flat(POWER_OFF, address),))


def test_overlapping_images_are_refused() -> None:
    with pytest.raises(RealmkitError, match="overlap"):
        Configuration((flat(POWER_OFF), flat(POWER_OFF, CODE + 4)))


@pytest.mark.parametrize("entry", [CODE + 2, 0x1000])
def test_entry_points_that_cannot_be_are_refused(entry: int) -> None:
    with pytest.raises(RealmkitError, match="entry point"):
        Configuration((flat(POWER_OFF),), entry=entry)


@pytest.mark.parametrize("cpus", [0, 9])
def test_numbers_of_pes(cpus: int) -> None:
    with pytest.raises(RealmkitError, match="PEs are not possible"):
        Configuration((flat(POWER_OFF),), cpus=cpus)
