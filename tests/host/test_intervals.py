"""Sets of addresses as ranges, against sets of addresses."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from realmkit.host.intervals import Intervals

STEP = st.tuples(st.booleans(), st.integers(0, 40), st.integers(0, 40))


@given(st.lists(STEP, max_size=40))
def test_behaves_as_a_set(steps: list[tuple[bool, int, int]]) -> None:
    ranges, model = Intervals(), set[int]()
    for add, base, top in steps:
        if add:
            ranges.add(base, top)
            model |= set(range(base, top))
        else:
            ranges.remove(base, top)
            model -= set(range(base, top))
        assert {n for n in range(42) if n in ranges} == model
        pieces = list(ranges)
        assert all(low < high for low, high in pieces)
        assert all(high < low for (_, high), (low, _) in pairwise(pieces)), "ranges that touch are one"


def test_empty() -> None:
    ranges = Intervals()
    assert 0 not in ranges
    ranges.remove(0, 10)
    ranges.add(5, 5)
    assert list(ranges) == []
