"""The look at a page of code, against a look at each of its words."""

from hypothesis import given
from hypothesis import strategies as st

from realmkit.machine.core import scan
from realmkit.machine.core.fatal import is_fatal

TOPS = (0x08, 0x0B, 0x0C, 0x18, 0x1B, 0x1C, 0x38, 0x3B, 0x3C, 0x03, 0xD5)
words = st.one_of(
    st.integers(0, (1 << 32) - 1),
    st.sampled_from([0xD503_205F, 0xD53B_E040, 0xD53B_0021, 0xD508_83E3, 0xD50B_7525, 0xD538_0000, 0xD51C_1100]),
    st.builds(lambda third, low: 0xD5 << 24 | third << 16 | low, st.sampled_from(TOPS), st.integers(0, 0xFFFF)),
    # Where one word ends and the next begins there is something that looks like one to hook.
    st.sampled_from([0x5F00_0000, 0x0020_03D5, 0x5F20_03D5, 0x1B00_0000, 0x00D5_0000, 0xD5D5_D5D5]),
)


@given(st.lists(words, min_size=1, max_size=64), st.booleans())
def test_a_page(code: list[int], image: bool) -> None:
    page = memoryview(b"".join(word.to_bytes(4, "little") for word in code))
    expected = set()
    for number, word in enumerate(code):
        kind = scan.kind_of(word, image)
        if kind is not None:
            expected.add((4 * number, kind))
        if is_fatal(word):
            expected.add((4 * number, scan.FATAL))
    found = list(scan.find(page, image))
    assert set(found) == expected
    assert len(found) == len(expected)
