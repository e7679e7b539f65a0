"""Virtio devices in the VMM: places, guest memory, disk files."""

import os
from itertools import pairwise
from pathlib import Path

import fdt
import pytest

from realmkit.arch.challenge import PORT_NAME
from realmkit.arch.errors import RealmkitError
from realmkit.arch.pas import GRANULE_SIZE, Pas, SecurityState
from realmkit.devices.gic import Gicv3
from realmkit.devices.virtio import MemoryRefused
from realmkit.devices.virtio.block import FEATURE_RO
from realmkit.devices.virtio.transport import ACCESS_PLATFORM, Register
from realmkit.host.guest import DeviceWindow, GuestDevices
from realmkit.host.vmm import devicetree, layout
from realmkit.host.vmm.layout import VmConfig
from realmkit.host.vmm.virtio import (
    DiskFile,
    GuestMemory,
    VirtioDevices,
    regions,
)
from realmkit.machine.port import Bus
from tests.machine.test_bus import RAM, REALM_GRANULE, World

SHARED = 0x1_8000_0000
"""An Unprotected alias of guest RAM."""


def _ignore(data: bytes) -> None:
    """Output that nobody reads."""


def devices(*disks: DiskFile, **options: bytes) -> VirtioDevices:
    return VirtioDevices(_ignore, _ignore, disks, **options)


def windows(virtio: VirtioDevices, *, access_platform: bool = True) -> list[DeviceWindow]:
    hardware = GuestDevices(Gicv3([0], spis=64))
    virtio.attach(hardware, access_platform=access_platform)
    return hardware.windows


def disk(tmp_path: Path, size: int = 4096, **options: bool) -> DiskFile:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(n % 251 for n in range(size)))
    return DiskFile(path, **options)


# ---- places ----


def test_places_do_not_overlap_what_else_is_there() -> None:
    config = VmConfig(256 << 20, vcpus=layout.MAX_VCPUS)
    taken = [
        (layout.UART_BASE, layout.UART_SIZE),
        (layout.GICD_BASE, layout.GICD_SIZE),
        (config.gicr_base, layout.GICR_SIZE * config.vcpus),
        (layout.RAM_BASE, config.memory),
    ]
    spans = sorted([*taken, *((region.base, GRANULE_SIZE) for region in regions(18))])
    for (low, size), (high, _) in pairwise(spans):
        assert low + size <= high
    intids = [region.intid for region in regions(18)]
    assert intids == list(range(35, 53))
    assert layout.UART_INTID not in intids


def test_the_devicetree_names_every_device(tmp_path: Path) -> None:
    with disk(tmp_path) as one:
        places = devices(one).regions
    tree = fdt.parse_dtb(devicetree.build(VmConfig(256 << 20), virtio=places))
    assert len(places) == 3
    for region in places:
        node = tree.get_node(f"/virtio@{region.base:x}")
        assert node.get_property("compatible").value == "virtio,mmio"
        assert node.get_property("reg").data == [0, region.base, 0, region.size]
        assert node.get_property("interrupts").data == [0, region.intid - 32, 4]
        assert node.exist_property("dma-coherent")


def test_without_devices_the_devicetree_has_none() -> None:
    assert b"virtio" not in devicetree.build(VmConfig(256 << 20))


def test_windows_answer_at_their_places(tmp_path: Path) -> None:
    with disk(tmp_path) as one:
        found = GuestDevices(Gicv3([0], spis=64), windows(devices(one)))
    kinds = []
    for region in regions(3):
        window = found.find(region.base + Register.DEVICE_ID, 4)
        assert window is not None
        kinds.append((window.name, window.device.read(Register.DEVICE_ID, 4)))
    assert kinds == [("virtio-console", 3), ("virtio-rng", 4), ("virtio-blk0", 2)]
    assert found.find(regions(1)[0].base + 0x200, 4) is None


@pytest.mark.parametrize("access_platform", [True, False])
def test_realms_need_access_platform(access_platform: bool) -> None:
    device = windows(devices(), access_platform=access_platform)[0].device
    device.write(Register.DEVICE_FEATURES_SEL, 4, 1)
    assert bool(device.read(Register.DEVICE_FEATURES, 4) << 32 & ACCESS_PLATFORM) is access_platform


def test_too_many_disks(tmp_path: Path) -> None:
    with disk(tmp_path) as one, pytest.raises(RealmkitError, match="17 disks are not possible: use at most 16"):
        devices(*[one] * 17)


def test_the_attestation_port_has_its_name() -> None:
    virtio = devices()
    assert [port.name for port in virtio.console.ports] == ["", PORT_NAME]


def test_reports_are_bounded() -> None:
    virtio = devices()
    device = windows(virtio)[1].device
    for _ in range(100):
        for register, value in (
            (Register.STATUS, 0),
            (Register.DRIVER_FEATURES_SEL, 1),
            (Register.DRIVER_FEATURES, 3),
            (Register.STATUS, 11),
            (Register.QUEUE_READY, 1),
            (Register.STATUS, 15),
            (Register.QUEUE_NOTIFY, 0),
        ):
            device.write(register, 4, value)
    assert len(virtio.reports) == 64
    assert virtio.reports[0].startswith("virtio-rng: queue 0 stopped: read of 4 bytes at guest address 0x0")


# ---- memory ----


class Guest:
    """Two pages that are shared, apart in physical memory, and one behind which there is a Realm granule by now."""

    def __init__(self) -> None:
        self.bus: Bus = World().bus(SecurityState.NS)
        self.pages = {SHARED: RAM + 0x5000, SHARED + 0x1000: RAM + 0x2000, SHARED + 0x3000: REALM_GRANULE}
        self.memory = GuestMemory()
        self.memory.connect(self.bus, self.pages.get)


def test_shared_memory_is_read_and_written_across_pages() -> None:
    guest = Guest()
    data = bytes(range(200))
    guest.memory.write(SHARED + 0xFC0, data)
    assert guest.bus.read(Pas.NS, RAM + 0x5FC0, 64) == data[:64]
    assert guest.bus.read(Pas.NS, RAM + 0x2000, 136) == data[64:]
    assert guest.memory.read(SHARED + 0xFC0, 200) == data
    assert guest.memory.read(SHARED, 2 * GRANULE_SIZE)[0xFC0 : 0xFC0 + 200] == data


@pytest.mark.parametrize(
    ("address", "size", "refused"),
    [
        (0x8000_0000, 4, 0x8000_0000),
        (RAM + 0x5000, 4, RAM + 0x5000),
        (SHARED - 1, 2, SHARED - 1),
        (SHARED + 0x1FFE, 4, SHARED + 0x2000),
        (SHARED + 0x3000, 4, SHARED + 0x3000),
        ((1 << 64) - 4, 4, (1 << 64) - 4),
        (0, 1, 0),
    ],
)
def test_everything_else_is_refused(address: int, size: int, refused: int) -> None:
    guest = Guest()
    with pytest.raises(MemoryRefused) as read:
        guest.memory.read(address, size)
    with pytest.raises(MemoryRefused) as written:
        guest.memory.write(address, b"x" * size)
    assert (read.value.address, read.value.write) == (refused, False)
    assert (written.value.address, written.value.write) == (refused, True)


def test_what_is_taken_back_is_gone() -> None:
    guest = Guest()
    guest.memory.write(SHARED, b"x")
    del guest.pages[SHARED]
    with pytest.raises(MemoryRefused):
        guest.memory.read(SHARED, 1)


def test_a_host_without_memory_shares_nothing() -> None:
    def exhausted(page: int) -> int | None:
        raise RealmkitError("no memory")

    memory = GuestMemory()
    memory.connect(World().bus(SecurityState.NS), exhausted)
    with pytest.raises(MemoryRefused):
        memory.read(SHARED, 1)


def test_before_it_is_connected_nothing_is_shared() -> None:
    with pytest.raises(MemoryRefused):
        GuestMemory().read(SHARED, 1)


# ---- disks ----


def test_a_disk_keeps_what_is_written(tmp_path: Path) -> None:
    with disk(tmp_path) as one:
        assert one.size == 4096
        assert one.read(512, 4) == bytes([10, 11, 12, 13])
        one.write(4090, b"tailed")
        one.flush()
    assert (tmp_path / "disk.img").read_bytes()[-6:] == b"tailed"


def test_a_read_only_disk(tmp_path: Path) -> None:
    with disk(tmp_path, read_only=True) as one:
        assert one.read_only
        device = windows(devices(one))[2].device
        assert device.read(Register.DEVICE_FEATURES, 4) & FEATURE_RO
        with pytest.raises(OSError, match="Bad file descriptor"):
            one.write(0, b"x")


def test_a_disk_that_became_shorter(tmp_path: Path) -> None:
    with disk(tmp_path) as one:
        os.truncate(one.path, 1024)
        with pytest.raises(OSError, match="ends at 1024 bytes"):
            one.read(512, 1024)


def test_no_such_disk(tmp_path: Path) -> None:
    with pytest.raises(RealmkitError, match=r"cannot open disk .*nowhere: No such file"):
        DiskFile(tmp_path / "nowhere")


@pytest.mark.parametrize(("size", "wanted"), [(0, 512), (1, 512), (513, 1024)])
def test_disks_are_whole_sectors(tmp_path: Path, size: int, wanted: int) -> None:
    with pytest.raises(RealmkitError, match=rf"has {size} bytes: .* for example {wanted}$"):
        disk(tmp_path, size)


@pytest.mark.parametrize("read_only", [True, False])
def test_only_files_are_disks(tmp_path: Path, read_only: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RealmkitError, match="pipe is not a regular file"):
        DiskFile(tmp_path / "pipe", read_only=read_only)
    with pytest.raises(RealmkitError, match=r"not a regular file|Is a directory"):
        DiskFile(tmp_path, read_only=read_only)


def test_a_disk_has_one_writer(tmp_path: Path) -> None:
    with disk(tmp_path) as one:
        for read_only in (True, False):
            with pytest.raises(RealmkitError, match="is in use"):
                DiskFile(one.path, read_only=read_only)
    with DiskFile(one.path, read_only=True), DiskFile(one.path, read_only=True):
        pass


def test_closing_twice(tmp_path: Path) -> None:
    one = disk(tmp_path)
    one.close()
    one.close()
