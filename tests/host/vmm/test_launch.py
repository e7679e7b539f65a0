"""Launch plans: placement, measured operations, and a RIM that the RMM agrees with."""

import dataclasses
from itertools import pairwise
from typing import Any

import pytest

from realmkit.arch.errors import RealmkitError
from realmkit.arch.pas import GRANULE_SIZE
from realmkit.arch.plan import CreateRec, CreateTable, InitRipas, LaunchPlan, LoadPage, RealmConfiguration
from realmkit.arch.rmi import FEATURE_REGISTER_0, HashAlgorithm
from realmkit.arch.vmsa import entry_size, starting_tables
from realmkit.attestation import predict_rim
from realmkit.host.vmm import devicetree, images
from realmkit.host.vmm.launch import DEVICETREE, IMAGE, INITRD, PARTS, earlycon, plan
from realmkit.host.vmm.layout import BLOCK, LOW_MEMORY, RAM_BASE, VmConfig
from realmkit.host.vmm.virtio import regions
from tests.host.kit import World

MIB, GIB = 1 << 20, 1 << 30
FEATURES = FEATURE_REGISTER_0.make(S2SZ=48, NUM_BPS=5, NUM_WPS=3)
PAGE = GRANULE_SIZE


def make(memory: int = 64 * MIB, content: bytes = b"\1\2\3\4", vcpus: int = 1, **options: Any) -> LaunchPlan:
    config = VmConfig(memory, vcpus)
    image = images.load(content, "x", RAM_BASE, config.ram_top)
    return plan(config, config.realm(FEATURES), image, **options)


def steps(built: LaunchPlan, kind: type[Any]) -> list[Any]:
    return [step for step in built.steps if isinstance(step, kind)]


def loaded(built: LaunchPlan) -> dict[int, bytes]:
    return {step.ipa: step.content for step in steps(built, LoadPage)}


# ---- placement ----


@pytest.mark.parametrize(
    ("memory", "dtb"),
    [
        (64 * MIB, RAM_BASE + 62 * MIB),
        (256 * MIB, RAM_BASE + 254 * MIB),
        (512 * MIB, RAM_BASE + 254 * MIB),
        (1 << 40, RAM_BASE + 254 * MIB),
    ],
)
def test_devicetree_near_the_end_of_low_memory(memory: int, dtb: int) -> None:
    built = make(memory)
    first = steps(built, CreateRec)[0]
    assert first.gprs[0] == dtb
    assert loaded(built)[dtb][:4] == b"\xd0\x0d\xfe\xed"


def test_initrd_lies_below_the_devicetree_and_is_named_in_it() -> None:
    initrd = bytes(range(256)) * 50
    built = make(initrd=initrd)
    dtb = steps(built, CreateRec)[0].gprs[0]
    start = dtb - -(-len(initrd) // PAGE) * PAGE
    pages = loaded(built)
    got = b"".join(pages[start + n] for n in range(0, len(initrd), PAGE))
    assert got[: len(initrd)] == initrd
    assert not any(got[len(initrd) :])
    blob = devicetree.build(VmConfig(64 * MIB), initrd=(start, start + len(initrd)))
    assert b"".join(pages[dtb + n] for n in range(0, len(blob), PAGE))[: len(blob)] == blob


@pytest.mark.parametrize("memory", [2 * MIB, 4 * MIB])
def test_little_memory_is_used_to_its_end(memory: int) -> None:
    built = make(memory)
    dtb = steps(built, CreateRec)[0].gprs[0]
    size = len(devicetree.build(VmConfig(memory)))
    assert dtb >= RAM_BASE
    assert dtb + size <= RAM_BASE + memory
    assert dtb // BLOCK == (dtb + size - 1) // BLOCK, "it crosses no 2 MB boundary"


def test_what_does_not_fit_low_goes_to_the_end_of_ram() -> None:
    built = make(1 * GIB, bytes(200 * MIB), initrd=bytes(100 * MIB))
    dtb = steps(built, CreateRec)[0].gprs[0]
    assert dtb > RAM_BASE + LOW_MEMORY
    assert len(loaded(built)) >= 300 * MIB // PAGE


def test_what_does_not_fit_at_all_says_what_would() -> None:
    with pytest.raises(RealmkitError, match=r"image, the initrd and the devicetree do not fit .* at least 72M"):
        make(64 * MIB, bytes(40 * MIB), initrd=bytes(30 * MIB))
    make(72 * MIB, bytes(40 * MIB), initrd=bytes(30 * MIB))
    with pytest.raises(RealmkitError, match="the image and the devicetree do not fit"):
        make(2 * MIB, bytes(2 * MIB - images.FLAT_OFFSET))


def test_nothing_overlaps() -> None:
    built = make(16 * MIB, bytes(5 * MIB), initrd=bytes(3 * MIB))
    addresses = [step.ipa for step in steps(built, LoadPage)]
    assert len(addresses) == len(set(addresses))
    assert addresses == sorted(addresses)


# ---- kernel parameters ----


def test_early_console_is_reached_through_the_alias() -> None:
    realm = VmConfig(64 * MIB).realm(FEATURES)
    assert earlycon("quiet", realm) == "earlycon=pl011,0x101000000 quiet"
    assert earlycon("quiet") == "earlycon=pl011,0x1000000 quiet"
    assert earlycon("", realm) == "earlycon=pl011,0x101000000"
    assert earlycon("a earlycon b", realm) == "a earlycon b"
    assert earlycon("earlycon=x", realm) == "earlycon=x"


# ---- RIPAS ----


@pytest.mark.parametrize("memory", [2 * MIB, 64 * MIB, GIB, GIB + 2 * MIB, 3 * GIB, 510 * GIB, 1 << 40])
@pytest.mark.parametrize("start", [0, 1])
def test_ram_is_covered_once_by_the_largest_entries(memory: int, start: int) -> None:
    config = VmConfig(memory)
    realm = config.realm(FEATURES)
    width = max(realm.ipa_width, 40) if start == 0 else realm.ipa_width
    number = starting_tables(width, start)
    assert number is not None
    realm = dataclasses.replace(realm, ipa_width=width, rtt_level_start=start, rtt_num_start=number)
    image = images.load(b"\1\2\3\4", "x", RAM_BASE, config.ram_top)
    built = plan(config, realm, image)
    ranges = steps(built, InitRipas)
    covered = sorted((step.base, step.top) for step in ranges)
    assert covered[0][0] == RAM_BASE
    assert covered[-1][1] == config.ram_top
    assert all(a[1] == b[0] for a, b in pairwise(covered))
    entries = sum((step.top - step.base) // entry_size(step.level) for step in ranges)
    assert entries <= 2 * 511 + 1024
    assert len(steps(built, CreateTable)) <= 8


def test_tables_and_measured_steps_do_not_grow_with_memory() -> None:
    sizes = {len(steps(make(memory, bytes(10 * MIB)), CreateTable)) for memory in (256 * MIB, 8 * GIB, 1 << 40)}
    assert len(sizes) == 1


# ---- measurement ----


def test_parts_can_stay_unmeasured() -> None:
    kinds = {part: make(initrd=b"i", unmeasured=[part]) for part in PARTS}
    for part, built in kinds.items():
        unmeasured = [step for step in steps(built, LoadPage) if not step.measured]
        assert len(unmeasured) == (1 if part in (IMAGE, INITRD) else len(unmeasured)) > 0, part
    changed = make(content=b"\4\3\2\1", initrd=b"i", unmeasured=[IMAGE])
    assert predict_rim(kinds[IMAGE]) == predict_rim(changed)
    assert predict_rim(make()) != predict_rim(make(content=b"\4\3\2\1"))
    assert predict_rim(make(initrd=b"i")) != predict_rim(make(initrd=b"j"))
    assert predict_rim(make(bootargs="a")) != predict_rim(make(bootargs="b"))
    assert predict_rim(make(bootargs="a", unmeasured=[DEVICETREE])) == predict_rim(
        make(bootargs="b", unmeasured=[DEVICETREE])
    )
    with pytest.raises(RealmkitError, match="kernel cannot be left unmeasured"):
        make(unmeasured=["kernel"])


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def agree(world: World, built: LaunchPlan, config: VmConfig) -> None:
    """The RMM that executes the plan measures what the owner predicts from it."""
    devices, _, _ = world.devices(config)
    guest = world.hv.create(built, devices)
    rim = world.stack.rmm.realms[guest.realm.rd].measurements[0]
    world.hv.destroy(guest)
    world.assert_clean()
    size = config.hash_algo.digest_size
    assert rim[:size] == predict_rim(built)
    assert not any(rim[size:])


@pytest.mark.parametrize("algorithm", list(HashAlgorithm))
@pytest.mark.parametrize("memory", [2 * MIB, 6 * MIB, 64 * MIB, GIB, GIB + 2 * MIB, 5 * GIB, 1 << 40])
def test_the_rmm_agrees_on_memory_and_hash(world: World, memory: int, algorithm: HashAlgorithm) -> None:
    config = VmConfig(memory, hash_algo=algorithm, rpv=b"owner")
    agree(world, world.plan(bytes(range(256)) * 100, config), config)


@pytest.mark.parametrize("vcpus", [1, 2, 17, 64])
def test_the_rmm_agrees_on_vcpus(world: World, vcpus: int) -> None:
    config = VmConfig(8 * MIB, vcpus)
    agree(world, world.plan(b"\0" * 8, config), config)


@pytest.mark.parametrize("unmeasured", [(), (IMAGE,), (INITRD, DEVICETREE), PARTS])
def test_the_rmm_agrees_on_parts(world: World, unmeasured: tuple[str, ...]) -> None:
    config = VmConfig(16 * MIB)
    built = world.plan(
        bytes(3 * MIB), config, initrd=bytes(range(256)) * 20, bootargs="x", unmeasured=unmeasured, virtio=regions(3)
    )
    agree(world, built, config)


@pytest.mark.parametrize(
    ("width", "start"), [(w, s) for w in range(33, 49) for s in (0, 1, 2) if starting_tables(w, s)]
)
def test_the_rmm_agrees_on_ipa_widths_and_starting_levels(world: World, width: int, start: int) -> None:
    config = VmConfig(64 * MIB)
    number = starting_tables(width, start)
    assert number is not None
    realm: RealmConfiguration = dataclasses.replace(
        config.realm(world.hv.rmi.features()), ipa_width=width, rtt_level_start=start, rtt_num_start=number
    )
    image = images.load(b"\1\2\3\4", "x", RAM_BASE, config.ram_top)
    agree(world, plan(config, realm, image), config)
