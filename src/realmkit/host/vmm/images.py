"""Guest images: ELF, flat binaries and Linux ``Image`` files, raw or gzip.

Whatever the file holds, the result is a :class:`GuestImage` or a RealmkitError that says what is wrong.
"""

import gzip
import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Final

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from realmkit.arch.errors import RealmkitError
from realmkit.arch.pas import GRANULE_SIZE

FLAT_OFFSET: Final = 0x8_0000
"""A flat image is loaded, and entered, this far into RAM."""
MAX_IMAGE: Final = 1 << 30
_LINUX_MAGIC: Final = b"ARM\x64"
_LINUX_HEADER: Final = struct.Struct("<IIQQQ")
_PAGE_SIZES: Final = (0, 4 << 10, 16 << 10, 64 << 10)
"""Bits 1 and 2 of the header's flags."""
_ZBOOT_MAGIC: Final = b"zimg"
_GZIP: Final = b"\x1f\x8b"
ELF_MAGIC: Final = b"\x7fELF"
_BLOCK: Final = 2 << 20


@dataclass(frozen=True, slots=True)
class GuestImage:
    """An image at its guest addresses: ``segments`` of (address, bytes), and the entry point.

    ``top`` is the first address after what the image occupies, zero-initialised memory included. ``page_size`` is that
    of a Linux kernel, 0 where the image does not say.
    """

    kind: str
    entry: int
    segments: tuple[tuple[int, bytes], ...]
    top: int
    page_size: int = 0

    def pages(self) -> dict[int, bytes]:
        """Contents by page address, zero-padded, ascending."""
        pages: dict[int, bytearray] = {}
        for address, content in self.segments:
            position = 0
            while position < len(content):
                page, offset = (address + position) & ~(GRANULE_SIZE - 1), (address + position) % GRANULE_SIZE
                piece = content[position : position + GRANULE_SIZE - offset]
                pages.setdefault(page, bytearray(GRANULE_SIZE))[offset : offset + len(piece)] = piece
                position += len(piece)
        return {page: bytes(pages[page]) for page in sorted(pages)}


def read_file(path: Path, what: str = "image") -> bytes:
    """Contents of a file, with an error that names it. Devices and pipes are refused: they need not end."""
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise RealmkitError(f"cannot read {what} {path}: it is not a regular file")
        if path.stat().st_size > MAX_IMAGE:
            raise RealmkitError(f"{what} {path} is larger than {MAX_IMAGE >> 20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise RealmkitError(f"cannot read {what} {path}: {error.strerror}") from error


def load(content: bytes, name: str, ram_base: int, ram_top: int) -> GuestImage:
    """Recognise and place an image inside RAM [``ram_base``, ``ram_top``)."""
    if is_gzip(content):
        content = gunzip(content, name)
    if not content:
        raise RealmkitError(f"{name} is empty")
    if content[4:8] == _ZBOOT_MAGIC and content[:2] == b"MZ":
        raise RealmkitError(f"{name} is an EFI zboot image: give the Image (or Image.gz) of the same kernel instead")
    if content[:4] == ELF_MAGIC:
        image = load_elf(content, name)
    elif content[56:60] == _LINUX_MAGIC:
        image = _load_linux(content, name, ram_base)
    else:
        entry = ram_base + FLAT_OFFSET
        image = GuestImage("flat", entry, ((entry, content),), entry + len(content))
    for address, data in image.segments:
        if address < ram_base or address + len(data) > ram_top:
            raise RealmkitError(
                f"{name} does not fit: it occupies [{address:#x}, {address + len(data):#x}), guest RAM is "
                f"[{ram_base:#x}, {ram_top:#x}); use more memory or link it elsewhere"
            )
    if image.top > ram_top:
        raise RealmkitError(
            f"{name} needs memory up to {image.top:#x}, guest RAM ends at {ram_top:#x}: use more memory"
        )
    return image


def is_gzip(content: bytes) -> bool:
    """Whether a file is compressed."""
    return content[:2] == _GZIP


def gunzip(content: bytes, name: str) -> bytes:
    """Contents of a gzip file that is called ``name`` in errors."""
    try:
        with gzip.GzipFile(fileobj=BytesIO(content)) as stream:
            unpacked = stream.read(MAX_IMAGE + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise RealmkitError(f"{name} is not a complete gzip file: {error}") from error
    if len(unpacked) > MAX_IMAGE:
        raise RealmkitError(f"{name} unpacks to more than {MAX_IMAGE >> 20} MiB")
    return unpacked


def load_elf(content: bytes, name: str) -> GuestImage:
    """A linked AArch64 program, at the physical addresses of its segments."""
    try:
        elf = ELFFile(BytesIO(content))
        header = elf.header
        if elf.elfclass != 64 or not elf.little_endian or header["e_machine"] != "EM_AARCH64":
            raise RealmkitError(
                f"{name} is an ELF file for {elf.get_machine_arch()}, {elf.elfclass}-bit, "
                f"{'little' if elf.little_endian else 'big'}-endian: a little-endian AArch64 one is needed"
            )
        if header["e_type"] != "ET_EXEC":
            raise RealmkitError(f"{name} is of ELF type {header['e_type']}: a linked program (ET_EXEC) is needed")
        segments, top = [], 0
        for segment in elf.iter_segments():
            if segment["p_type"] != "PT_LOAD" or not segment["p_memsz"]:
                continue
            data = segment.data()
            if len(data) != segment["p_filesz"] or segment["p_filesz"] > segment["p_memsz"]:
                raise RealmkitError(f"{name} is truncated: the segment at {segment['p_paddr']:#x} is not complete")
            top = max(top, segment["p_paddr"] + segment["p_memsz"])
            if data:
                segments.append((segment["p_paddr"], data))
    except RealmkitError:
        raise
    except Exception as error:  # pyelftools raises many kinds for malformed files
        detail = str(error) or type(error).__name__
        kind = "not a readable ELF file" if isinstance(error, ELFError) else "a malformed ELF file"
        raise RealmkitError(f"{name} is {kind}: {detail}") from error
    if not segments:
        raise RealmkitError(f"{name} has no segments to load")
    segments.sort()
    for (low, data), (high, _) in pairwise(segments):
        if low + len(data) > high:
            raise RealmkitError(f"{name} has overlapping segments at {high:#x}")
    entry = header["e_entry"]
    if not any(address <= entry < address + len(data) for address, data in segments):
        raise RealmkitError(f"{name} has its entry point {entry:#x} outside its segments")
    return GuestImage("elf", entry, tuple(segments), top)


def _load_linux(content: bytes, name: str, ram_base: int) -> GuestImage:
    _, _, text_offset, image_size, flags = _LINUX_HEADER.unpack_from(content)
    if flags & 1:
        raise RealmkitError(f"{name} is a big-endian Linux kernel: a little-endian one is needed")
    if text_offset >= _BLOCK or text_offset % GRANULE_SIZE:
        raise RealmkitError(f"{name} has a Linux header with a bad text offset of {text_offset:#x}")
    entry = ram_base + text_offset
    top = entry + max(image_size, len(content))
    return GuestImage("linux", entry, ((entry, content),), top, _PAGE_SIZES[flags >> 1 & 3])
