"""Breakpoints, watchpoints and other registers of one world are never those of another."""

import pytest

from realmkit.arch.esr import Ec
from realmkit.arch.events import ExceptionTaken, RecExited
from realmkit.arch.pas import Pas
from realmkit.arch.rmi import ExitReason, RecEnter, Rmi
from tests.isolation import code
from tests.isolation.kit import Guest, World
from tests.isolation.programs import DATA, VECTORS, ask, call, function, load, out, put, secret

MDE, KDE, TDCC = 1 << 15, 1 << 13, 1 << 12
BREAKPOINT = 0xF << 5 | 3 << 1 | 1
"""DBGBCR: any instruction at EL1 and EL0, enabled."""
WATCHPOINT = 0xFF << 5 | 3 << 3 | 3 << 1 | 1
"""DBGWCR: loads and stores at EL1 and EL0, enabled."""
CLEAR_D = 0xD503_48FF
DEBUG = [f"DBG{kind}R{n}_EL1" for kind in ("BV", "BC", "WV", "WC") for n in range(4)] + ["MDSCR_EL1"]


def report(*names: str) -> list[int]:
    return [w for name in names for w in (code.mrs(0, name), out(0))]


def trap_everything(address: int, data: int) -> list[int]:
    """Breakpoints on an address and watchpoints on another, all enabled."""
    program = code.write_sysreg("OSLAR_EL1", 0)
    for n in range(4):
        program += code.write_sysreg(f"DBGBVR{n}_EL1", address)
        program += code.write_sysreg(f"DBGBCR{n}_EL1", BREAKPOINT)
        program += code.write_sysreg(f"DBGWVR{n}_EL1", data)
        program += code.write_sysreg(f"DBGWCR{n}_EL1", WATCHPOINT)
    return [*program, *code.write_sysreg("MDSCR_EL1", MDE | KDE), code.ISB]


@pytest.fixture
def victim() -> Guest:
    """A Realm that calls a function in its memory and reads and writes a page, at addresses that the Host knows."""
    program = [CLEAR_D, *call(DATA), out(0), *put(0x4000, 5), *load(0x4000), *report(*DEBUG)]
    return World().realm(program, {DATA: function(7), 0x4000: secret("a")})


def reset_values(victim: Guest) -> list[int]:
    """Debug registers of a Realm that has set none, on a machine where nobody has."""
    return World().realm(report(*DEBUG)).run().values


def test_a_python_host_sets_watchpoints_before_it_enters(victim: Guest) -> None:
    port = victim.world.port
    for n in range(4):
        port.write(f"DBGBVR{n}_EL1", DATA)
        port.write(f"DBGBCR{n}_EL1", BREAKPOINT)
        port.write(f"DBGWVR{n}_EL1", 0x4000)
        port.write(f"DBGWCR{n}_EL1", WATCHPOINT)
    port.write("MDSCR_EL1", MDE | KDE)
    run = victim.run()
    assert run.values == [7, 5, *reset_values(victim)]
    assert run.abort is None
    assert run.exit is None
    assert port.read("DBGWVR3_EL1") == 0x4000


def test_host_code_sets_watchpoints_and_enters(victim: Guest) -> None:
    """RMI_REC_ENTER by code at NS-EL2 whose breakpoints match every step of the Realm."""
    world = victim.world
    world.port.bus.write(Pas.NS, victim.run_page, RecEnter(0, (0,) * 31, 0, (0,) * 16).pack())
    enter = [*code.smc(Rmi.REC_ENTER, victim.recs[0], victim.run_page), code.eor(5, 0, code.XZR)]
    after = [code.mrs(6, "DBGBVR0_EL1"), code.mrs(7, "DBGWCR3_EL1"), code.mrs(8, "MDSCR_EL1")]
    with world.events() as seen:
        run = world.run_at_el2([*trap_everything(DATA, 0x4000), *enter, *after])
    assert run.abort is None
    assert run.x[5] == 0  # RMI_SUCCESS
    assert run.x[6:9] == [DATA, WATCHPOINT, MDE | KDE]
    exits = [e for e in seen if isinstance(e, RecExited)]
    assert [(e.reason, e.exit["gprs"][0]) for e in exits] == [("SYNC", 7)]
    taken = [e for e in seen if isinstance(e, ExceptionTaken) and e.world == "REALM" and e.target_el == 1]
    assert taken == []


def test_a_realm_does_not_see_what_a_host_image_left_in_the_pe(victim: Guest) -> None:
    world = victim.world
    world.run_at_el2(trap_everything(DATA, 0x4000))
    assert victim.run().values == [7, 5, *reset_values(victim)]


def test_neither_the_host_nor_another_realm_sees_a_realm_s(victim: Guest) -> None:
    world = victim.world
    first = world.realm([*trap_everything(0x10_0000, 0x10_1000), ask(3), *report("DBGBVR3_EL1", "DBGWVR0_EL1")])
    first.run()
    assert victim.run().values == [7, 5, *reset_values(victim)]
    host = world.run_at_el2([code.mrs(5, "DBGBVR0_EL1"), code.mrs(6, "DBGWVR3_EL1"), code.mrs(7, "MDSCR_EL1")])
    assert host.x[5:8] == [0, 0, 0]
    assert first.run(0).values == [0x10_0000, 0x10_1000]


def test_a_realm_that_was_destroyed_leaves_nothing_to_the_next(victim: Guest) -> None:
    """The same engine runs another Realm."""
    world = victim.world
    marked = ["TPIDR_EL0", "TPIDR_EL1", "PAR_EL1", "AFSR0_EL1", "AMAIR_EL1", "CONTEXTIDR_EL1", "SP_EL0", "TTBR1_EL1"]
    program = [w for name in marked for w in code.write_sysreg(name, 0x5EC0)]
    first = world.realm([*program, *trap_everything(0x10_0000, 0x10_1000), *fill_simd(), ask(3)])
    assert first.run().abort is None
    first.destroy()
    second = world.realm([*report(*marked, "DBGBVR0_EL1", "DBGWVR3_EL1"), *read_simd()])
    assert second.run().values == [0] * (len(marked) + 4)


HIDDEN = [(3, 0, 2, 1, 0), (3, 0, 2, 3, 0), (3, 3, 9, 14, 0), (3, 3, 9, 13, 0), (3, 0, 1, 0, 1), (2, 0, 0, 2, 0)]
"""Registers of features that Realms do not have, whose accesses the PE may let through: keys, counters and others."""


def test_not_even_registers_that_no_realm_should_have_carry_over() -> None:
    world = World()
    behind = code.pack([code.mrs(27, "ELR_EL1"), code.add(27, 27, 4), code.msr("ELR_EL1", 27), code.ERET])
    vectors = {VECTORS: behind.ljust(0x80, b"\0") * 16}
    first = world.realm([w for place in HIDDEN for w in (*code.mov(0, 0x5EC0), code.sysinsn(*place, 0))], vectors)
    assert first.run().exit is None
    first.destroy()
    read = [w for place in HIDDEN for w in (*code.mov(0, 0), code.sysinsn(*place, 0) | 1 << 21, out(0))]
    values = world.realm(read, vectors).run().values
    assert len(values) == len(HIDDEN)
    assert values == World().realm(read, vectors).run().values


def fill_simd() -> list[int]:
    """V0 and V31 all ones."""
    return [*code.write_sysreg("CPACR_EL1", 3 << 20), code.ISB, *code.mov(0, (1 << 64) - 1), 0x9E67_0000, 0x9E67_001F]


def read_simd() -> list[int]:
    """Report V0 and V31."""
    return [*code.write_sysreg("CPACR_EL1", 3 << 20), code.ISB, 0x9E66_0000, out(0), 0x9E66_03E0, out(0)]


def test_general_registers_do_not_cross(victim: Guest) -> None:
    """X0-X30 of the Host are not in the Realm, and after the exit the Realm's are not in the Host."""
    world = victim.world
    keep = [w for n in range(9, 20) for w in code.mov(n, 0xB0B0)]
    realm = world.realm([*(code.mov(n, 0x5EC0)[0] for n in range(27)), ask(3)])
    world.port.bus.write(Pas.NS, realm.run_page, RecEnter(0, (0,) * 31, 0, (0,) * 16).pack())
    run = world.run_at_el2([*keep, *code.smc(Rmi.REC_ENTER, realm.recs[0], realm.run_page)])
    assert run.abort is None
    assert run.x[9:20] == [0xB0B0] * 11
    assert 0x5EC0 not in run.x


def test_a_realm_s_own_breakpoint_is_its_own(victim: Guest) -> None:
    """It is taken inside the Realm, with a Breakpoint exception, and nobody else notices."""
    world = victim.world
    realm = world.realm([*trap_everything(DATA, 0x4000), CLEAR_D, *call(DATA), out(0)], {DATA: function(9)})
    with world.events() as seen:
        run = realm.run()
    assert run.values == []
    assert run.abort is not None
    assert (run.abort.ec, run.abort.fsc, run.abort.elr) == (Ec.BREAKPOINT_SAME, 0x22, DATA)
    assert not [e for e in seen if isinstance(e, RecExited) and e.reason != ExitReason.SYNC.name]
    assert victim.run().values[:2] == [7, 5]
