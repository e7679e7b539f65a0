"""Plain VMs: what their Host does for them, and how they share a PE with Realms."""

import pytest

from realmkit.arch.esr import Ec, exception_class
from realmkit.arch.pas import GRANULE_SIZE, Pas
from realmkit.arch.rsi import Rsi
from realmkit.arch.smccc import unsigned
from realmkit.host.hypervisor import Outcome
from realmkit.host.memory import BLOCK
from realmkit.host.vmm.layout import RAM_BASE
from realmkit.machine.platforms import small
from tests.host.code import Code, Cond
from tests.host.kit import IO, MIB, World, program, say


@pytest.fixture
def world() -> World:
    return World()


def test_identification_registers(world: World) -> None:
    names = ("MPIDR_EL1", "MIDR_EL1", "ID_AA64PFR0_EL1", "ID_AA64MMFR0_EL1", "ID_AA64PFR1_EL1", "ID_AA64ZFR0_EL1")
    main = Code()
    for name in names:
        main.mrs(1, name).store(1, IO)
    guest = world.vm(program(main, realm=False))
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    mpidr, midr, pfr0, mmfr0, pfr1, zfr0 = guest.values
    assert mpidr == 1 << 31
    assert midr == world.port.id_register("MIDR_EL1")
    assert pfr0 == world.port.id_register("ID_AA64PFR0_EL1") & ~0xFF00, "a guest has no EL2 and EL3"
    assert mmfr0 == world.port.id_register("ID_AA64MMFR0_EL1")
    assert pfr1 == zfr0 == 0


def test_hvc_is_undefined(world: World) -> None:
    guest = world.vm(program(Code().hvc(), realm=False))
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    tag, esr, elr, _ = guest.values
    assert tag == 0xE
    assert exception_class(esr) == Ec.UNKNOWN
    assert world.read(guest, elr, 4) == Code().hvc().bytes()


def test_there_is_no_rsi(world: World) -> None:
    guest = world.vm(program(Code().call(Rsi.VERSION, 0x1_0000).store(0, IO), realm=False))
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    assert guest.values == [unsigned(-1)]


def test_sign_extending_loads(world: World) -> None:
    ldrsb_x, ldrsb_w, ldrsw = 0x39800000, 0x39C00000, 0xB9800000
    main = Code()
    for base in (ldrsb_x, ldrsb_w, ldrsw):
        main.word(base | IO << 5 | 1).store(1, IO)
    guest = world.vm(program(main, realm=False))
    guest.probe.inputs = [0x80, 0x80, 0x8000_0000]
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    assert guest.values == [unsigned(-0x80), 0xFFFF_FF80, unsigned(-0x8000_0000)]


def test_memory_is_the_hosts_to_see(world: World) -> None:
    secret = 0x5EC2E7
    guest = world.vm(program(Code().mov(1, RAM_BASE + 4 * MIB).mov(2, secret).store(2, 1), realm=False))
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    assert int.from_bytes(world.read(guest, RAM_BASE + 4 * MIB), "little") == secret
    block = guest.running.vm.blocks[RAM_BASE + 4 * MIB]
    world.destroy(guest)
    assert world.port.bus.read(Pas.NS, block, GRANULE_SIZE) == bytes(GRANULE_SIZE)
    world.assert_clean()


def test_single_pages_when_memory_is_scarce() -> None:
    world = World(small(8 * MIB))
    base = RAM_BASE + 2 * MIB
    main = Code().mov(1, base).mov(2, base + 4 * MIB).mov(4, 0x8000).label("next").store(1, 1)
    main.add_reg(1, 1, 4).cmp(1, 2).b_if(Cond.LO, "next").load(3, 1).store(3, IO)
    guest = world.vm(program(main, realm=False), memory=16 * MIB)
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    assert guest.running.vm.pages
    world.destroy(guest)
    world.assert_clean()


def test_two_realms_and_a_vm_share_a_pe(world: World) -> None:
    """Each counts for a long time, reports in between, and none waits for another to end."""

    def count(tag: int, realm: bool) -> Code:
        main = Code().mov(3, 8).label("outer").mov(1, 400_000).label("inner").sub(1, 1, 1).cbnz(1, "inner")
        say(main, tag)
        return program(main.sub(3, 3, 1).cbnz(3, "outer"), realm=realm)

    order: list[int] = []
    guests = [world.realm(count(1, True)), world.realm(count(2, True)), world.vm(count(3, False))]
    for guest in guests:
        guest.probe.on_write = lambda offset, value: order.append(value)
    results = world.run_all(guests)
    assert [result.outcome for result in results] == [Outcome.POWERED_OFF] * 3
    assert sorted(order) == [1] * 8 + [2] * 8 + [3] * 8
    assert {1, 2, 3} == set(order[:6]), "they take turns"
    assert {1, 2, 3} == set(order[-6:])
    world.destroy(*guests)
    world.assert_clean()


def test_equal_vmids_of_realm_and_vm_do_not_mix(world: World) -> None:
    def touch(value: int, realm: bool) -> Code:
        main = Code().mov(1, RAM_BASE + 4 * MIB).mov(2, value).store(2, 1)
        main.mov(3, 600_000).label("spin").sub(3, 3, 1).cbnz(3, "spin").load(4, 1).store(4, IO)
        return program(main, realm=realm)

    guests = [world.realm(touch(0xA, True)), world.vm(touch(0xB, False)), world.realm(touch(0xC, True))]
    assert guests[0].running.realm.vmid == guests[1].running.vm.vmid
    world.run_all(guests)
    assert [guest.values for guest in guests] == [[0xA], [0xB], [0xC]]


def test_destroying_one_leaves_the_other_running(world: World) -> None:
    first = world.vm(program(say(Code(), 1), realm=False))
    second = world.realm(program(say(Code(), 2)))
    world.run(first)
    world.destroy(first)
    third = world.vm(program(Code().mov(1, RAM_BASE + 4 * MIB).load(2, 1).store(2, IO), realm=False))
    world.run_all([second, third])
    assert second.values == [2]
    assert third.values == [0]
    world.destroy(second, third)
    world.assert_clean()


def test_devices_may_use_all_memory_of_a_vm(world: World) -> None:
    guest = world.vm(program(realm=False))
    vm = guest.running.vm
    page = vm.dma_page(RAM_BASE + 6 * MIB + 0x123)
    assert page is not None
    assert page % BLOCK == 0
    assert vm.dma_page(RAM_BASE - 1) is None
    assert vm.dma_page(RAM_BASE + 8 * MIB) is None
