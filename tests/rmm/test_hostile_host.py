"""Arbitrary registers and arbitrary parameter pages: a status always comes back, and a refusal changes nothing."""

from hypothesis import given, settings
from hypothesis import strategies as st

from realmkit.arch.rmi import RealmParams, Rmi
from realmkit.arch.smccc import NOT_SUPPORTED, RMI_RANGE
from realmkit.rmm.table import RMI_1_0
from tests.rmm.fake import DEVICE, HIGH_BASE, RAM_BASE, RAM_SIZE, Bench

U64 = st.integers(0, (1 << 64) - 1)
OWN = (
    Rmi.VERSION,
    Rmi.FEATURES,
    Rmi.GRANULE_DELEGATE,
    Rmi.GRANULE_UNDELEGATE,
    Rmi.REALM_CREATE,
    Rmi.REALM_ACTIVATE,
    Rmi.REALM_DESTROY,
    Rmi.REC_AUX_COUNT,
    Rmi.DATA_CREATE,
    Rmi.DATA_CREATE_UNKNOWN,
    Rmi.DATA_DESTROY,
    Rmi.RTT_CREATE,
    Rmi.RTT_DESTROY,
    Rmi.RTT_FOLD,
    Rmi.RTT_READ_ENTRY,
    Rmi.RTT_MAP_UNPROTECTED,
    Rmi.RTT_UNMAP_UNPROTECTED,
    Rmi.RTT_INIT_RIPAS,
    Rmi.RTT_SET_RIPAS,
)
FIRST = RAM_BASE
"""The first granules of the bench hold its RD, its tables, its data and its REC."""
GRANULES = st.integers(0, 24).map(lambda number: FIRST + number * 4096)
INTERESTING = st.one_of(
    GRANULES,
    GRANULES.map(lambda pa: pa + 1),
    st.sampled_from([0, 1, 2, 3, 0x1000, 1 << 21, 1 << 38, (1 << 38) + 0x1000, 1 << 39, DEVICE, HIGH_BASE]),
    st.sampled_from([RAM_BASE + RAM_SIZE, 1 << 63, (1 << 64) - 4096, (1 << 64) - 1]),
    U64,
)


def bench() -> Bench:
    made = Bench()
    rd = made.realm()
    made.tables(rd, 0x1000)
    made.tables(rd, 1 << 38)
    made.page(rd, 0x1000)
    made.rec(rd)
    for _ in range(4):
        made.delegated()
    return made


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(OWN), st.lists(INTERESTING, min_size=7, max_size=7)), max_size=8))
def test_arbitrary_calls(calls: list[tuple[Rmi, list[int]]]) -> None:
    subject = bench()
    for fid, x in calls:
        before = subject.snapshot()
        result = subject.call(fid, *x)
        if result.x0:
            assert result.code[0] in (1, 2, 3, 4)
            assert result.label is not None
            assert subject.snapshot() == before
        else:
            assert result.label is None
        unused = len(RMI_1_0[fid].outputs)
        assert result.outputs[unused:] == (0,) * (4 - unused)


@given(st.sampled_from(sorted(set(RMI_RANGE) - set(Rmi))), st.lists(U64, min_size=7, max_size=7))
@settings(max_examples=20, deadline=None)
def test_arbitrary_arguments_of_unknown_functions(fid: int, x: list[int]) -> None:
    result = Bench().call(fid, *x)
    assert (result.x0, result.outputs) == (NOT_SUPPORTED, (0, 0, 0, 0))


def number(bits: int) -> st.SearchStrategy[int]:
    return st.one_of(st.integers(0, 4), st.integers(0, (1 << bits) - 1))


PARAMS = st.builds(
    RealmParams,
    flags=st.one_of(st.just(0), number(64)),
    s2sz=st.one_of(st.integers(30, 53), number(8)),
    sve_vl=number(8),
    num_bps=st.integers(0, 7),
    num_wps=st.integers(0, 7),
    hash_algo=st.integers(0, 2),
    vmid=number(16),
    rtt_base=INTERESTING,
    rtt_level_start=st.one_of(st.integers(-1, 4), st.integers(-(1 << 63), (1 << 63) - 1)),
    rtt_num_start=st.one_of(st.sampled_from([1, 2, 4, 8, 16]), number(32)),
)


@given(st.one_of(PARAMS.map(RealmParams.pack), st.binary(min_size=0, max_size=4096)), GRANULES)
@settings(max_examples=80, deadline=None)
def test_arbitrary_realm_parameters(page: bytes, rd: int) -> None:
    subject = bench()
    params = subject.ns(page.ljust(4096, b"\0"))
    before = subject.snapshot()
    result = subject.call(Rmi.REALM_CREATE, rd, params)
    if result.x0:
        assert result.code == (1, 0)
        assert subject.snapshot() == before
    else:
        subject.ok(Rmi.REALM_DESTROY, rd)
