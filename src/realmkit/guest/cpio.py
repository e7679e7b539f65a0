"""The ``newc`` cpio format as the Linux kernel unpacks it (Documentation/driver-api/early-userspace/buffer-format)."""

import stat
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from realmkit.arch.errors import RealmkitError

_MAGIC: Final = b"070701"
_TRAILER: Final = "TRAILER!!!"
_BLOCK: Final = 512
MAX_NAME: Final = 4096
"""The kernel drops an archive member whose name, with its final zero, is longer than PATH_MAX."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A member of an archive. ``name`` has no leading slash; ``mode`` includes the file type.

    ``content`` is a file's bytes or a symbolic link's target. ``device`` is (major, minor) of a device node.
    Entries with the same ``group`` (not empty) are names of one file, with the same content, which is stored once.
    """

    name: str
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)
    group: str = ""


def directory(name: str, permissions: int = 0o755) -> Entry:
    """A directory."""
    return Entry(name, stat.S_IFDIR | permissions)


def regular(name: str, content: bytes, permissions: int = 0o644) -> Entry:
    """A regular file."""
    return Entry(name, stat.S_IFREG | permissions, content)


def symlink(name: str, target: str) -> Entry:
    """A symbolic link."""
    return Entry(name, stat.S_IFLNK | 0o777, target.encode("utf-8", "surrogateescape"))


def archive(entries: Iterable[Entry]) -> bytes:
    """The archive: sorted by name, so that directories precede what they hold; everything owned by root, of time 0.

    RealmkitError for names that the kernel would not unpack, and for two entries of one name.
    """
    ordered = sorted(entries, key=lambda entry: entry.name.split("/"))
    names = [entry.name for entry in ordered]
    for name, following in pairwise(names):
        if name == following:
            raise RealmkitError(f"the initramfs would hold /{name} twice")
    members: dict[str, list[Entry]] = {}
    for entry in ordered:
        members.setdefault(entry.group or f"\0{entry.name}", []).append(entry)
    numbers = {group: number for number, group in enumerate(members, 1)}
    out = bytearray()
    seen = set()
    for entry in ordered:
        group = entry.group or f"\0{entry.name}"
        content = b"" if group in seen else members[group][0].content
        seen.add(group)
        links = 2 if stat.S_ISDIR(entry.mode) else len(members[group])
        _member(out, entry.name, numbers[group], entry.mode, links, content, entry.device)
    _member(out, _TRAILER, 0, 0, 1, b"", (0, 0))
    out += bytes(-len(out) % _BLOCK)
    return bytes(out)


def _member(
    out: bytearray, name: str, inode: int, mode: int, links: int, content: bytes, device: tuple[int, int]
) -> None:
    encoded = name.encode("utf-8", "surrogateescape") + b"\0"
    if len(encoded) > MAX_NAME or encoded.startswith(b"/") or b"\0" in encoded[:-1] or len(encoded) == 1:
        raise RealmkitError(f"{name[:80]!r} is not a name for an initramfs member: it is empty, absolute or too long")
    if len(content) >= 1 << 32:
        raise RealmkitError(f"/{name} is too large for an initramfs: {len(content)} bytes")
    fields = (inode, mode, 0, 0, links, 0, len(content), 0, 0, *device, len(encoded), 0)
    out += _MAGIC + b"".join(b"%08X" % field for field in fields) + encoded
    out += bytes(-len(out) % 4)
    out += content
    out += bytes(-len(out) % 4)
