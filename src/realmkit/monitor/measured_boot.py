"""Measurement of the firmware, for the software components of the platform token (spec: monitor-rme section 7)."""

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from realmkit import __version__

HASH_ALGORITHM: Final = "sha-256"
UNSIGNED: Final = bytes(32)
"""Signer of our components: they are loaded as they are installed, nobody signs them."""

COMPONENT_PACKAGES: Final = {
    "HW_MODEL": ("arch", "devices", "machine"),
    "MONITOR": ("monitor",),
    "RMM": ("rmm",),
}
"""Firmware components and the packages of realmkit whose sources they are."""


@dataclass(frozen=True, slots=True)
class SwComponent:
    """One software component of the platform token: SHA-256 ``measurement``, ``signer`` as hash of a public key."""

    kind: str
    version: str
    measurement: bytes
    signer: bytes = UNSIGNED


def measure_firmware() -> tuple[SwComponent, ...]:
    """Measure the installed firmware, in the order in which it boots."""
    root = files("realmkit")
    return tuple(
        SwComponent(kind, __version__, measure_sources(root, packages)) for kind, packages in COMPONENT_PACKAGES.items()
    )


def measure_sources(root: Traversable, packages: tuple[str, ...]) -> bytes:
    """SHA-256 over the Python sources below ``root`` of the given packages.

    For each file, in the order of its path relative to ``root``: length of the path (4 bytes), path, length of the
    content (8 bytes), content; lengths are little-endian, paths have "/" between their parts. Anything but ``.py``
    files is left out, so an editable install and a wheel of the same sources have the same measurement.
    """
    sources: dict[str, bytes] = {}
    for package in packages:
        _collect(root / package, package, sources)
    digest = hashlib.sha256()
    for path, content in sorted(sources.items()):
        name = path.encode()
        digest.update(len(name).to_bytes(4, "little") + name + len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.digest()


def _collect(folder: Traversable, path: str, sources: dict[str, bytes]) -> None:
    for item in folder.iterdir():
        below = f"{path}/{item.name}"
        if item.is_dir():
            _collect(item, below, sources)
        elif item.name.endswith(".py"):
            sources[below] = item.read_bytes()
