"""Trapped system registers (spec: rec-run section 8)."""

import pytest

from realmkit.arch.esr import ISS_SYSREG, Ec, make_esr
from realmkit.arch.rmi import ExitReason
from realmkit.arch.sysregs import ENCODINGS
from tests.rmm.execution.running import CODE, VBAR, Running

ONES = (1 << 64) - 1


def running() -> Running:
    bench = Running()
    ctx = bench.enter()
    ctx.x[:] = [0x100 + n for n in range(31)]
    ctx.write("VBAR_EL1", VBAR)
    return bench


@pytest.mark.parametrize("name", ["ICC_SGI0R_EL1", "ICC_SGI1R_EL1", "ICC_ASGI1R_EL1", "ICC_DIR_EL1"])
@pytest.mark.parametrize(("rt", "value"), [(0, 0x100), (5, 0x105), (30, 0x11E), (31, 0)])
def test_writes_that_go_to_the_host(name: str, rt: int, value: int) -> None:
    """attacks 3: the register's number is not shown, its value only in gprs[0]."""
    bench = running()
    record = bench.sysreg(name, rt)
    assert record is not None
    assert record.exit_reason == ExitReason.SYNC
    op0, op1, crn, crm, op2 = ENCODINGS[name]
    iss = ISS_SYSREG.make(Op0=op0, Op1=op1, CRn=crn, CRm=crm, Op2=op2)
    assert record.esr == make_esr(Ec.SYSREG, iss)
    assert record.gprs == (value, *[0] * 30)
    assert (record.far, record.hpfar) == (0, 0)
    assert bench.context().pc == CODE + 4
    assert bench.enter(0, [99] * 31).x == [0x100 + n for n in range(31)]


def read(bench: Running, name: str) -> int:
    ctx = bench.context()
    pc = ctx.pc
    assert bench.sysreg(name, 3, read=True) is None
    assert ctx.pc == pc + 4
    return ctx.x[3]


@pytest.mark.parametrize(
    ("name", "hidden"),
    [
        ("ID_AA64PFR0_EL1", {"SVE": 32, "MPAM": 40, "AMU": 44}),
        ("ID_AA64PFR1_EL1", {"MTE": 8, "MPAM_frac": 16, "SME": 24}),
        (
            "ID_AA64DFR0_EL1",
            {
                "TraceVer": 4,
                "PMUVer": 8,
                "PMSS": 16,
                "SEBEP": 24,
                "CTX_CMPs": 28,
                "PMSVer": 32,
                "TraceFilt": 40,
                "TraceBuffer": 44,
                "BRBE": 52,
                "ExtTrcBuff": 56,
            },
        ),
        ("ID_AA64ISAR0_EL1", {}),
        ("ID_AA64ISAR1_EL1", {}),
        ("ID_AA64MMFR0_EL1", {}),
        ("ID_AA64MMFR1_EL1", {}),
        ("ID_AA64MMFR2_EL1", {}),
    ],
)
def test_features_that_realms_do_not_have(name: str, hidden: dict[str, int]) -> None:
    """attacks 10."""
    bench = running()
    bench.port.id_registers[name] = ONES
    expected = ONES
    for low in hidden.values():
        expected &= ~(0xF << low)
    if name == "ID_AA64DFR0_EL1":
        expected = expected & ~(0xF << 12 | 0xF << 20) | 1 << 12 | 1 << 20
    assert read(bench, name) == expected


@pytest.mark.parametrize(
    "name",
    ["ID_AA64DFR1_EL1", "ID_AA64ZFR0_EL1", "ID_AA64SMFR0_EL1", "ID_AA64ISAR2_EL1", "ID_PFR0_EL1", "MVFR0_EL1"],
)
def test_other_identification_registers_read_as_zero(name: str) -> None:
    bench = running()
    bench.port.id_registers[name] = ONES
    assert read(bench, name) == 0


def test_breakpoints_and_watchpoints_are_those_that_were_measured() -> None:
    bench = running()
    realm = bench.rmm.realms[bench.rd]
    realm.num_bps, realm.num_wps = 4, 3
    value = read(bench, "ID_AA64DFR0_EL1")
    assert (value >> 12 & 0xF, value >> 20 & 0xF) == (4, 3)


@pytest.mark.parametrize("name", ["PMCR_EL0", "MPAM1_EL1", "PMSIDR_EL1", "TRBIDR_EL1", "AMCR_EL0", "ICC_SGI1R_EL1"])
def test_the_rest_reads_as_zero_and_ignores_writes(name: str) -> None:
    bench = running()
    assert read(bench, name) == 0
    if not name.startswith("ICC"):
        before = list(bench.context().x)
        assert bench.sysreg(name, 4) is None
        assert bench.context().x == before


def test_a_read_into_xzr() -> None:
    bench = running()
    before = list(bench.context().x)
    assert bench.sysreg("ID_AA64PFR0_EL1", 31, read=True) is None
    assert bench.context().x == before


@pytest.mark.parametrize("op0", [1, 3])
@pytest.mark.parametrize("crn", [11, 15])
@pytest.mark.parametrize("op1", [0, 3])
@pytest.mark.parametrize("read_access", [0, 1])
def test_implementation_defined_is_unknown(op0: int, crn: int, op1: int, read_access: int) -> None:
    bench = running()
    before = list(bench.context().x)
    assert bench.take(make_esr(Ec.SYSREG, ISS_SYSREG.make(Op0=op0, Op1=op1, CRn=crn, READ=read_access, Rt=3))) is None
    ctx = bench.context()
    assert (ctx.pc, ctx.read("ESR_EL1"), ctx.read("ELR_EL1")) == (VBAR + 0x200, make_esr(Ec.UNKNOWN), CODE)
    assert ctx.x == before


@pytest.mark.parametrize("name", ["SCTLR_EL2", "HCR_EL2", "VTTBR_EL2", "CNTHP_CTL_EL2", "ICH_HCR_EL2"])
def test_registers_of_el2_are_unknown(name: str) -> None:
    bench = running()
    assert bench.sysreg(name, 3, read=True) is None
    assert bench.context().pc == VBAR + 0x200


def test_set_way_maintenance_does_nothing() -> None:
    bench = running()
    iss = ISS_SYSREG.make(Op0=1, Op1=0, CRn=7, CRm=6, Op2=2, Rt=3)
    before = list(bench.context().x)
    assert bench.take(make_esr(Ec.SYSREG, iss)) is None
    assert (bench.context().pc, bench.context().x) == (CODE + 4, before)
