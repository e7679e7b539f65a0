"""Virtio devices of a guest: their places in its memory map, the memory they may use, and files behind disks.

The order of the devices is fixed (console, entropy, disks), so the devicetree follows from their number alone.
"""

import fcntl
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from realmkit.arch.challenge import PORT_NAME
from realmkit.arch.errors import RealmkitError
from realmkit.arch.pas import GRANULE_SIZE, Pas
from realmkit.devices.gic import Gicv3
from realmkit.devices.virtio import (
    Block,
    BlockBackend,
    Console,
    ConsolePort,
    Entropy,
    MemoryRefused,
    VirtioMmio,
    VirtioModel,
)
from realmkit.devices.virtio.block import SECTOR
from realmkit.devices.virtio.transport import VIRTIO_MMIO_SIZE
from realmkit.host.guest import DeviceWindow, GuestDevices, PageLookup
from realmkit.machine.port import Bus, ExternalAbort, GranuleProtectionFault

VIRTIO_BASE: Final = 0x0300_0000
"""First device; each has a page of its own, so that a guest can map them apart."""
VIRTIO_FIRST_INTID: Final = 35
MAX_DISKS: Final = 16
CONSOLE_PORT: Final = 0
ATTESTATION_PORT: Final = 1
_MAX_REPORTS: Final = 64
_BUS_ERRORS: Final = (GranuleProtectionFault, ExternalAbort)
"""The Host has given the page behind a shared address away."""


class VirtioRegion(NamedTuple):
    """Registers and interrupt of one device, for the devicetree."""

    base: int
    size: int
    intid: int


def regions(count: int) -> tuple[VirtioRegion, ...]:
    """Places of ``count`` devices."""
    return tuple(
        VirtioRegion(VIRTIO_BASE + n * GRANULE_SIZE, VIRTIO_MMIO_SIZE, VIRTIO_FIRST_INTID + n) for n in range(count)
    )


class GuestMemory:
    """What a guest shares, as :class:`~realmkit.devices.virtio.SharedMemory`. Until it is connected that is nothing.

    Pages are looked up at every access: what a guest takes back, no device reaches any more.
    """

    def __init__(self) -> None:
        self._bus: Bus | None = None
        self._page_at: PageLookup = _nothing

    def connect(self, bus: Bus, page_at: PageLookup) -> None:
        """Bind to a guest, which decides page by page."""
        self._bus, self._page_at = bus, page_at

    def read(self, address: int, size: int) -> bytes:
        """Read shared memory."""
        parts: list[bytes] = []
        self._each(address, size, False, lambda bus, pa, _, length: parts.append(bus.read(Pas.NS, pa, length)))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, address: int, data: bytes) -> None:
        """Write shared memory."""
        self._each(
            address, len(data), True, lambda bus, pa, done, length: bus.write(Pas.NS, pa, data[done : done + length])
        )

    def _each(self, address: int, size: int, write: bool, access: Callable[[Bus, int, int, int], None]) -> None:
        """``access(bus, pa, done, length)`` for the part of each page; MemoryRefused at the first not shared."""
        bus, offset = self._bus, address % GRANULE_SIZE
        done = 0
        while bus is not None and done < size:
            length = min(size - done, GRANULE_SIZE - offset)
            page = self._page(address + done - offset)
            if page is None:
                break
            try:
                access(bus, page + offset, done, length)
            except _BUS_ERRORS:
                break
            done += length
            offset = 0
        if done < size:
            raise MemoryRefused(address + done, size - done, write=write)

    def _page(self, address: int) -> int | None:
        """The page at a guest address; a Host that has no memory to put there gives none."""
        try:
            return self._page_at(address)
        except RealmkitError:
            return None


def _nothing(page: int) -> int | None:
    """No page is shared."""
    return None


class DiskFile:
    """A raw file as a disk; other programs cannot have it as a disk of theirs at the same time, unless all only read.

    Close it, or use it as a context manager.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self.read_only = read_only
        try:
            self._fd = os.open(path, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            hint = "" if read_only else "; a disk that the guest only reads can be given read-only"
            raise RealmkitError(f"cannot open disk {path}: {error.strerror}{hint}") from error
        try:
            self.size = self._check()
        except BaseException:
            self.close()
            raise

    def _check(self) -> int:
        """Size in bytes of a file that can be a disk, now locked."""
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            raise RealmkitError(f"disk {self.path} is not a regular file")
        size = os.fstat(self._fd).st_size
        if not size or size % SECTOR:
            wanted = max(-(-size // SECTOR), 1) * SECTOR
            raise RealmkitError(
                f"disk {self.path} has {size} bytes: a raw disk has a multiple of {SECTOR}, for example {wanted}"
            )
        try:
            fcntl.flock(self._fd, (fcntl.LOCK_SH if self.read_only else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            raise RealmkitError(f"disk {self.path} is in use: close the program that has it, or use a copy") from error
        return size

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the file; OSError when it has become shorter."""
        data = os.pread(self._fd, size, offset)
        if len(data) < size:
            raise OSError(f"disk {self.path} ends at {offset + len(data)} bytes")
        return data

    def write(self, offset: int, data: bytes) -> None:
        """Write into the file."""
        view = memoryview(data)
        while view:
            done = os.pwrite(self._fd, view, offset)
            offset += done
            view = view[done:]

    def flush(self) -> None:
        """Make what was written durable."""
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class VirtioDevices:
    """The virtio devices of one guest: a console with an attestation port, entropy, disks.

    ``console`` and ``attestation`` get what the guest writes to hvc0 and to the port ``org.realmkit.attestation``, and
    must not raise. ``seed`` decides all entropy. ``reports`` says in words what devices refused.
    Input goes to ``console.feed``, between entries of the guest only: a device works at once.
    """

    def __init__(
        self,
        console: Callable[[bytes], None],
        attestation: Callable[[bytes], None],
        disks: Sequence[BlockBackend] = (),
        *,
        seed: bytes = b"",
    ) -> None:
        if len(disks) > MAX_DISKS:
            raise RealmkitError(f"{len(disks)} disks are not possible: use at most {MAX_DISKS}")
        self.console = Console([ConsolePort(console), ConsolePort(attestation, PORT_NAME)])
        self.memory = GuestMemory()
        self.reports: list[str] = []
        self._models: list[tuple[str, VirtioModel]] = [("virtio-console", self.console), ("virtio-rng", Entropy(seed))]
        for n, disk in enumerate(disks):
            self._models.append((f"virtio-blk{n}", Block(disk, f"realmkit-disk{n}")))
        self.regions = regions(len(self._models))

    def attach(self, devices: GuestDevices, *, access_platform: bool) -> None:
        """Put the devices into a guest's hardware, at their addresses and wired to its GIC.

        A Realm's devices need ``access_platform``: its drivers then hand out addresses of shared memory alone.
        """
        for (name, model), region in zip(self._models, self.regions, strict=True):
            line = _line(devices.gic, region.intid)
            device = VirtioMmio(name, model, self.memory, line, self._report, access_platform=access_platform)
            devices.windows.append(DeviceWindow(name, region.base, region.size, device))
        devices.connect = self.memory.connect

    def _report(self, text: str) -> None:
        if len(self.reports) < _MAX_REPORTS:
            self.reports.append(text)


def _line(gic: Gicv3, intid: int) -> Callable[[bool], None]:
    return lambda level: gic.set_spi(intid, level)
