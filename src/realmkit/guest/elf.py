"""The little of ELF that the guest's files are checked for: machine, kind, interpreter, and ``.modinfo``."""

import struct
from dataclasses import dataclass
from typing import Final

from realmkit.arch.errors import RealmkitError

_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_SEGMENT: Final = struct.Struct("<IIQQQQQQ")
_AARCH64: Final = 183
_RELOCATABLE: Final = 1
_PT_INTERP: Final = 3


@dataclass(frozen=True, slots=True)
class ElfFile:
    """An AArch64 ELF file. ``sections`` are (name, content) of what is in the file; ``interpreted``: has PT_INTERP."""

    relocatable: bool
    interpreted: bool
    sections: dict[str, bytes]


def parse(content: bytes, what: str) -> ElfFile:
    """Read an ELF file; RealmkitError where it is none, for another machine, or truncated."""
    if content[:4] != b"\x7fELF":
        raise RealmkitError(f"{what} is not an ELF file")
    if len(content) < _HEADER.size:
        raise RealmkitError(f"{what} is truncated: its ELF header is not complete")
    header = _HEADER.unpack_from(content)
    if content[4:6] != b"\x02\x01" or header[2] != _AARCH64:
        raise RealmkitError(f"{what} is an ELF file of another architecture: little-endian AArch64 is needed")
    segment_offset, section_offset = header[5], header[6]
    segment_size, segments, section_size, sections, names_index = header[9:14]
    raw = []
    if sections and section_size == _SECTION.size:
        if section_offset + sections * section_size > len(content):
            raise RealmkitError(f"{what} is truncated: its section headers end after the file does")
        raw = [_SECTION.unpack_from(content, section_offset + i * section_size) for i in range(sections)]
    bodies = []
    for section in raw:
        nobits = section[1] == 8
        if not nobits and section[4] + section[5] > len(content):
            raise RealmkitError(f"{what} is truncated: a section ends after the file does")
        bodies.append(b"" if nobits else content[section[4] : section[4] + section[5]])
    found: dict[str, bytes] = {}
    if names_index < len(bodies):
        names = bodies[names_index]
        for section, body in zip(raw, bodies, strict=True):
            name = names[section[0] :].partition(b"\0")[0].decode("ascii", "replace")
            found.setdefault(name, body)
    interpreted = False
    if segments and segment_size == _SEGMENT.size:
        if segment_offset + segments * segment_size > len(content):
            raise RealmkitError(f"{what} is truncated: its program headers end after the file does")
        kinds = [_SEGMENT.unpack_from(content, segment_offset + i * segment_size)[0] for i in range(segments)]
        interpreted = _PT_INTERP in kinds
    return ElfFile(header[1] == _RELOCATABLE, interpreted, found)


def modinfo(content: bytes, what: str) -> dict[str, str]:
    """The first value of each key in a kernel module's ``.modinfo``; RealmkitError where the file is no module."""
    elf = parse(content, what)
    section = elf.sections.get(".modinfo")
    if not elf.relocatable or section is None:
        raise RealmkitError(f"{what} is not a kernel module: it has no .modinfo section")
    values: dict[str, str] = {}
    for item in section.split(b"\0"):
        key, separator, value = item.decode("utf-8", "replace").partition("=")
        if separator:
            values.setdefault(key, value)
    return values
