from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realmkit.arch.errors import RealmkitError
from realmkit.arch.pas import REACHABLE, Gpi, Pas, SecurityState
from realmkit.machine.bus import CheckedBus, DeviceMap, Interconnect
from realmkit.machine.dma import DmaMaster
from realmkit.machine.gpc import GranuleProtection
from realmkit.machine.gpt import GPCCR_EL3, level0_block, level0_table, level1_granules
from realmkit.machine.memory import PhysicalMemory
from realmkit.machine.platform import AddressRange
from realmkit.machine.port import Bus, ExternalAbort, GranuleProtectionFault

L1 = 0x20_0000
RAM = 2 << 30
RAM_SIZE = 1 << 20
REALM_GRANULE = RAM + 0x1000
DEVICE = 0x4000_0000
G = 4096


class Register:
    """A device that remembers its accesses."""

    def __init__(self) -> None:
        self.accesses: list[tuple[str, int, int, int]] = []

    def read(self, offset: int, size: int) -> int:
        self.accesses.append(("read", offset, size, 0))
        return (1 << 8 * size) - 2

    def write(self, offset: int, size: int, value: int) -> None:
        self.accesses.append(("write", offset, size, value))


class World:
    """RAM whose granule 1 is Realm and whose other granules are Non-secure, and a device for NS and Realm."""

    def __init__(self) -> None:
        self.memory = PhysicalMemory([AddressRange(RAM, RAM_SIZE), AddressRange(0, 4 << 20)])
        self.memory.write64(0, level0_block(Gpi.ROOT))
        self.memory.write64(8, level0_block(Gpi.ANY))
        self.memory.write64(16, level0_table(L1))
        ram_entries = RAM_SIZE >> 16
        self.memory.write(L1, level1_granules(Gpi.NS).to_bytes(8, "little") * ram_entries)
        self.memory.write(L1 + 8 * ram_entries, level1_granules(Gpi.ANY).to_bytes(8, "little") * (0x4000 - ram_entries))
        self.set_gpi(REALM_GRANULE, Gpi.REALM)
        self.gpc = GranuleProtection(self.memory)
        self.gpc.configure(GPCCR_EL3.make(PPS=5, IRGN=1, ORGN=1, SH=3, GPC=1), 0)
        self.device = Register()
        devices = DeviceMap()
        devices.map(DEVICE, 0x1000, frozenset({Pas.NS, Pas.REALM}), self.device)
        self.interconnect = Interconnect(self.memory, self.gpc, devices)

    def bus(self, state: SecurityState) -> CheckedBus:
        return self.interconnect.bus(state)

    def set_gpi(self, pa: int, gpi: Gpi) -> None:
        entry_at = L1 + ((pa - RAM) >> 16) * 8
        shift = (pa >> 12 & 0xF) * 4
        self.memory.write64(entry_at, self.memory.read64(entry_at) & ~(0xF << shift) | gpi << shift)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def ns(world: World) -> CheckedBus:
    return world.bus(SecurityState.NS)


@pytest.fixture
def realm(world: World) -> CheckedBus:
    return world.bus(SecurityState.REALM)


def accesses(bus: Bus, pas: Pas, pa: int) -> list[Callable[[], object]]:
    return [
        lambda: bus.read(pas, pa, 8),
        lambda: bus.write(pas, pa, b"8 bytes!"),
        lambda: bus.read64(pas, pa),
        lambda: bus.write64(pas, pa, 1),
        lambda: bus.zero(pas, pa, G),
        lambda: bus.read(pas, pa, G),
        lambda: bus.write(pas, pa, bytes(range(256)) * 16),
    ]


def test_bytes_words_and_zero_agree(ns: CheckedBus) -> None:
    for _ in range(2):  # before and after the granule is remembered
        ns.write(Pas.NS, RAM + 3, b"\x01\x02\x03\x04\x05")
        assert ns.read64(Pas.NS, RAM) == 0x0504_0302_0100_0000
        ns.write64(Pas.NS, RAM + 0xFF8, (1 << 64) - 1)
        assert ns.read(Pas.NS, RAM + 0xFF6, 4) == b"\0\0\xff\xff"
        assert ns.read(Pas.NS, RAM, G) == bytes(3) + b"\x01\x02\x03\x04\x05" + bytes(G - 16) + b"\xff" * 8
        ns.zero(Pas.NS, RAM, G)
        assert ns.read(Pas.NS, RAM, G) == bytes(G)


@pytest.mark.parametrize(("state", "pas"), [(s, p) for s in SecurityState for p in Pas])
def test_states_name_only_the_spaces_they_reach(world: World, state: SecurityState, pas: Pas) -> None:
    bus = world.bus(state)
    world.set_gpi(RAM, Gpi.ANY)
    world.gpc.invalidate_all()
    for access in accesses(bus, pas, RAM):
        if pas in REACHABLE[state]:
            access()
        else:
            with pytest.raises(RealmkitError, match=f"{state.name} state cannot name the {pas.name}"):
                access()


@pytest.mark.parametrize(
    ("pas", "pa", "gpi"),
    [(Pas.NS, REALM_GRANULE, "REALM"), (Pas.REALM, RAM, "NS"), (Pas.SECURE, RAM, "NS"), (Pas.NS, 0x3000, "ROOT")],
)
def test_a_granule_of_another_world_faults_and_keeps_its_content(world: World, pas: Pas, pa: int, gpi: str) -> None:
    root = world.bus(SecurityState.ROOT)
    secret = bytes(range(1, 17)) * 256
    world.memory.write(pa, secret)
    for access in accesses(root, pas, pa):
        with pytest.raises(GranuleProtectionFault) as caught:
            access()
        assert caught.value.pas is pas
        assert caught.value.gpi is not None
        assert caught.value.gpi.name == gpi
    assert world.memory.read(pa, G) == secret


def test_access_beyond_the_protected_size(world: World) -> None:
    root = world.bus(SecurityState.ROOT)
    with pytest.raises(GranuleProtectionFault, match="outside the protected range"):
        root.read(Pas.ROOT, 1 << 48, 8)
    with pytest.raises(ExternalAbort):
        root.read(Pas.NS, 1 << 48, 8)


def test_all_granules_of_an_access_are_checked_first(ns: CheckedBus, world: World) -> None:
    before = world.memory.read(RAM, 3 * G)
    for pa, size in ((RAM + G - 4, 8), (RAM, 3 * G), (RAM + 2 * G - 1, 2)):
        with pytest.raises(GranuleProtectionFault):
            ns.write(Pas.NS, pa, b"\xee" * size)
        with pytest.raises(GranuleProtectionFault):
            ns.zero(Pas.NS, pa, size)
        with pytest.raises(GranuleProtectionFault):
            ns.read(Pas.NS, pa, size)
    assert world.memory.read(RAM, 3 * G) == before


def test_accesses_may_span_granules_of_one_world(ns: CheckedBus) -> None:
    data = bytes(i % 251 for i in range(3 * G))
    ns.write(Pas.NS, RAM + 2 * G + 5, data)
    assert ns.read(Pas.NS, RAM + 2 * G + 5, len(data)) == data
    ns.zero(Pas.NS, RAM + 3 * G, G + 1)
    assert ns.read(Pas.NS, RAM + 3 * G - 1, G + 3)[1:-1] == bytes(G + 1)


@pytest.mark.parametrize("pa", [RAM + RAM_SIZE, RAM + RAM_SIZE - 4, 0x7000_0000, (1 << 52) - 8, 1 << 52, 1 << 64, -8])
def test_where_nothing_answers(ns: CheckedBus, pa: int) -> None:
    with pytest.raises(ExternalAbort):
        ns.read(Pas.NS, pa, 8)
    with pytest.raises(ExternalAbort):
        ns.write(Pas.NS, pa, bytes(8))


def test_an_external_abort_has_changed_nothing(ns: CheckedBus, world: World) -> None:
    with pytest.raises(ExternalAbort):
        ns.write(Pas.NS, RAM + RAM_SIZE - 4, b"\xff" * 8)
    assert world.memory.read(RAM + RAM_SIZE - 4, 4) == bytes(4)


@pytest.mark.parametrize("pa", [RAM + 1, RAM + 4, RAM + 0xFFC])
def test_word_accesses_are_aligned(ns: CheckedBus, pa: int) -> None:
    ns.read64(Pas.NS, RAM)
    with pytest.raises(RealmkitError, match="aligned"):
        ns.read64(Pas.NS, pa)
    with pytest.raises(RealmkitError, match="aligned"):
        ns.write64(Pas.NS, pa, 0)


def test_permission_is_held_until_invalidation_and_no_longer(ns: CheckedBus, realm: CheckedBus, world: World) -> None:
    ns.write64(Pas.NS, RAM, 7)
    world.set_gpi(RAM, Gpi.REALM)
    assert ns.read64(Pas.NS, RAM) == 7
    world.gpc.invalidate(RAM, G)
    for access in accesses(ns, Pas.NS, RAM):
        with pytest.raises(GranuleProtectionFault):
            access()
    assert realm.read64(Pas.REALM, RAM) == 7
    world.set_gpi(RAM, Gpi.NS)
    world.gpc.invalidate(RAM & ~0xFFFFF, 2 << 20)
    with pytest.raises(GranuleProtectionFault):
        realm.read64(Pas.REALM, RAM)


# ---- devices ----


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_devices_get_accesses_of_natural_size(ns: CheckedBus, world: World, size: int) -> None:
    assert ns.read(Pas.NS, DEVICE + 8, size) == ((1 << 8 * size) - 2).to_bytes(size, "little")
    ns.write(Pas.NS, DEVICE + 16, bytes(range(1, size + 1)))
    value = int.from_bytes(bytes(range(1, size + 1)), "little")
    assert world.device.accesses == [("read", 8, size, 0), ("write", 16, size, value)]


def test_word_access_and_zero_reach_devices(ns: CheckedBus, world: World) -> None:
    assert ns.read64(Pas.NS, DEVICE) == (1 << 64) - 2
    ns.write64(Pas.NS, DEVICE, 5)
    ns.zero(Pas.NS, DEVICE, 4)
    assert world.device.accesses == [("read", 0, 8, 0), ("write", 0, 8, 5), ("write", 0, 4, 0)]


@pytest.mark.parametrize(
    ("pa", "size"), [(DEVICE, 3), (DEVICE, 16), (DEVICE + 2, 4), (DEVICE + 0xFFC, 8), (DEVICE, G), (DEVICE + G, 4)]
)
def test_devices_refuse_other_accesses(ns: CheckedBus, world: World, pa: int, size: int) -> None:
    with pytest.raises(ExternalAbort):
        ns.read(Pas.NS, pa, size)
    with pytest.raises(ExternalAbort):
        ns.write(Pas.NS, pa, bytes(size))
    assert world.device.accesses == []


def test_devices_answer_in_their_spaces_only(world: World) -> None:
    root = world.bus(SecurityState.ROOT)
    root.read(Pas.REALM, DEVICE, 4)
    with pytest.raises(ExternalAbort):
        root.read(Pas.SECURE, DEVICE, 4)
    with pytest.raises(ExternalAbort):
        root.read(Pas.ROOT, DEVICE, 4)


@pytest.mark.parametrize(("base", "size"), [(DEVICE, 0x1000), (DEVICE + 0xFFF, 2), (DEVICE - 1, 2), (0, 1 << 40)])
def test_devices_do_not_overlap(world: World, base: int, size: int) -> None:
    with pytest.raises(RealmkitError, match="overlaps"):
        world.interconnect.devices.map(base, size, frozenset({Pas.NS}), world.device)


# ---- code ----


def test_the_first_write_to_watched_code_is_reported(ns: CheckedBus, world: World) -> None:
    reported: list[int] = []
    world.interconnect.code_listeners.append(reported.append)
    writes: list[Callable[[], object]] = [
        lambda: ns.write64(Pas.NS, RAM + 8, 1),
        lambda: ns.write(Pas.NS, RAM + 8, b"x"),
        lambda: ns.zero(Pas.NS, RAM, G),
        lambda: ns.write(Pas.NS, RAM + 3 * G - 1, bytes(2)),
    ]
    for write, code in zip(writes, (RAM, RAM, RAM, RAM + 3 * G), strict=True):
        write()
        world.interconnect.watch_code(code + 0x10)
        ns.read(Pas.NS, code, 8)
        assert reported == []
        write()
        write()
        assert reported == [code]
        reported.clear()


# ---- DMA ----


def test_a_dma_master_passes_the_same_check(world: World) -> None:
    dma = DmaMaster("nic", Pas.NS, world.bus(SecurityState.NS))
    dma.write(RAM, b"packet")
    assert dma.read(RAM, 6) == b"packet"
    secret = bytes(16)
    with pytest.raises(GranuleProtectionFault):
        dma.read(REALM_GRANULE, 16)
    with pytest.raises(GranuleProtectionFault):
        dma.write(REALM_GRANULE - 8, b"\xff" * 16)
    assert world.memory.read(REALM_GRANULE - 8, 16) == secret


def test_a_dma_master_cannot_have_a_space_of_another_world(world: World) -> None:
    with pytest.raises(RealmkitError, match="cannot name the REALM PAS"):
        DmaMaster("nic", Pas.REALM, world.bus(SecurityState.NS))


# ---- everything at once ----

PLACES = st.sampled_from([RAM, RAM + G - 8, RAM + G, RAM + 2 * G - 8, RAM + 2 * G, RAM + RAM_SIZE - 8])


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["write", "write64", "zero", "gpi"]), PLACES, st.sampled_from(Pas), st.integers(1, 4200)
        ),
        max_size=25,
    )
)
def test_the_bus_is_a_checked_array(steps: list[tuple[str, int, Pas, int]]) -> None:
    world = World()
    root = world.bus(SecurityState.ROOT)
    model = bytearray(3 * G)
    gpi = {RAM + n * G: Pas.REALM if n == 1 else Pas.NS for n in range(RAM_SIZE // G)}
    for action, pa, pas, number in steps:
        granule = pa & -G
        if action == "gpi":
            world.set_gpi(granule, Gpi(8 | pas))
            world.gpc.invalidate(granule, G)
            gpi[granule] = pas
            continue
        size = 8 if action == "write64" else number
        data = bytes(size) if action == "zero" else (number.to_bytes(8, "little") * (size // 8 + 1))[:size]
        operation: Callable[[], None]
        if action == "write":
            operation = partial(root.write, pas, pa, data)
        elif action == "write64":
            operation = partial(root.write64, pas, pa, number)
        else:
            operation = partial(root.zero, pas, pa, size)
        if any(gpi.get(g, pas) is not pas for g in range(granule, pa + size, G)):
            with pytest.raises(GranuleProtectionFault):
                operation()
        elif pa + size > RAM + RAM_SIZE:
            with pytest.raises(ExternalAbort):
                operation()
        else:
            operation()
            offset = pa - RAM
            kept = data[: max(len(model) - offset, 0)]
            model[offset : offset + len(kept)] = kept
    assert world.memory.read(RAM, 3 * G) == bytes(model)
