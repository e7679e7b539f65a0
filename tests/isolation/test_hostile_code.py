"""Random instructions, with registers full of interesting values: nothing crashes, hangs, or reaches anybody else."""

import random
from collections.abc import Callable
from contextlib import suppress
from itertools import chain

import pytest

from realmkit.arch.esr import ISS_DABT, Ec, exception_class
from realmkit.arch.rmi import ENTER_EMUL_MMIO, ExitReason, RecExit
from realmkit.machine.port import PSTATE_RESET_EL2, CpuContext
from realmkit.machine.scheduler import IdleForeverError
from tests.isolation import code, kit
from tests.isolation.kit import Guest, World
from tests.isolation.programs import DATA, OUT, RAM_TOP, SHARED, VECTORS, checksum, secret

LENGTH = 150
MEMORY: list[int] = [
    *range(0x38, 0x3E),
    0x78,
    0x79,
    0xB8,
    0xB9,
    0xF8,
    0xF9,
    0x28,
    0xA8,
    0xA9,
    0x08,
    0x48,
    0x88,
    0xC8,
    0x0C,
    0x4D,
]
"""Upper bytes of loads, stores, pairs, exclusives and SIMD structures."""
SPECIAL: list[int] = [code.SMC, code.HVC, code.WFI, code.ERET, code.BRK, 0xD503_205F, 0xD4A0_0001, 0xD440_0000]


def instruction(r: random.Random) -> int:
    kind = r.randrange(10)
    if kind < 2:
        return r.getrandbits(32)
    if kind < 6:
        return 0xD500_0000 | r.getrandbits(22)
    if kind < 9:
        return r.choice(MEMORY) << 24 | r.getrandbits(24)
    return r.choice(SPECIAL)


def program(r: random.Random, values: list[Callable[[], int]]) -> list[int]:
    registers = chain.from_iterable(code.mov(n, r.choice(values)()) for n in range(28))
    return [*registers, *(instruction(r) for _ in range(LENGTH))]


def skip(elr: str) -> bytes:
    """Vectors that go on behind the instruction that took the exception."""
    return code.pack([code.mrs(27, elr), code.add(27, 27, 4), code.msr(elr, 27), code.ERET]).ljust(0x80, b"\0") * 16


def emulatable(record: RecExit) -> bool:
    is_abort = record.exit_reason == ExitReason.SYNC and exception_class(record.esr) == Ec.DABT_LOWER
    return is_abort and bool(ISS_DABT.get(record.esr, "ISV"))


@pytest.fixture
def victim(monkeypatch: pytest.MonkeyPatch) -> Guest:
    monkeypatch.setattr(kit, "_SLICE", 30_000)
    loop = checksum(DATA)
    return World().realm([*loop, code.b(-len(loop))], {DATA: secret("victim")})


@pytest.mark.parametrize("seed", range(16))
def test_a_hostile_realm(victim: Guest, seed: int) -> None:
    world, r = victim.world, random.Random(seed)
    values: list[Callable[[], int]] = [
        lambda: r.choice([0, 1, DATA, DATA + 8, SHARED, OUT, RAM_TOP - 8, *victim.data.values(), victim.rd]),
        lambda: 0xC400_0190 + r.randrange(16),
        lambda: 0x8400_0000 + r.randrange(32),
        lambda: r.getrandbits(64),
        lambda: 1 << r.randrange(64),
    ]
    attacker = world.realm(program(r, values), {VECTORS: skip("ELR_EL1")})
    granules = [*victim.data.values(), *victim.tables.values(), *victim.recs]
    expected, digest = victim.enter().gprs[0], world.digest(granules)
    flags = 0
    for _ in range(8):
        record = attacker.enter(flags, r.getrandbits(64))
        assert not world.machine.stopping
        if record.exit_reason == ExitReason.PSCI:
            break
        if record.exit_reason == ExitReason.RIPAS_CHANGE:
            attacker.set_ripas(record)
        flags = ENTER_EMUL_MMIO if emulatable(record) else 0
    assert world.digest(granules) == digest
    assert victim.enter(ENTER_EMUL_MMIO).gprs[0] == expected


@pytest.mark.parametrize("seed", range(16))
def test_a_hostile_host_image(victim: Guest, seed: int) -> None:
    """Code at NS-EL2 with the victim's granules and function identifiers in its registers. It may destroy; not read."""
    world, r = victim.world, random.Random(seed)
    victim.enter()
    own = world.page()
    values: list[Callable[[], int]] = [
        lambda: r.choice([0, 1, own, victim.rd, victim.run_page, *victim.granules().values()]),
        lambda: 0xC400_0150 + r.randrange(32),
        lambda: 0x8400_0000 + r.randrange(32),
        lambda: r.choice([0x1C09_0000, 0x2F00_0000, 0x2F10_0000, 0x4000_0000]),
        lambda: r.getrandbits(64),
    ]
    vectors = world.page(skip("ELR_EL2"))
    image = world.page(code.pack([*code.write_sysreg("VBAR_EL2", vectors), *program(r, values), code.STAY]))
    context = CpuContext(pc=image, pstate=PSTATE_RESET_EL2)
    pe = world.machine.pes[0]
    pe.image = pe.current = context
    with suppress(IdleForeverError):
        world.machine.run(pe.cpu.time + 200_000)
    known = {secret("victim")[n : n + 8] for n in range(0, 4096, 8)}
    assert known.isdisjoint(x.to_bytes(8, "little") for x in context.x)
    assert known.isdisjoint(world.chip(own)[n : n + 8] for n in range(0, 4096, 8))
