"""The initramfs of a Linux guest: a directory, ``/init`` of ours, and the modules that are needed."""

import gzip
import hashlib
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, TypeAlias

from realmkit.arch.errors import RealmkitError
from realmkit.arch.pas import GRANULE_SIZE
from realmkit.guest import elf
from realmkit.guest.cpio import Entry, archive, directory, regular, symlink
from realmkit.guest.files import read_lines, read_regular
from realmkit.guest.modules import DEFAULT, ModuleTree, Selection
from realmkit.guest.tree import read_tree, resolve

OURS: Final = "realmkit"
"""Directory of what ``/init`` needs: ``report``, ``modules/``, ``order``, ``release``."""
_REPORTS: Final = "arm_cca_guest"
_DIRECTORIES: Final = ("dev", "proc", "root", "run", "sys", "tmp")
_SHELL: Final = "bin/sh"
_FETCHED: Final = ("busybox", "modules", "VERSION")
_MODULE_ROOTS: Final = ("lib/modules", "usr/lib/modules")
_Contents: TypeAlias = tuple[dict[str, Entry], ModuleTree | None, str, list[str]]
"""Entries by name, the module tree, the kernel release if it is known, notes."""


@dataclass(frozen=True, slots=True)
class Initramfs:
    """``content`` is the file to boot with, ``unpacked`` the archive in it: the same bytes unless compressed."""

    content: bytes
    unpacked: bytes
    release: str
    selection: Selection
    entries: tuple[Entry, ...]
    notes: tuple[str, ...]

    @property
    def pages(self) -> int:
        """Granules of 4 KB that a launch measures."""
        return -(-len(self.content) // GRANULE_SIZE)

    def report(self) -> dict[str, Any]:
        """What is inside, as plain values: sizes in bytes, digests as hexadecimal SHA-256."""
        return {
            "size": len(self.content),
            "unpacked_size": len(self.unpacked),
            "pages": self.pages,
            "sha256": hashlib.sha256(self.content).hexdigest(),
            "release": self.release,
            "modules": [
                {"name": module.name, "file": module.path, "size": len(module.content), "needs": list(module.needs)}
                for module in self.selection.modules
            ],
            "builtin": list(self.selection.builtin),
            "missing": list(self.selection.missing),
            "files": [
                {
                    "name": f"/{entry.name}",
                    "mode": f"{entry.mode:o}",
                    "size": len(entry.content),
                    "sha256": hashlib.sha256(entry.content).hexdigest(),
                }
                for entry in self.entries
                if stat.S_ISREG(entry.mode)
            ],
            "notes": list(self.notes),
        }


def build(
    source: Path,
    *,
    script: Path | None = None,
    selftest: bool = False,
    modules: Sequence[str] = (),
    compress: bool = False,
) -> Initramfs:
    """Make the initramfs of the guest directory or root directory ``source``.

    ``script`` becomes ``/script``; ``selftest`` takes the shipped user-space test instead; ``modules`` are required
    in addition to the default ones. RealmkitError names what is wrong with a file.
    """
    if not source.is_dir():
        raise RealmkitError(f"{source} is not a directory: give one that tools/fetch-guest made, or a root directory")
    if script is not None and selftest:
        raise RealmkitError("a script and the self-test exclude each other: both become /script")
    entries, tree, release, notes = _fetched(source) if (source / _FETCHED[0]).exists() else _root(source)
    selection = _select(tree, modules, source)
    built_for = tree.release(selection) if tree else ""
    if release and built_for and release != built_for:
        raise RealmkitError(f"{source} is inconsistent: the modules are for {built_for}, its kernel is {release}")
    if selection.missing:
        notes.append(f"this kernel has no {', '.join(selection.missing)}")
    if _REPORTS in selection.missing:
        notes.append(f"without {_REPORTS} (Linux 6.13 or newer) it cannot attest from user space")
    _add_ours(entries, selection, release or built_for, notes)
    if script is not None:
        _put(entries, regular("script", _script(script), 0o755), notes)
    elif selftest:
        _put(entries, regular("script", _resource("selftest.sh"), 0o755), notes)
        entries[f"{OURS}/selftest"] = regular(f"{OURS}/selftest", _resource("selftest"), 0o755)
    elif "script" in entries:
        notes.append("/init will run the /script of the directory")
    unpacked = archive(entries.values())
    content = gzip.compress(unpacked, 9, mtime=0) if compress else unpacked
    ordered = tuple(entries[name] for name in sorted(entries))
    return Initramfs(content, unpacked, release or built_for, selection, ordered, tuple(notes))


def _fetched(source: Path) -> _Contents:
    for name in _FETCHED:
        if not (source / name).exists():
            raise RealmkitError(
                f"{source} has no {name}: a guest directory holds busybox, modules/ and VERSION "
                "(tools/fetch-guest makes one)"
            )
    busybox = read_regular(source / "busybox", "busybox")
    program = elf.parse(busybox, f"busybox {source / 'busybox'}")
    if program.interpreted:
        raise RealmkitError(f"busybox {source / 'busybox'} needs shared libraries: a statically linked one is needed")
    lines = read_lines(source / "VERSION", "VERSION")
    if len(lines) != 1 or not lines[0].strip() or len(lines[0]) > 200:
        raise RealmkitError(f"{source / 'VERSION'} is not the release of a kernel on one line")
    entries = [directory("bin"), regular("bin/busybox", busybox, 0o755), symlink(_SHELL, "busybox")]
    return {entry.name: entry for entry in entries}, ModuleTree(source / "modules"), lines[0].strip(), []


def _root(source: Path) -> _Contents:
    entries = {entry.name: entry for entry in read_tree(source)}
    shell = resolve(entries, _SHELL)
    if shell is None or not stat.S_ISREG(shell.mode):
        raise RealmkitError(
            f"{source} is neither a guest directory (busybox, modules/ and VERSION, see tools/fetch-guest) "
            f"nor a root directory: it has no /{_SHELL}"
        )
    elf.parse(shell.content, f"{source}/{_SHELL}")
    if OURS in entries:
        raise RealmkitError(f"{source} has a /{OURS} of its own: that name is for what /init needs")
    notes: list[str] = []
    releases = sorted(
        path
        for base in _MODULE_ROOTS
        if (source / base).is_dir() and not (source / base).parent.is_symlink()
        for path in (source / base).iterdir()
        if path.is_dir()
    )
    if len(releases) > 1:
        raise RealmkitError(
            f"{source} has modules of several kernels ({', '.join(path.name for path in releases)}): keep one"
        )
    if not releases:
        notes.append("no /lib/modules/VERSION in the directory: the kernel must have its drivers built in")
        return entries, None, "", notes
    return entries, ModuleTree(releases[0]), releases[0].name, notes


def _select(tree: ModuleTree | None, names: Sequence[str], source: Path) -> Selection:
    if tree is not None:
        return tree.select(DEFAULT, names)
    if names:
        raise RealmkitError(f"{source} has no /lib/modules/VERSION to take module {names[0]!r} from")
    return Selection()


def _add_ours(entries: dict[str, Entry], selection: Selection, release: str, notes: list[str]) -> None:
    for name in _DIRECTORIES:
        entries.setdefault(name, directory(name))
    # The kernel opens the console before /init has mounted devtmpfs.
    if stat.S_ISDIR(entries["dev"].mode):
        entries["dev/console"] = Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    order = "".join(f"{module.name}\n" for module in selection.modules)
    ours = [
        regular("init", _resource("init.sh"), 0o755),
        directory(OURS),
        regular(f"{OURS}/report", _resource("report.sh"), 0o755),
        regular(f"{OURS}/order", order.encode()),
        regular(f"{OURS}/release", f"{release}\n".encode()),
        directory(f"{OURS}/modules"),
        *(regular(f"{OURS}/modules/{module.name}.ko", module.content) for module in selection.modules),
    ]
    for entry in ours:
        _put(entries, entry, notes)


def _put(entries: dict[str, Entry], entry: Entry, notes: list[str]) -> None:
    there = entries.get(entry.name)
    if there is not None:
        if stat.S_ISDIR(there.mode):
            raise RealmkitError(f"/{entry.name} of the directory is a directory: the name is for a file of realmkit's")
        notes.append(f"/{entry.name} of the directory is replaced")
    entries[entry.name] = entry


def _script(path: Path) -> bytes:
    content = read_regular(path, "script")
    first = content[:200].partition(b"\n")[0]
    if content[:4] == b"\x7fELF":
        elf.parse(content, f"script {path}")
    elif not content:
        raise RealmkitError(f"script {path} is empty")
    elif first.startswith(b"#!") and first.endswith(b"\r"):
        raise RealmkitError(f"script {path} has DOS line ends: no shell will run it")
    return content


def _resource(name: str) -> bytes:
    return (files("realmkit.guest") / name).read_bytes()
