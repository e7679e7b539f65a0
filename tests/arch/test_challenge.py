import pytest
from hypothesis import given
from hypothesis import strategies as st

from realmkit.arch.challenge import (
    MAX_LINE,
    MAX_LOG_LINES,
    MAX_TOKEN,
    Answer,
    AnswerReader,
    encode_challenge,
    encode_poweroff,
)
from realmkit.arch.errors import RealmkitError

TOKEN = bytes(range(256)) * 5


def answer(token: bytes, width: int = 16) -> bytes:
    """An answer as the guest's script writes it."""
    lines = [b"provider arm_cca_guest", b"log RME: Using RSI version 1.0", b"token %d" % len(token)]
    lines += [b"data " + token[i : i + width].hex().encode() for i in range(0, len(token), width)]
    return b"".join(line + b"\n" for line in [*lines, b"end"])


def test_a_challenge_is_one_line_of_hexadecimal() -> None:
    assert encode_challenge(bytes(range(32))) == b"challenge " + bytes(range(32)).hex().encode() + b"\n"
    assert len(encode_challenge(bytes(64))) == len("challenge ") + 128 + 1
    assert encode_poweroff() == b"poweroff\n"


@pytest.mark.parametrize("size", [0, 31, 65])
def test_nonces_that_the_driver_refuses_are_refused(size: int) -> None:
    with pytest.raises(RealmkitError, match=f"a challenge of {size} bytes"):
        encode_challenge(bytes(size))


@given(st.binary(min_size=1, max_size=600), st.lists(st.integers(1, 50), max_size=30), st.integers(1, 64))
def test_an_answer_comes_back_however_it_is_cut(token: bytes, cuts: list[int], width: int) -> None:
    reader, data, answers = AnswerReader(), answer(token, width), []
    for cut in [*cuts, len(data)]:
        answers += reader.feed(data[:cut])
        data = data[cut:]
    assert answers == [Answer(token, "arm_cca_guest", ("RME: Using RSI version 1.0",))]


def test_answers_follow_each_other() -> None:
    data = answer(b"one") + b"error no provider\n" + answer(b"two")
    answers = AnswerReader().feed(data)
    assert [each.token for each in answers] == [b"one", b"", b"two"]
    assert answers[1].error == "no provider"


def test_the_longest_token_fits_in_lines_of_16_bytes() -> None:
    (got,) = AnswerReader().feed(answer(bytes(MAX_TOKEN)))
    assert got.token == bytes(MAX_TOKEN)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"hello\n", "not in the protocol: 'hello'"),
        (b"\n", "not in the protocol: ''"),
        (b"\xff\x1b[2J\n", "not in the protocol: '\\?\\?\\[2J'"),
        (b"token\n", "token of '' bytes"),
        (b"token 0\n", "token of '0' bytes"),
        (b"token -1\n", "token of '-1' bytes"),
        (b"token %d\n" % (MAX_TOKEN + 1), "bytes: 1 to"),
        (b"token 99999999999999999999\n", "bytes: 1 to"),
        (b"token 1\ntoken 1\n", "two tokens"),
        (b"data 00\n", "data before the token's length"),
        (b"token 2\ndata 0\n", "not hexadecimal"),
        (b"token 2\ndata \n", "not hexadecimal"),
        (b"token 2\ndata 0 00\n", "not hexadecimal"),
        (b"token 2\ndata 0x00\n", "not hexadecimal"),
        (b"token 1\ndata 0000\n", "more data than the 1 bytes"),
        (b"token 2\ndata 00\nend\n", "announced a token of 2 bytes and ends after 1 bytes"),
        (b"end\n", "announced no token"),
        (b"log x\n" * 5000, "more than .* lines"),
        (b"x" * (MAX_LINE + 1), "a line of more than 4096 bytes"),
        (b"log " + b"x" * MAX_LINE + b"\nend\n", "a line of more than 4096 bytes"),
    ],
)
def test_what_is_no_answer_is_refused_and_the_next_answer_is_read(data: bytes, message: str) -> None:
    reader = AnswerReader()
    with pytest.raises(RealmkitError, match=message):
        reader.feed(data)
    assert [each.token for each in reader.feed(answer(TOKEN))] == [TOKEN]


def test_a_guest_cannot_command_the_terminal_or_fill_the_report() -> None:
    text = b"\x1b]0;x\x07" + b"y" * 1000
    data = b"provider " + text + b"\n" + (b"log " + text + b"\n") * 100 + b"error " + text + b"\n"
    (got,) = AnswerReader().feed(data)
    for each in (got.provider, got.error, *got.log):
        assert each.isprintable()
        assert len(each) <= 256
    assert len(got.log) == MAX_LOG_LINES


@given(st.lists(st.binary(max_size=30) | st.sampled_from([b"\n", b"end", b"token 3", b"data 00"]), max_size=20))
def test_any_bytes_are_answers_or_the_one_error(pieces: list[bytes]) -> None:
    reader = AnswerReader()
    for piece in pieces:
        try:
            reader.feed(piece)
        except RealmkitError:
            continue
