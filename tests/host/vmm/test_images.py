"""Guest images: ELF, flat, Linux; raw or gzip; well-formed or not."""

import gzip
import struct
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from realmkit.arch.errors import RealmkitError
from realmkit.arch.pas import GRANULE_SIZE
from realmkit.host.vmm import images
from realmkit.host.vmm.images import FLAT_OFFSET, GuestImage, load, read_file
from realmkit.host.vmm.layout import RAM_BASE
from realmkit.realm import embedded_payload

TOP = RAM_BASE + (64 << 20)
LINUX = struct.Struct("<IIQQQ24xII")


def elf(
    segments: tuple[tuple[int, bytes, int], ...] = ((RAM_BASE, b"\1\2\3\4", 8),),
    entry: int = RAM_BASE,
    kind: int = 2,
    machine: int = 183,
    ident: bytes = b"\x7fELF\2\1\1",
) -> bytes:
    """An ELF file of (physical address, contents, size in memory) segments."""
    offset = 64 + 56 * len(segments)
    headers, body = b"", b""
    for address, data, size in segments:
        headers += struct.pack("<IIQQQQQQ", 1, 5, offset + len(body), address, address, len(data), size, 4)
        body += data
    header = struct.pack("<16sHHIQQQIHHHHHH", ident, kind, machine, 1, entry, 64, 0, 0, 64, 56, len(segments), 64, 0, 0)
    return header + headers + body


def linux(text_offset: int = 0, image_size: int = 0x20_0000, flags: int = 0b1010, size: int = 0x1000) -> bytes:
    header = LINUX.pack(0x14000010, 0, text_offset, image_size, flags, 0x644D_5241, 0)
    return header.ljust(size, b"\x5a")


def test_flat() -> None:
    image = load(b"\1\2\3\4", "x", RAM_BASE, TOP)
    assert (image.kind, image.entry, image.top) == ("flat", RAM_BASE + FLAT_OFFSET, RAM_BASE + FLAT_OFFSET + 4)
    assert image.pages() == {RAM_BASE + FLAT_OFFSET: b"\1\2\3\4".ljust(GRANULE_SIZE, b"\0")}


def test_elf_segments_and_zero_initialised_memory() -> None:
    image = load(
        elf(((RAM_BASE + 0x2000, b"bb", 0x3000), (RAM_BASE + 0xFFE, b"aaaa", 4)), RAM_BASE + 0x1000), "x", RAM_BASE, TOP
    )
    assert (image.kind, image.entry, image.top) == ("elf", RAM_BASE + 0x1000, RAM_BASE + 0x5000)
    pages = image.pages()
    assert list(pages) == [RAM_BASE, RAM_BASE + 0x1000, RAM_BASE + 0x2000]
    assert pages[RAM_BASE][-2:] == b"aa"
    assert pages[RAM_BASE + 0x1000][:3] == b"aa\0"


@pytest.mark.parametrize(("offset", "size"), [(0, 0x20_0000), (0x8_0000, 0x40_0000)])
def test_linux(offset: int, size: int) -> None:
    image = load(linux(offset, size), "x", RAM_BASE, TOP)
    assert (image.kind, image.entry, image.top) == ("linux", RAM_BASE + offset, RAM_BASE + offset + size)


@pytest.mark.parametrize("content", [b"\1\2\3\4", elf(), linux(), embedded_payload()])
def test_gzip_is_transparent(content: bytes) -> None:
    assert load(gzip.compress(content, mtime=0), "x", RAM_BASE, TOP) == load(content, "x", RAM_BASE, TOP)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (gzip.compress(b"", mtime=0), "empty"),
        (gzip.compress(b"x" * 100, mtime=0)[:-9], "not a complete gzip file"),
        (b"\x1f\x8b" + bytes(40), "not a complete gzip file"),
        (b"\x7fELF", "ELF file"),
        (elf()[:70], "ELF file"),
        (elf(machine=62), "AArch64"),
        (elf(ident=b"\x7fELF\1\1\1"), "ELF file"),
        (elf(ident=b"\x7fELF\2\2\1"), "ELF"),
        (elf(kind=3), "ET_EXEC"),
        (elf(()), "no segments"),
        (elf(entry=RAM_BASE + 100), "entry point"),
        (elf(entry=0), "entry point"),
        (elf(((RAM_BASE, b"aaaa", 2),)), "not complete"),
        (elf(((RAM_BASE, b"aaaa", 4), (RAM_BASE + 2, b"bb", 2))), "overlapping"),
        (elf(((0x1000, b"aaaa", 4),), 0x1000), "does not fit"),
        (elf(((RAM_BASE, b"aaaa", 1 << 40),)), "needs memory up to"),
        (elf(((TOP - 2, b"aaaa", 4),), TOP - 2), "does not fit"),
        (linux(flags=1), "big-endian"),
        (linux(text_offset=0x123), "text offset"),
        (linux(text_offset=0x20_0000), "text offset"),
        (linux(image_size=1 << 40), "needs memory up to"),
        (b"MZ\0\0zimg".ljust(100, b"\0"), "EFI zboot"),
    ],
)
def test_what_is_wrong_is_named(content: bytes, message: str) -> None:
    with pytest.raises(RealmkitError, match=message) as error:
        load(content, "guest.bin", RAM_BASE, TOP)
    assert "guest.bin" in str(error.value)


def checked(content: bytes) -> None:
    """Only an image inside RAM, or a RealmkitError, comes out of any file."""
    try:
        image = load(content, "x", RAM_BASE, TOP)
    except RealmkitError:
        return
    assert isinstance(image, GuestImage)
    assert all(RAM_BASE <= page < TOP and len(data) == GRANULE_SIZE for page, data in image.pages().items())
    assert RAM_BASE <= image.entry < TOP
    assert image.top <= TOP


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", b"\x7fELF", b"\x7fELF\2\1\1", b"\x1f\x8b\x08", b"MZ"]))
@example(b"", b"\x7fELF")
def test_arbitrary_files(content: bytes, magic: bytes) -> None:
    checked(magic + content)


@settings(max_examples=250, deadline=None)
@given(
    st.sampled_from([elf(), elf(((RAM_BASE, b"aaaa", 8), (RAM_BASE + 0x1000, b"b" * 64, 64))), linux()]),
    st.lists(st.tuples(st.integers(0, 180), st.integers(0, 255)), min_size=1, max_size=6),
    st.integers(0, 200),
)
def test_damaged_files(content: bytes, damage: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(content)
    for position, value in damage:
        data[position % len(data)] = value
    checked(bytes(data[: len(data) - cut]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 255)), max_size=4), st.integers(0, 40))
def test_damaged_gzip(damage: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(gzip.compress(elf(), mtime=0))
    for position, value in damage:
        data[position % len(data)] = value
    checked(bytes(data[: len(data) - cut]))


def test_a_gzip_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_IMAGE", 2 << 20)
    bomb = gzip.compress(bytes(1 << 20))
    assert load(bomb * 2, "x", RAM_BASE, TOP).kind == "flat"
    with pytest.raises(RealmkitError, match="unpacks to more than 2 MiB"):
        load(bomb * 3, "x", RAM_BASE, TOP)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(RealmkitError, match=r"cannot read kernel .*missing.*No such file"):
        read_file(tmp_path / "missing", "kernel")
    with pytest.raises(RealmkitError, match="cannot read"):
        read_file(tmp_path)
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate((1 << 30) + 1)
    with pytest.raises(RealmkitError, match="larger than 1024 MiB"):
        read_file(huge)
    good = tmp_path / "good"
    good.write_bytes(b"abc")
    assert read_file(good) == b"abc"
