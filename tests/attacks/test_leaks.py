"""What a Realm's secrets could leak by: exit records, syndromes, features (attacks 1-10), on the running machine."""

from collections.abc import Callable

import pytest

from realmkit.arch import psci
from realmkit.arch.esr import ISS_SYSREG, Ec, exception_class
from realmkit.arch.pas import GRANULE_SIZE, Pas
from realmkit.arch.rmi import (
    ENTER_EMUL_MMIO,
    ENTER_INJECT_SEA,
    ENTER_TRAP_WFI,
    REC_EXIT_OFFSET,
    RecExit,
    Ripas,
    Rmi,
)
from realmkit.arch.rsi import HostCall, Rsi
from tests.isolation import code
from tests.isolation.kit import Guest, World
from tests.isolation.programs import DATA, OUT, SHARED, call, out, secret

MARK = 0x5EC2_0000
"""X<n> of a Realm holds MARK + n."""
OTHER = 0x6000
CVAL_V, CVAL_P = 0x7FFF_1111_2222, 0x7FFF_3333_4444


def marked(rt: int) -> int:
    return MARK + rt


def with_secrets(program: list[int]) -> list[int]:
    """Timers that are set, and a secret in every register; X28 stays with the kit."""
    timers = [
        *code.write_sysreg("CNTV_CVAL_EL0", CVAL_V),
        *code.write_sysreg("CNTP_CVAL_EL0", CVAL_P),
        *code.write_sysreg("CNTV_CTL_EL0", 3),
        *code.write_sysreg("CNTP_CTL_EL0", 1),
    ]
    return [*timers, *(w for n in range(31) if n != 28 for w in code.mov(n, marked(n))), *program]


def at(address: int, instruction: Callable[[int], int]) -> list[int]:
    """An instruction with the address in X1."""
    return [*code.mov(1, address), instruction(1)]


ALWAYS = {"cntv_cval", "cntp_cval", "cntv_ctl", "cntp_ctl", "gicv3_vmcr"}
EXITS: dict[str, tuple[list[int], int, set[str], tuple[int, ...]]] = {
    "wfi": ([code.WFI], ENTER_TRAP_WFI, {"esr"}, ()),
    "write of the host's": (at(SHARED, lambda rn: code.store(5, rn)), 0, {"esr", "hpfar", "gprs"}, (marked(5),)),
    "byte write": (
        at(SHARED + 3, lambda rn: code.strb(5, rn)),
        0,
        {"esr", "hpfar", "far", "gprs"},
        (marked(5) & 0xFF,),
    ),
    "read of the host's": (at(SHARED + 8, lambda rn: code.ldr(5, rn, 0)), 0, {"esr", "hpfar", "far"}, ()),
    "pair": (at(SHARED + 0x10, lambda rn: code.stp(5, 6, rn)), 0, {"esr", "hpfar"}, ()),
    "missing page": (at(OTHER + 0x18, lambda rn: code.store(5, rn)), 0, {"esr", "hpfar"}, ()),
    "missing code": (call(OTHER), 0, {"esr", "hpfar"}, ()),
    "sgi": ([code.msr("ICC_SGI1R_EL1", 7)], 0, {"esr", "gprs"}, (marked(7),)),
    "cpu off": (code.smc(psci.CPU_OFF), 0, {"exit_reason", "gprs"}, (psci.CPU_OFF,)),
    "cpu on": (code.smc(psci.CPU_ON, 1, DATA, 9), 0, {"exit_reason", "gprs"}, (psci.CPU_ON, 1)),
    "ripas": (
        code.smc(Rsi.IPA_STATE_SET, DATA, DATA + GRANULE_SIZE, Ripas.EMPTY, 0),
        0,
        {"exit_reason", "ripas_base", "ripas_top"},
        (),
    ),
    "host call": (code.smc(Rsi.HOST_CALL, DATA), 0, {"exit_reason", "gprs", "imm"}, tuple(range(100, 131))),
    "loop": ([code.STAY], 0, {"exit_reason"}, ()),
}


def leave(name: str) -> tuple[World, Guest, RecExit]:
    """The exit of one of the programs; the Host's own timers have values of their own."""
    program, flags, _, _ = EXITS[name]
    world = World()
    world.port.write("CNTP_CVAL_EL0", 0x0BAD)
    world.port.write("CNTV_CVAL_EL0", 0x0BAD)
    world.port.write("CNTHP_CVAL_EL2", 0x0BAD)
    pages = {DATA: HostCall(0x1234, tuple(range(100, 131))).pack().ljust(GRANULE_SIZE, b"\xee")}
    guest = world.realm(with_secrets(program), pages, recs=2)
    return world, guest, guest.enter(flags)


@pytest.mark.parametrize("name", EXITS)
def test_an_exit_tells_what_is_listed_and_nothing_else(name: str) -> None:
    """Attacks 1 and 2."""
    _, _, allowed, gprs = EXITS[name]
    world, guest, record = leave(name)
    assert set(record.describe()) <= ALWAYS | allowed
    assert record.gprs == (*gprs, *(0,) * (31 - len(gprs)))
    assert (record.cntv_cval, record.cntp_cval) == (CVAL_V, CVAL_P)
    assert (record.cntv_ctl, record.cntp_ctl) == (3, 1)
    raw = world.port.bus.read(Pas.NS, guest.run_page + REC_EXIT_OFFSET, RecExit.SIZE)
    assert raw == record.pack(), "nothing between the fields"


@pytest.mark.parametrize("name", EXITS)
def test_the_run_page_holds_no_secret(name: str) -> None:
    """Of the marked registers at most the one that the Host has to see is in the page."""
    world, guest, _ = leave(name)
    page = world.read(guest.run_page, GRANULE_SIZE)
    for n in set(range(31)) - {5, 7, 28}:
        assert marked(n).to_bytes(8, "little") not in page
    assert secret("a")[:8] not in page


@pytest.mark.parametrize(
    ("name", "mask"),
    [
        ("write of the host's", 0xFFC0_9E7F),
        ("byte write", 0xFFC0_9E7F),
        ("read of the host's", 0xFFC0_9E7F),
        ("pair", 0xFE00_1E3F),
        ("missing page", 0xFC00_1E3F),
        ("missing code", 0xFC00_1A3F),
    ],
)
def test_syndromes_are_masked(name: str, mask: int) -> None:
    """Attack 2: SRT, SSE and, for what cannot be emulated, SAS, SF and WnR stay with the Realm."""
    record = leave(name)[2]
    assert record.esr & ~mask == 0
    assert exception_class(record.esr) in (Ec.DABT_LOWER, Ec.IABT_LOWER)


def test_a_trapped_register_write_does_not_name_the_register() -> None:
    """Attack 3."""
    record = leave("sgi")[2]
    assert exception_class(record.esr) == Ec.SYSREG
    assert ISS_SYSREG.get(record.esr, "Rt") == 0


@pytest.mark.parametrize("name", ["pair", "missing page", "missing code", "wfi", "loop"])
def test_only_what_was_emulatable_is_emulated(name: str) -> None:
    """Attack 4: the Host claims to have emulated something else."""
    world, guest, _ = leave(name)
    result = world.rmi.call(Rmi.REC_ENTER, guest.recs[0], prepared(guest, ENTER_EMUL_MMIO))
    assert not result.success
    assert world.port.refusal == "rec_mmio"


def prepared(guest: Guest, flags: int) -> int:
    """The run page with these flags and a value in every register."""
    page = flags.to_bytes(8, "little").ljust(0x200, b"\0") + (0xBAD).to_bytes(8, "little") * 31
    guest.world.write(guest.run_page, page.ljust(0x800, b"\0"))
    return guest.run_page


def test_an_external_abort_and_an_emulation_at_once() -> None:
    """Attack 8: the abort is injected; the value does not arrive and the instruction is not skipped."""
    world = World()
    guest = world.realm([*code.mov(5, 1), *at(SHARED, lambda rn: code.ldr(5, rn)), out(5)])
    assert guest.run().exit is not None
    record = guest.enter(ENTER_EMUL_MMIO | ENTER_INJECT_SEA, 0xBAD)
    registers = {}
    for _ in range(3):
        registers[record.far & 0xFFF | (record.hpfar << 8) - OUT] = record.gprs[0]
        record = guest.enter(ENTER_EMUL_MMIO)
    assert registers[0x10] & 0x3F == 0x10
    assert registers[0x18] == SHARED


def test_registers_that_a_call_does_not_return_are_kept() -> None:
    """Attack 9: X4 to X17 over RSI calls that work and RSI calls that fail."""
    kept = [w for n in range(4, 18) for w in code.mov(n, marked(n))]
    program: list[int] = []
    for fid, arguments in (
        (Rsi.VERSION, (1 << 16,)),
        (Rsi.FEATURES, (0,)),
        (Rsi.IPA_STATE_GET, (1, 2)),
        (0xC400_01FF, ()),
    ):
        program += [*kept, *code.smc(fid, *arguments), *(out(n) for n in range(4, 18))]
    assert World().realm(program).run().values == [marked(n) for n in range(4, 18)] * 4


def test_features_that_realms_do_not_have_are_hidden() -> None:
    """Attack 10: MPAM, BRBE and the rest are absent, and their registers give nothing away."""
    names = ["ID_AA64PFR0_EL1", "ID_AA64PFR1_EL1", "ID_AA64DFR0_EL1"]
    pfr0, pfr1, dfr0 = World().realm([w for n in names for w in (code.mrs(0, n), out(0))]).run().values
    assert [pfr0 >> shift & 15 for shift in (32, 40, 44)] == [0, 0, 0]
    assert [pfr1 >> shift & 15 for shift in (8, 16, 24)] == [0, 0, 0]
    assert [dfr0 >> shift & 15 for shift in (4, 8, 32, 40, 44, 52)] == [0] * 6
    mpam1_el1, brbcr_el1 = code.sysinsn(3, 0, 10, 5, 0, 0) | 1 << 21, code.sysinsn(2, 1, 9, 0, 0, 0) | 1 << 21
    for word in (mpam1_el1, brbcr_el1):
        run = World().realm([*code.mov(0, 0), word, out(0)]).run()
        assert run.values == [0] or (run.abort is not None and run.abort.ec == Ec.UNKNOWN)
