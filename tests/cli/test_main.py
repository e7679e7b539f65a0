"""The command as a whole."""

import pytest

from realmkit import __version__
from tests.cli.kit import realmkit


def test_version() -> None:
    done = realmkit("--version")
    assert (done.code, done.out) == (0, f"realmkit {__version__}\n")


def test_help_names_the_commands() -> None:
    done = realmkit("--help")
    assert done.code == 0
    assert "run" in done.out
    assert "doctor" in done.out


def test_help_of_run_names_every_option() -> None:
    done = realmkit("run", "--help")
    assert done.code == 0
    for option in ("--mem", "--cpus", "--measurement-algo", "--realm-pv", "--report", "--trace", "--challenge"):
        assert option in done.out
    for option in ("--token-out", "--trust-anchor-out", "--max-ticks", "--seed"):
        assert option in done.out


@pytest.mark.parametrize("arguments", [("nonsense",), ("run", "--nonsense"), ("--nonsense",)])
def test_unknown_words_are_wrong_usage(arguments: tuple[str, ...]) -> None:
    done = realmkit(*arguments)
    assert done.code == 2
    assert "nonsense" in done.err


def test_doctor_finds_what_is_required() -> None:
    done = realmkit("doctor")
    assert done.code == 0
    assert "unicorn" in done.out
    assert "2.1.4 (tested)" in done.out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(("run", "--trace", "/dev/full"), "No space left"), (("run", "--report", "x" * 300), "File name too long")],
)
def test_files_that_cannot_be_written_are_one_line(arguments: tuple[str, ...], named: str) -> None:
    done = realmkit(*arguments)
    assert done.code == 2
    assert named in done.err
    assert "Traceback" not in done.err
