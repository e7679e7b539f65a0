"""Images at physical addresses: ELF, flat and gzip files of a bare-metal machine."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from realmkit.arch.errors import RealmkitError
from realmkit.host.vmm.images import ELF_MAGIC, gunzip, is_gzip, load_elf
from realmkit.machine.platform import AddressRange


@dataclass(frozen=True, slots=True)
class PlacedImage:
    """An image in physical memory: ``segments`` of (address, bytes), entry point, and all that it occupies."""

    name: str
    entry: int
    segments: tuple[tuple[int, bytes], ...]
    occupies: AddressRange


def parse_placement(text: str) -> tuple[Path, int | None]:
    """``FILE`` or ``FILE@ADDRESS``; what follows the last ``@`` is an address only if it is a number."""
    name, at, address = text.rpartition("@")
    if at and name:
        try:
            value = int(address, 0)
        except ValueError:
            return Path(text), None
        if value < 0:
            raise RealmkitError(f"{text!r} names a negative address")
        return Path(name), value
    return Path(text), None


def place(content: bytes, name: str, address: int | None) -> PlacedImage:
    """Recognise an image and place it.

    A flat binary needs an address, which is its entry point as well. An ELF file lies where it was linked, or with its
    lowest segment at ``address``. Raises RealmkitError for what cannot be loaded.
    """
    if is_gzip(content):
        content = gunzip(content, name)
    if not content:
        raise RealmkitError(f"{name} is empty")
    if content[:4] != ELF_MAGIC:
        if address is None:
            raise RealmkitError(f"{name} is a flat binary: say where it goes, as in {name}@0x88000000")
        if address & 3:
            raise RealmkitError(f"{name} cannot go to {address:#x}: code is aligned to 4 bytes")
        return PlacedImage(name, address, ((address, content),), AddressRange(address, len(content)))
    image = load_elf(content, name)
    low = image.segments[0][0]
    move = 0 if address is None else address - low
    if move % 4096:
        raise RealmkitError(
            f"{name} is linked to {low:#x} and cannot go to {address:#x}: an ELF file moves by multiples of 4096 bytes"
        )
    segments = tuple((where + move, data) for where, data in image.segments)
    return PlacedImage(name, image.entry + move, segments, AddressRange(low + move, image.top - low))


def check_placement(images: Sequence[PlacedImage], allowed: Iterable[AddressRange], memory: str) -> None:
    """Raise RealmkitError unless every image lies in one of the ``allowed`` ranges, and apart from the others.

    ``memory`` names those ranges.
    """
    ranges = tuple(allowed)
    for image in images:
        if not any(r.contains(image.occupies.base, image.occupies.size) for r in ranges):
            raise RealmkitError(
                f"{image.name} would occupy {image.occupies}, which is not inside {memory}: "
                + ", ".join(str(r) for r in ranges)
            )
    ordered = sorted(images, key=lambda image: image.occupies)
    for lower, upper in pairwise(ordered):
        if lower.occupies.overlaps(upper.occupies):
            raise RealmkitError(
                f"{lower.name} at {lower.occupies} and {upper.name} at {upper.occupies} overlap: choose other addresses"
            )
