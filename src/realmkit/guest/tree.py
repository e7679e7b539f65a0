"""A directory as the root file system of an initramfs."""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from realmkit.arch.errors import RealmkitError
from realmkit.guest.cpio import Entry
from realmkit.guest.files import kind, read_regular

MAX_TREE: Final = 512 << 20
"""Most bytes of files in one tree."""
MAX_ENTRIES: Final = 200_000
MOUNTED: Final = frozenset({"dev", "proc", "sys"})
"""Directories that ``/init`` mounts over: what is in them is left out."""
_MODULES: Final = frozenset({"lib/modules", "usr/lib/modules"})
"""Left out: the modules that are needed go in another way."""
_MAX_LINKS: Final = 40


@dataclass(slots=True)
class _State:
    total: int = 0
    entries: list[Entry] = field(default_factory=list)
    linked: dict[str, bytes] = field(default_factory=dict)


def read_tree(root: Path) -> list[Entry]:
    """Every file below ``root`` with its permissions, symbolic links as they are, hard links as one file.

    RealmkitError names a file that is unreadable, neither file nor directory nor link, or too much.
    """
    state = _State()
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            names = sorted(os.listdir(root / folder))
        except OSError as error:
            raise RealmkitError(f"cannot read the directory {root / folder}: {error.strerror}") from error
        for name in names:
            inside = f"{folder}/{name}" if folder else name
            entry = _entry(root, inside, state)
            state.entries.append(entry)
            if len(state.entries) > MAX_ENTRIES:
                raise RealmkitError(f"{root} has more than {MAX_ENTRIES} files: too much for an initramfs")
            if stat.S_ISDIR(entry.mode) and inside not in MOUNTED and inside not in _MODULES:
                pending.append(inside)
    return state.entries


def _entry(root: Path, inside: str, state: _State) -> Entry:
    path = root / inside
    try:
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode):
            return Entry(inside, found.st_mode, os.fsencode(path.readlink()))
    except OSError as error:
        raise RealmkitError(f"cannot read {path}: {error.strerror}") from error
    if stat.S_ISDIR(found.st_mode):
        return Entry(inside, found.st_mode)
    if not stat.S_ISREG(found.st_mode):
        raise RealmkitError(
            f"{path} is {kind(found.st_mode)}: only files, directories and symbolic links go into an initramfs "
            "(/init mounts devtmpfs on /dev)"
        )
    group = f"{found.st_dev}:{found.st_ino}" if found.st_nlink > 1 else ""
    if group in state.linked:
        return Entry(inside, found.st_mode, state.linked[group], group=group)
    content = read_regular(path, "file")
    state.total += len(content)
    if state.total > MAX_TREE:
        raise RealmkitError(f"{root} has more than {MAX_TREE >> 20} MiB of files: too much for an initramfs")
    if group:
        state.linked[group] = content
    return Entry(inside, found.st_mode, content, group=group)


def resolve(entries: dict[str, Entry], name: str) -> Entry | None:
    """The entry that ``name`` leads to through symbolic links inside the tree, or None where it leads nowhere.

    RealmkitError for a loop of links.
    """
    parts, at = name.split("/")[::-1], ""
    for _ in range(_MAX_LINKS):
        while parts:
            part = parts.pop()
            if part in ("", "."):
                continue
            if part == "..":
                at = at.rpartition("/")[0]
                continue
            inside = f"{at}/{part}" if at else part
            entry = entries.get(inside)
            if entry is None:
                return None
            if stat.S_ISLNK(entry.mode):
                target = os.fsdecode(entry.content)
                at = "" if target.startswith("/") else at
                parts += target.split("/")[::-1]
                break
            at = inside
        else:
            return entries.get(at)
    raise RealmkitError(f"/{name} is a loop of symbolic links")
