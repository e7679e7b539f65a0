"""The encoding of RTT entries (spec: rtt sections 3, 9, 10)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realmkit.arch.rmi import Ripas
from realmkit.rmm import rtt_entry
from realmkit.rmm.rtt_entry import Hipas

PA = st.integers(0, (1 << 36) - 1).map(lambda frame: frame << 12)
LEVELS = st.integers(1, 3)
HOST = st.builds(
    lambda pa, attributes, permission: pa | attributes << 2 | permission << 6,
    PA,
    st.sampled_from([0, 1, 2, 3, 5, 6, 7]),
    st.integers(0, 3),
)


@given(PA, LEVELS, st.sampled_from(Ripas))
def test_assigned_entries_keep_address_and_ripas(pa: int, level: int, value: Ripas) -> None:
    raw = rtt_entry.assigned(pa, level, value)
    assert rtt_entry.hipas(raw, level) is Hipas.ASSIGNED
    assert (rtt_entry.ripas(raw), rtt_entry.address(raw), rtt_entry.is_live(raw)) == (value, pa, True)
    assert raw & 1 == (value is Ripas.RAM), "only RAM is valid for the hardware"
    assert not rtt_entry.is_unassigned(raw)


@pytest.mark.parametrize("value", Ripas)
def test_unassigned_entries_keep_their_ripas(value: Ripas) -> None:
    raw = rtt_entry.unassigned(value)
    assert rtt_entry.is_unassigned(raw)
    assert not rtt_entry.is_live(raw)
    assert not raw & 1
    for level in range(4):
        assert rtt_entry.hipas(raw, level) is Hipas.UNASSIGNED
    assert rtt_entry.ripas(raw) is value


@given(HOST, LEVELS)
def test_host_descriptors_come_back_as_given(desc: int, level: int) -> None:
    assert rtt_entry.host_descriptor_valid(desc)
    raw = rtt_entry.assigned_ns(desc, level)
    assert rtt_entry.hipas(raw, level) is Hipas.ASSIGNED_NS
    assert rtt_entry.host_descriptor(raw) == desc
    assert rtt_entry.ripas(raw) is Ripas.EMPTY
    assert (raw >> 55 & 1, raw >> 53 & 3, raw >> 10 & 1) == (1, 2, 1), "Non-secure, never executable, no AF fault"
    cacheable = desc >> 2 & 7 in (6, 7)
    assert raw >> 8 & 3 == (3 if cacheable else 2)


@given(PA, st.integers(0, 2))
def test_tables_are_live(pa: int, level: int) -> None:
    raw = rtt_entry.table(pa)
    assert rtt_entry.hipas(raw, level) is Hipas.TABLE
    assert (rtt_entry.address(raw), rtt_entry.is_live(raw), rtt_entry.is_table(raw, level)) == (pa, True, True)


@given(HOST, PA, st.sampled_from(Ripas), LEVELS, LEVELS)
def test_the_type_bits_follow_the_level(desc: int, pa: int, value: Ripas, level: int, other: int) -> None:
    protected, unprotected = rtt_entry.assigned(pa, level, value), rtt_entry.assigned_ns(desc, level)
    assert rtt_entry.with_level(protected, other) == rtt_entry.assigned(pa, other, value)
    assert rtt_entry.with_level(unprotected, other) == rtt_entry.assigned_ns(desc, other)


def test_words() -> None:
    assert rtt_entry.describe(rtt_entry.unassigned(Ripas.DESTROYED), 2) == "UNASSIGNED/DESTROYED"
    assert rtt_entry.describe(rtt_entry.assigned(0x8000_0000, 3, Ripas.RAM), 3) == "ASSIGNED/RAM 0x80000000"
    assert rtt_entry.describe(rtt_entry.table(0x8000_0000), 2) == "TABLE 0x80000000"
    assert rtt_entry.describe(rtt_entry.UNASSIGNED_NS, 1) == "UNASSIGNED_NS"
