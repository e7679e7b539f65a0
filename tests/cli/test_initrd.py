"""``realmkit initrd``."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from realmkit.arch.errors import RealmkitError
from realmkit.cli.initrd import initrd
from tests.guest.kit import RELEASE, make_guest, read_cpio

APP = typer.Typer(pretty_exceptions_enable=False)
APP.command("initrd")(initrd)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(APP, [str(argument) for argument in arguments])


@pytest.fixture
def guest(tmp_path: Path) -> Path:
    return make_guest(tmp_path / "guest")


def test_writes_an_initramfs_and_says_what_is_in_it(guest: Path, tmp_path: Path) -> None:
    out = tmp_path / "initrd.cpio"
    done = run("--from", guest, "-o", out)
    assert done.exit_code == 0
    assert "init" in read_cpio(out.read_bytes())
    assert f"{out.stat().st_size} bytes, {-(-out.stat().st_size // 4096)} pages" in done.output
    assert RELEASE in done.output
    assert "arm_cca_guest (built in: virtio_console)" in done.output


def test_every_option(guest: Path, tmp_path: Path) -> None:
    script, out, report = tmp_path / "s", tmp_path / "o", tmp_path / "r.json"
    script.write_text("echo hello\n")
    done = run(
        *("--from", guest, "--output", out, "--script", script, "--module", "unneeded", "--gzip", "--report", report)
    )
    assert done.exit_code == 0
    assert out.read_bytes()[:2] == b"\x1f\x8b"
    found = json.loads(report.read_text())
    assert found["size"] == out.stat().st_size
    assert "unneeded" in [module["name"] for module in found["modules"]]
    assert "/script" in [file["name"] for file in found["files"]]


def test_selftest(guest: Path, tmp_path: Path) -> None:
    assert run("--from", guest, "-o", tmp_path / "o", "--selftest").exit_code == 0
    assert "realmkit/selftest" in read_cpio((tmp_path / "o").read_bytes())


@pytest.mark.parametrize("missing", [("-o", "x"), ("--from", ".")])
def test_source_and_output_are_required(missing: tuple[str, str]) -> None:
    assert run(*missing).exit_code == 2


def test_errors_name_what_is_wrong_and_leave_no_file(guest: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    for arguments, message in (
        (("--from", tmp_path / "none", "-o", out), "none is not a directory"),
        (("--from", guest, "-o", tmp_path / "no/where"), "there is no directory"),
        (("--from", guest, "-o", tmp_path), "it is a directory"),
        (("--from", guest, "-o", out, "--report", tmp_path / "no/where"), "cannot write the report"),
        (("--from", guest, "-o", out, "--script", tmp_path / "s"), "cannot read script .*s: No such file"),
        (("--from", guest, "-o", out, "--script", tmp_path), "script .* is a directory"),
        (("--from", guest, "-o", out, "--script", "/dev/zero"), "script /dev/zero is a character device"),
        (("--from", guest, "-o", out, "--script", "s", "--selftest"), "exclude each other"),
        (("--from", guest, "-o", out, "--module", "nonsense"), "no module 'nonsense'"),
    ):
        done = run(*arguments)
        assert done.exit_code == 1
        assert isinstance(done.exception, RealmkitError)
        with pytest.raises(RealmkitError, match=message):
            raise done.exception
        assert not out.exists()
