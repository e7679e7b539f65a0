"""Arbitrary enter pages, calls and exceptions: always one answer, and a refused entry changes nothing."""

import ast
import inspect
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realmkit.arch.esr import Ec, make_esr
from realmkit.arch.pas import Pas
from realmkit.arch.rmi import REC_EXIT_OFFSET, RecExit, Rmi
from realmkit.arch.rsi import Rsi
from realmkit.machine.port import ExceptionInfo, ExceptionKind
from realmkit.rmm.execution import commands_rec, rec_enter, rsi
from tests.rmm.execution.running import (
    BUFFER,
    DESTROYED,
    EMPTY,
    EMPTY_BLOCK,
    NOT_SHARED,
    OUTSIDE,
    SHARED,
    UNMAPPED,
    UNPROTECTED,
    Running,
)
from tests.rmm.execution.test_token import attestation

MASK64 = (1 << 64) - 1
U64 = st.integers(0, MASK64)
ADDRESS = st.sampled_from(
    [BUFFER, UNMAPPED, DESTROYED, EMPTY, EMPTY_BLOCK, SHARED, NOT_SHARED, UNPROTECTED, OUTSIDE, 0, 1, 2, 4096, MASK64]
)
VALUE = st.one_of(ADDRESS, ADDRESS.map(lambda a: a ^ 0x100), st.integers(0, 70), U64)
PAGE = st.one_of(
    st.binary(min_size=0x388, max_size=0x388),
    st.tuples(
        st.integers(0, 31), st.lists(st.sampled_from([0, 0, 1 << 62 | 27, 3 << 62 | 40, MASK64]), max_size=4)
    ).map(
        lambda parts: (
            parts[0].to_bytes(0x308, "little") + b"".join(lr.to_bytes(8, "little") for lr in parts[1])
        ).ljust(0x388, b"\0")
    ),
)
FIDS = st.one_of(
    st.sampled_from([int(fid) for fid in Rsi]),
    st.sampled_from([0x8400_0000, 0xC400_0001, 0x8400_0002, 0xC400_0003, 0xC400_0004, 0x8400_000A, 0x8000_0000]),
    U64,
)
SMC = st.tuples(FIDS, st.lists(VALUE, min_size=10, max_size=10))
ABORT = st.tuples(
    st.sampled_from([Ec.DABT_LOWER, Ec.IABT_LOWER]),
    st.integers(0, (1 << 25) - 1),
    VALUE.map(lambda v: v & (1 << 52) - 1),
)
OTHER = st.tuples(st.sampled_from(list(ExceptionKind)), st.integers(0, (1 << 32) - 1))
STEP = st.one_of(SMC, ABORT, OTHER)


def step(bench: Running, what: tuple[object, ...]) -> None:
    """One exception of the REC that runs."""
    ctx = bench.rmm.running[0].ctx
    match what:
        case (int() as fid, list() as registers):
            ctx.x[0:11] = [fid, *registers]
            exc = ExceptionInfo(ExceptionKind.SYNC, make_esr(Ec.SMC64))
        case (Ec() as ec, int() as iss, int() as ipa):
            exc = ExceptionInfo(ExceptionKind.SYNC, make_esr(ec, iss), ipa, ipa >> 12 << 4)
        case (ExceptionKind() as kind, int() as esr):
            exc = ExceptionInfo(kind, esr, 0x123, 0x456)
        case _:
            raise AssertionError(what)
    entered, results = len(bench.port.entered), len(bench.port.results)
    bench.rmm.on_exception(bench.port, ctx, exc)
    assert len(bench.port.entered) - entered + len(bench.port.results) - results == 1
    assert all(0 <= value <= MASK64 for value in (*ctx.x, ctx.pc, ctx.pstate))


def zero_outside_the_layout(bench: Running) -> None:
    """Bytes of the exit record that no member covers are zero."""

    image = bench.bus.read(Pas.NS, bench.run + REC_EXIT_OFFSET, RecExit.SIZE)
    assert RecExit.unpack(image).pack() == image


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(PAGE, st.lists(STEP, min_size=1, max_size=4)), min_size=1, max_size=6))
def test_runs(script: list[tuple[bytes, list[tuple[object, ...]]]]) -> None:
    bench = Running(2)
    bench.rmm.attestation = attestation()
    for page, steps in script:
        bench.write_ns(bench.run, page)
        before, entered = bench.state(), len(bench.port.entered)
        bench.rmm.on_smc(bench.port, [Rmi.REC_ENTER, bench.recs[0], bench.run, *[0] * 5])
        if len(bench.port.entered) == entered:
            assert not bench.rmm.running
            if bench.port.results[-1][0]:
                assert bench.state() == before
            continue
        for what in steps:
            step(bench, what)
            if not bench.rmm.running:
                break
        else:
            bench.interrupt()
        zero_outside_the_layout(bench)
        assert not bench.rec_state().running


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([Rmi.REC_CREATE, Rmi.REC_DESTROY, Rmi.REC_ENTER, Rmi.PSCI_COMPLETE]), st.data())
def test_arguments(fid: Rmi, data: st.DataObject) -> None:
    bench = Running(2)
    addresses = st.sampled_from([bench.rd, *bench.recs, bench.run, bench.rec_state().aux[0], bench.delegated()])
    arguments = data.draw(st.lists(st.one_of(addresses, VALUE), min_size=7, max_size=7))
    before, entered = bench.state(), len(bench.port.entered)
    bench.rmm.on_smc(bench.port, [fid, *arguments])
    if len(bench.port.entered) > entered:
        bench.interrupt()
    elif bench.port.results[-1][0]:
        assert bench.state() == before


@pytest.mark.parametrize("module", [commands_rec, rec_enter, rsi], ids=lambda module: module.__name__)
def test_each_condition_label_occurs_once_per_command(module: ModuleType) -> None:
    for function in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(function, ast.FunctionDef):
            labels = [
                node.args[0].value
                for node in ast.walk(function)
                if isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ("Refusal", "RsiRefusal")
                and isinstance(node.args[0], ast.Constant)
            ]
            assert len(labels) == len(set(labels)), f"{function.name}: {labels}"
