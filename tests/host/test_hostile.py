"""Hosts that misuse the hooks, and Realms that misuse their Host: both stay sound."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from realmkit.arch.gic import ICH_LR, LR_PENDING
from realmkit.arch.pas import GRANULE_SIZE
from realmkit.arch.rmi import ENTER_EMUL_MMIO, ENTER_INJECT_SEA, ENTER_RIPAS_REJECT, Rmi
from realmkit.arch.rsi import Rsi
from realmkit.host.exits import Exit
from realmkit.host.hypervisor import Outcome, Vcpu
from realmkit.host.interrupts import ListRegisters
from realmkit.host.vmm import layout
from realmkit.host.vmm.hostcall import TOKEN, HostCallServices
from realmkit.host.vmm.layout import RAM_BASE
from tests.host.code import Code, Cond
from tests.host.kit import ENTRY, IO, MIB, UNPROTECTED, Guest, World, program, say

DATA = RAM_BASE + 4 * MIB
SECRET = 0x5EC2_E75E_C2E7


@pytest.fixture
def world() -> World:
    return World()


def worker(rounds: int = 30) -> Code:
    """Keeps a secret in memory, works with devices, and reports whether the secret is still right."""
    main = Code().mov(21, DATA).mov(22, SECRET).store(22, 21).mov(23, rounds).label("next")
    main.load(3, IO).mov(4, 20_000).label("spin").sub(4, 4, 1).cbnz(4, "spin")
    main.load(5, 21).cmp(5, 22).b_if(Cond.NE, "bad").sub(23, 23, 1).cbnz(23, "next")
    return say(main, 0x600D).b("end").label("bad").store(5, IO).label("end")


def sound(world: World, guest: Guest) -> None:
    """The machine still works for others, and nothing of the guest is left."""
    other = world.realm(program(say(Code(), 1)))
    assert world.run(other).outcome is Outcome.POWERED_OFF
    assert other.values == [1]
    world.destroy(guest, other)
    world.assert_clean()


def entering(guest: Guest, hook: Callable[[Any, Vcpu], None]) -> None:
    guest.running.before_entry.append(hook)


@pytest.mark.parametrize("seed", range(6))
def test_random_entry_fields(world: World, seed: int) -> None:
    guest = world.realm(program(worker()))
    choice = random.Random(seed)

    def corrupt(running: Any, vcpu: Vcpu) -> None:
        if choice.random() < 0.3:
            vcpu.flags |= choice.choice([ENTER_INJECT_SEA, ENTER_RIPAS_REJECT, ENTER_EMUL_MMIO, 1 << 40, 0x3F])
        if choice.random() < 0.3:
            vcpu.gprs = tuple(choice.getrandbits(64) for _ in range(31))

    entering(guest, corrupt)
    result = world.run(guest, 50_000_000)
    assert result.outcome in (Outcome.POWERED_OFF, Outcome.FAILED)
    assert guest.values[:1] in ([], [0x600D], [0xE])
    sound(world, guest)


@pytest.mark.parametrize(
    "lrs",
    [
        (ICH_LR.make(vINTID=27, State=LR_PENDING, HW=1, Group=1),),
        (ICH_LR.make(vINTID=1020, State=LR_PENDING, Group=1),),
        (ICH_LR.make(vINTID=27, State=LR_PENDING, Group=1),) * 2,
        ((1 << 64) - 1,),
    ],
)
def test_invalid_list_registers_are_refused_and_change_nothing(world: World, lrs: tuple[int, ...]) -> None:
    guest = world.realm(program(worker(2)))

    class Forged(ListRegisters):
        def load(self) -> tuple[int, tuple[int, ...]]:
            return 0, (*lrs, *(0,) * (16 - len(lrs)))

    honest = guest.running.vcpus[0].lists
    guest.running.vcpus[0].lists = Forged(guest.devices.gic, 0)
    result = world.run(guest)
    assert result.outcome is Outcome.FAILED
    assert "rec_gicv3" in result.reason
    guest.running.vcpus[0].lists = honest
    guest.running.result = None
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    assert guest.values == [0x600D]
    sound(world, guest)


def test_spurious_interrupts_do_no_harm(world: World) -> None:
    irq = Code().mrs(27, "ICC_IAR1_EL1").add(26, 26, 1).msr("ICC_EOIR1_EL1", 27)
    main = Code().mov(26, 0).mov(1, 0xF0).msr("ICC_PMR_EL1", 1).mov(1, 1).msr("ICC_IGRPEN1_EL1", 1).isb()
    main.unmask_irq()
    code = program(main.word(*_words(worker())), irq=irq)
    guest = world.realm(code)
    choice = random.Random(1)

    class Spurious(ListRegisters):
        def load(self) -> tuple[int, tuple[int, ...]]:
            intid = choice.choice([0, 5, 27, 40, 999, 8200])
            lr = ICH_LR.make(vINTID=intid, Group=1, Priority=0x80, State=LR_PENDING)
            return 0, (lr, *(0,) * 15)

    guest.running.vcpus[0].lists = Spurious(guest.devices.gic, 0)
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    assert guest.values == [0x600D]
    sound(world, guest)


def _words(code: Code) -> list[int]:
    data = code.bytes()
    return [int.from_bytes(data[n : n + 4], "little") for n in range(0, len(data), 4)]


@pytest.mark.parametrize("ipa", [DATA, ENTRY + GRANULE_SIZE])
def test_unmapping_pages_stops_the_realm_but_shows_it_nothing_wrong(world: World, ipa: int) -> None:
    guest = world.realm(program(worker()))
    granules: list[int] = []

    def take(running: Any, vcpu: Vcpu) -> None:
        if vcpu.exits == 10:
            granules.append(running.realm.data[ipa])
            running.realm.reclaim(ipa)

    entering(guest, take)
    assert world.run(guest).outcome is Outcome.FAILED
    assert guest.values == []
    sound(world, guest)


def test_ripas_can_only_be_changed_where_the_realm_asked(world: World) -> None:
    guest = world.realm(program(worker()))
    refused: list[bool] = []

    def flip(running: Any, vcpu: Vcpu) -> None:
        realm = running.realm
        result = realm.rmi.call(Rmi.RTT_SET_RIPAS, realm.rd, realm.recs[0].pa, DATA, DATA + GRANULE_SIZE)
        refused.append(not result.success)

    entering(guest, flip)
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    assert all(refused)
    assert guest.values == [0x600D]
    sound(world, guest)


def test_a_hook_that_fails_ends_only_that_guest(world: World) -> None:
    guest, other = world.realm(program(worker(2))), world.realm(program(worker(2)))

    def fail(running: Any, vcpu: Vcpu, record: Exit) -> None:
        running.realm.rmi.granule_undelegate(running.realm.rd)

    guest.running.after_exit.append(fail)
    results = world.run_all([guest, other])
    assert results[0].outcome is Outcome.FAILED
    assert "GRANULE_UNDELEGATE" in results[0].reason
    assert results[1].outcome is Outcome.POWERED_OFF
    world.destroy(other)
    sound(world, guest)


# ---- hostile Realms ----


def host_call(code: Code, imm: int, *gprs: int) -> Code:
    """RSI_HOST_CALL with this immediate and registers; the structure is at DATA."""
    code.mov(21, DATA).mov(9, imm).store(9, 21)
    for n, value in enumerate(gprs):
        code.mov(9, value).store(9, 21, 8 + 8 * n)
    return code.call(Rsi.HOST_CALL, DATA)


def test_host_calls_with_silly_values(world: World) -> None:
    big = (1 << 64) - 1
    main = Code()
    for imm, gprs in (
        (TOKEN, (big, big, big)),
        (TOKEN, (UNPROTECTED, 4096, 1)),
        (TOKEN, (ENTRY, 4096, 4096)),
        (TOKEN, (0, 0, 0)),
        (TOKEN, (UNPROTECTED | ENTRY, 1 << 63, 1)),
        (1, (big,)),
        (3, (big, big)),
        (0xFFFF, (big,) * 31),
    ):
        host_call(main, imm, *gprs)
    guest = world.realm(program(say(main, 1)))
    services = HostCallServices(bytes(64), lambda ipa, size: None)
    guest.devices.host_calls = services
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    assert guest.values == [1]
    assert services.token == b""
    sound(world, guest)


@pytest.mark.parametrize("answer", [(), (1,) * 40, (5,) * 31])
def test_a_service_that_answers_too_little_or_too_much(world: World, answer: tuple[int, ...]) -> None:
    main = host_call(Code(), 7, 1, 2, 3).load(1, 21, 8).store(1, IO)
    guest = world.realm(program(main))
    guest.devices.host_calls = lambda imm, gprs: answer
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    assert guest.values == [answer[0] if answer else 0]


@pytest.mark.parametrize("seed", range(4))
def test_random_accesses_to_every_device(world: World, seed: int) -> None:
    """Any size at any offset, aligned or not, in and around the devices, as a Realm and as a VM."""
    choice = random.Random(seed)
    windows = [
        (layout.UART_BASE, layout.UART_SIZE),
        (layout.GICD_BASE, layout.GICD_SIZE),
        (layout.GICD_BASE - layout.GICR_SIZE, layout.GICR_SIZE),
    ]
    accesses = []
    for _ in range(120):
        base, size = choice.choice(windows)
        accesses.append((base + choice.randrange(-8, size + 8), choice.choice([1, 2, 4, 8]), choice.getrandbits(64)))
    for realm in (True, False):
        code = Code()
        for address, size, value in accesses:
            address &= -size
            code.mov(1, (UNPROTECTED if realm else 0) | address).mov(2, value)
            code.store(2, 1, 0, size).load(3, 1, 0, size)
        skip = Code().mrs(30, "ELR_EL1").add(30, 30, 4).msr("ELR_EL1", 30).eret()
        image = program(say(code, 1), realm=realm, sync=skip)
        guest = world.realm(image) if realm else world.vm(image)
        result = world.run(guest)
        assert result.outcome is Outcome.POWERED_OFF, result
        assert guest.values[-1] == 1
        sound(world, guest)


def test_instructions_that_no_device_access_can_be_made_of(world: World) -> None:
    """LDP, atomics and cache maintenance on device memory have no syndrome: an external abort, not a hang."""
    ldp, ldadd, dc_ivac, ldxr = 0xA9400000, 0xF8200000, 0xD5087620, 0xC85F7C00
    for word in (ldp | IO << 5 | 2 << 10 | 1, ldadd | 1 << 16 | IO << 5 | 2, dc_ivac | IO, ldxr | IO << 5 | 1):
        guest = world.realm(program(Code().word(word)))
        result = world.run(guest, 2_000_000)
        assert result.outcome in (Outcome.POWERED_OFF, Outcome.MAX_TICKS)
        assert guest.values[:1] in ([0xE], [])
        world.destroy(guest)
    world.assert_clean()


def test_execution_in_the_unprotected_half(world: World) -> None:
    guest = world.realm(program(Code().mov(1, UNPROTECTED | DATA).word(0xD61F0020)))
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    assert guest.values[0] == 0xE
    sound(world, guest)


def test_a_guest_that_never_ends_its_interrupts(world: World) -> None:
    irq = Code().mrs(27, "ICC_IAR1_EL1")
    gicr = UNPROTECTED | layout.GICD_BASE - layout.GICR_SIZE + 0x1_0000
    main = Code().mov(1, UNPROTECTED | layout.GICD_BASE).mov(2, 0b10).store(2, 1, 0, 4).mov(2, 0xFFFF_FFFF)
    main.mov(1, gicr).store(2, 1, 0x80, 4).store(2, 1, 0x100, 4).store(2, 1, 0x200, 4)
    main.mov(2, 0xF0).msr("ICC_PMR_EL1", 2).mov(2, 1).msr("ICC_IGRPEN1_EL1", 2).isb().unmask_irq()
    guest = world.realm(program(main.label("here").b("here"), irq=irq))
    assert world.run(guest, 5_000_000).outcome is Outcome.MAX_TICKS
    sound(world, guest)
