"""The devicetree of a guest, read back."""

import fdt
import pytest

from realmkit.arch.errors import RealmkitError
from realmkit.host.vmm import layout
from realmkit.host.vmm.devicetree import MAX_BOOTARGS, build, vcpu_mpidr
from realmkit.host.vmm.layout import RAM_BASE, VmConfig
from realmkit.host.vmm.virtio import regions

MIB = 1 << 20


def parse(blob: bytes) -> fdt.FDT:
    return fdt.parse_dtb(blob)


def words(tree: fdt.FDT, path: str, name: str) -> list[int]:
    return list(tree.get_property(name, path).data)


def pair(high: int, low: int) -> int:
    return high << 32 | low


def test_the_same_arguments_give_the_same_bytes() -> None:
    def make() -> bytes:
        return build(VmConfig(64 * MIB, 3), "quiet", regions(2), (RAM_BASE, RAM_BASE + 5))

    assert make() == make()
    assert build(VmConfig(64 * MIB, 3), "quiet") != build(VmConfig(64 * MIB, 3), "quiet ")


@pytest.mark.parametrize("memory", [2 * MIB, 8 << 30, 1 << 40])
def test_memory(memory: int) -> None:
    tree = parse(build(VmConfig(memory)))
    reg = words(tree, f"/memory@{RAM_BASE:x}", "reg")
    assert (pair(*reg[:2]), pair(*reg[2:])) == (RAM_BASE, memory)


@pytest.mark.parametrize("vcpus", [1, 2, 17, 64, 256])
def test_vcpus_and_their_redistributors(vcpus: int) -> None:
    blob = build(VmConfig(64 * MIB, vcpus))
    tree = parse(blob)
    cpus = [node for node in tree.get_node("/cpus").nodes if node.name.startswith("cpu@")]
    assert [node.get_property("reg").value for node in cpus] == [vcpu_mpidr(n) for n in range(vcpus)]
    assert all(node.get_property("enable-method").value == "psci" for node in cpus)
    reg = words(tree, f"/intc@{layout.GICD_BASE:x}", "reg")
    assert pair(*reg[4:6]) + pair(*reg[6:8]) == layout.GICD_BASE
    assert pair(*reg[6:8]) == layout.GICR_SIZE * vcpus
    assert len(blob) < 1 << 16


def test_chosen() -> None:
    tree = parse(build(VmConfig(64 * MIB), "console=ttyAMA0", initrd=(RAM_BASE + 0x1000, RAM_BASE + 0x1234)))
    assert tree.get_property("bootargs", "/chosen").value == "console=ttyAMA0"
    assert pair(*words(tree, "/chosen", "linux,initrd-start")) == RAM_BASE + 0x1000
    assert pair(*words(tree, "/chosen", "linux,initrd-end")) == RAM_BASE + 0x1234
    assert tree.exist_property("rng-seed", "/chosen")
    assert len(tree.get_property("kaslr-seed", "/chosen").data) in (2, 8)
    bare = parse(build(VmConfig(64 * MIB)))
    assert not bare.exist_property("bootargs", "/chosen")
    assert not bare.exist_property("linux,initrd-start", "/chosen")


def test_psci_is_called_by_smc() -> None:
    tree = parse(build(VmConfig(64 * MIB)))
    assert tree.get_property("method", "/psci").value == "smc"


def test_virtio_devices() -> None:
    places = regions(3)
    tree = parse(build(VmConfig(64 * MIB), virtio=places))
    for place in places:
        path = next(f"/{node.name}" for node in tree.root.nodes if node.name.endswith(f"@{place.base:x}"))
        assert tree.get_property("compatible", path).value == "virtio,mmio"
        assert pair(*words(tree, path, "reg")[:2]) == place.base
        assert words(tree, path, "interrupts") == [0, place.intid - 32, 4]
        assert 32 <= place.intid < 32 + layout.SPIS


@pytest.mark.parametrize("bootargs", ["ü", "a\0b", "x" * (MAX_BOOTARGS + 1)])
def test_parameters_that_no_kernel_takes(bootargs: str) -> None:
    with pytest.raises(RealmkitError, match="kernel parameters"):
        build(VmConfig(64 * MIB), bootargs)
