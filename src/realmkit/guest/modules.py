"""Which kernel modules a guest needs, where they are in a kernel's module tree, and in which order they load."""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from realmkit.arch.errors import RealmkitError
from realmkit.guest.compression import SUFFIXES, decompress
from realmkit.guest.elf import modinfo
from realmkit.guest.files import read_lines, read_regular

DEFAULT: Final = ("virtio_mmio", "virtio_blk", "virtio_console", "virtio_rng", "arm_cca_guest")
"""What a Realm guest uses, when its kernel has it; ``arm_cca_guest`` brings the report interface and configfs."""

_NAME: Final = re.compile(r"[\w-]+", re.ASCII)
_MAX_DEPTH: Final = 100
_BUILTIN: Final = "modules.builtin"
_DEPENDENCIES: Final = "modules.dep"


@dataclass(frozen=True, slots=True)
class Module:
    """A module to load: its normal name (with underscores), where it came from, its ELF file, what it needs first."""

    name: str
    path: str
    content: bytes
    needs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """``modules`` in load order, and the wanted ones that are not among them."""

    modules: tuple[Module, ...] = ()
    builtin: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def normal(name: str) -> str:
    """The kernel's form of a module name: file names may have dashes where it has underscores."""
    return name.replace("-", "_")


class ModuleTree:
    """What a kernel installs as ``/lib/modules/VERSION``.

    RealmkitError where ``root`` holds no modules and no list of built-in ones, or two modules of one name.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._files = self._find()
        lists = root / _BUILTIN
        self._builtin = (
            {normal(Path(line).name.partition(".ko")[0]) for line in read_lines(lists, _BUILTIN)}
            if lists.exists()
            else set()
        )
        if not self._files and not self._builtin:
            raise RealmkitError(
                f"{root} is not a kernel's module tree: it has no *.ko file and no {_BUILTIN}; "
                "copy /lib/modules/VERSION of the guest's kernel"
            )
        self._dependencies = self._read_dependencies()
        self._loaded: dict[str, tuple[bytes, Mapping[str, str]]] = {}

    def _find(self) -> dict[str, Path]:
        found: dict[str, Path] = {}

        def fail(error: OSError) -> None:
            raise RealmkitError(f"cannot read the module tree {error.filename}: {error.strerror}") from error

        for directory, folders, names in os.walk(self.root, onerror=fail):
            folders.sort()
            for file in sorted(names):
                stem, dot, suffix = file.rpartition(".ko")
                if not dot or suffix not in SUFFIXES or _NAME.fullmatch(stem) is None:
                    continue
                path = Path(directory) / file
                other = found.setdefault(normal(stem), path)
                if other != path:
                    raise RealmkitError(
                        f"module {normal(stem)} is in {self.root} twice: "
                        f"{other.relative_to(self.root)} and {path.relative_to(self.root)}"
                    )
        return found

    def _read_dependencies(self) -> dict[str, tuple[str, ...]] | None:
        """``modules.dep``, which depmod makes at installation: names each module must follow, in load order."""
        path = self.root / _DEPENDENCIES
        if not path.exists():
            return None
        table = {}
        for number, line in enumerate(read_lines(path, _DEPENDENCIES), 1):
            if not line.strip():
                continue
            target, colon, needs = line.partition(":")
            if not colon:
                raise RealmkitError(f"{path} line {number} is not 'MODULE: DEPENDENCIES'")
            table[_module_name(target)] = tuple(_module_name(need) for need in reversed(needs.split()))
        return table

    def select(self, wanted: Iterable[str], required: Iterable[str] = ()) -> Selection:
        """The modules for ``wanted`` and ``required`` and all they depend on, each after its dependencies.

        What the kernel has built in is left out. A wanted module that this kernel lacks is reported as missing;
        for a required one, or a dependency, that is a RealmkitError.
        """
        order: dict[str, Module] = {}
        builtin: list[str] = []
        missing: list[str] = []
        required = [normal(name.strip()) for name in required]
        for name in dict.fromkeys([*map(normal, wanted), *required]):
            if name in self._builtin:
                builtin.append(name)
            elif name in self._files:
                self._add(name, order, ())
            elif name in required:
                raise RealmkitError(self._unknown(name))
            else:
                missing.append(name)
        return Selection(tuple(order.values()), tuple(builtin), tuple(missing))

    def _add(self, name: str, order: dict[str, Module], chain: tuple[str, ...]) -> None:
        if name in order or name in self._builtin:
            return
        if name in chain:
            raise RealmkitError(f"modules of {self.root} depend on each other: {' -> '.join((*chain, name))}")
        if len(chain) == _MAX_DEPTH:
            raise RealmkitError(f"module {chain[0]} depends on others {_MAX_DEPTH} deep: {self.root} is damaged")
        if name not in self._files:
            raise RealmkitError(f"module {chain[-1]} depends on {name}, which {self.root} does not have")
        content, info = self._load(name)
        needs = self._needs(name, info)
        for need in needs:
            self._add(need, order, (*chain, name))
        order[name] = Module(name, str(self._files[name].relative_to(self.root)), content, needs)

    def _needs(self, name: str, info: Mapping[str, str]) -> tuple[str, ...]:
        if self._dependencies is not None and name in self._dependencies:
            return self._dependencies[name]
        return tuple(normal(need) for need in info.get("depends", "").split(",") if need)

    def _load(self, name: str) -> tuple[bytes, Mapping[str, str]]:
        if name not in self._loaded:
            path = self._files[name]
            content = decompress(read_regular(path, "module"), path.name)
            self._loaded[name] = content, modinfo(content, f"module {path}")
        return self._loaded[name]

    def release(self, selection: Selection) -> str:
        """The kernel release the selected modules are built for, or nothing; RealmkitError where they differ."""
        release = ""
        for module in selection.modules:
            magic = self._load(module.name)[1].get("vermagic", "").partition(" ")[0]
            if magic and release and magic != release:
                raise RealmkitError(
                    f"modules of {self.root} are for different kernels: {module.name} for {magic}, others for {release}"
                )
            release = release or magic
        return release

    def _unknown(self, name: str) -> str:
        close = difflib.get_close_matches(name, [*self._files, *self._builtin], 3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        return f"{self.root} has no module {name!r}, and it is not built in{hint}"


def _module_name(path: str) -> str:
    return normal(path.strip().rpartition("/")[2].rpartition(".ko")[0])
