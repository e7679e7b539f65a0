"""A set of addresses, kept as disjoint ranges."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class Intervals:
    """Half-open ranges [base, top), merged where they touch."""

    __slots__ = ("_bases", "_tops")

    def __init__(self) -> None:
        self._bases: list[int] = []
        self._tops: list[int] = []

    def __contains__(self, address: int) -> bool:
        place = bisect_right(self._bases, address) - 1
        return place >= 0 and address < self._tops[place]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._bases, self._tops, strict=True)

    def add(self, base: int, top: int) -> None:
        """Add a range; an empty one adds nothing."""
        if base >= top:
            return
        first, last = bisect_left(self._tops, base), bisect_right(self._bases, top)
        if first < last:
            base, top = min(base, self._bases[first]), max(top, self._tops[last - 1])
        self._bases[first:last] = [base]
        self._tops[first:last] = [top]

    def remove(self, base: int, top: int) -> None:
        """Remove a range, wherever it was in."""
        if base >= top:
            return
        first, last = bisect_right(self._tops, base), bisect_left(self._bases, top)
        if first >= last:
            return
        bases, tops = [], []
        if self._bases[first] < base:
            bases, tops = [self._bases[first]], [base]
        if self._tops[last - 1] > top:
            bases.append(top)
            tops.append(self._tops[last - 1])
        self._bases[first:last] = bases
        self._tops[first:last] = tops
