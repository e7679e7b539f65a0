"""The shell scripts that run in the guest, here with this machine's shells and a fake configfs."""

import os
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

from realmkit.arch.challenge import PORT_NAME, AnswerReader
from realmkit.guest.elf import parse

SHELLS = [shell for shell in ("sh", "dash", "bash", "busybox") if shutil.which(shell)]
TOKEN = bytes(range(256)) * 7 + b"\0\n\r"

MKDIR = """#!/bin/sh
/bin/mkdir "$@" || exit 1
for directory; do :; done
printf 'arm_cca_guest\\n' >"$directory/provider"
cp "$TEST_DIRECTORY/token" "$directory/outblob"
"""
RMDIR = '#!/bin/sh\nmv "$1" "$TEST_DIRECTORY/removed"\n'
DMESG = "#!/bin/sh\necho '[    0.0] Linux'\necho '[    0.000000] RME: Using RSI version 1.0'\n"


def text(name: str) -> str:
    return (files("realmkit.guest") / name).read_text()


class Machine:
    """A directory that stands for /sys/kernel/config/tsm/report, with the commands that make entries in it."""

    def __init__(self, root: Path, shell: str) -> None:
        self.root, self.shell = root, shell
        (root / "bin").mkdir()
        (root / "report").mkdir()
        (root / "token").write_bytes(TOKEN)
        for name, content in (("mkdir", MKDIR), ("rmdir", RMDIR), ("dmesg", DMESG)):
            (root / "bin" / name).write_text(content)
            (root / "bin" / name).chmod(0o755)
        script = text("report.sh").replace("/sys/kernel/config/tsm/report", str(root / "report"))
        (root / "report.sh").write_text(script.replace("/run/", f"{root}/"))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        path = f"{self.root}/bin{os.pathsep}{os.environ['PATH']}"
        command = ["busybox", "sh"] if self.shell == "busybox" else [self.shell]
        return subprocess.run(
            [*command, str(self.root / "report.sh"), *arguments],
            capture_output=True,
            check=False,
            timeout=60,
            env={"PATH": path, "TEST_DIRECTORY": str(self.root)},
        )


@pytest.fixture(params=SHELLS)
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    return Machine(tmp_path, request.param)


@pytest.mark.parametrize(
    "nonce",
    [bytes(64), bytes([255]) * 32, bytes(range(64)), bytes(range(192, 256)), b"\n\r\\0%d\0" * 5, bytes(range(90, 123))],
)
def test_the_kernel_gets_the_nonce_and_the_host_the_token(machine: Machine, nonce: bytes) -> None:
    result = machine.run(nonce.hex())
    assert (result.returncode, result.stderr) == (0, b"")
    (answer,) = AnswerReader().feed(result.stdout)
    assert answer.token == TOKEN
    assert answer.provider == "arm_cca_guest"
    assert answer.log == ("RME: Using RSI version 1.0",)
    assert (machine.root / "removed/inblob").read_bytes() == nonce
    assert not list((machine.root / "report").iterdir())


@pytest.mark.parametrize(
    ("nonce", "reason"),
    [
        ("", "0 digits"),
        ("00" * 31, "62 digits"),
        ("00" * 65, "130 digits"),
        ("0" * 65, "65 digits"),
        ("0" * 63 + "g", "not hexadecimal"),
        ("$(reboot)" + "0" * 55, "not hexadecimal"),
        ("0" * 64 + " 00", "not hexadecimal"),
        ("0" * 64 + "\n00", "not hexadecimal"),
    ],
)
def test_a_hostile_nonce_is_an_error_line(machine: Machine, nonce: str, reason: str) -> None:
    result = machine.run(nonce)
    assert result.returncode == 1
    (answer,) = AnswerReader().feed(result.stdout)
    assert reason in answer.error
    assert not list((machine.root / "report").iterdir())


def test_no_nonce_is_an_error_line(machine: Machine) -> None:
    (answer,) = AnswerReader().feed(machine.run().stdout)
    assert "0 digits" in answer.error


def test_a_kernel_without_reports_or_providers_says_so(machine: Machine) -> None:
    (machine.root / "bin/mkdir").write_text("#!/bin/sh\nexit 1\n")
    (answer,) = AnswerReader().feed(machine.run("00" * 32).stdout)
    assert "no report provider" in answer.error
    (machine.root / "report").rmdir()
    (answer,) = AnswerReader().feed(machine.run("00" * 32).stdout)
    assert "module tsm_report" in answer.error


def test_an_empty_report_is_an_error_line(machine: Machine) -> None:
    (machine.root / "token").write_bytes(b"")
    result = machine.run("00" * 32)
    assert result.returncode == 1
    (answer,) = AnswerReader().feed(result.stdout)
    assert "empty report" in answer.error


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("name", ["init.sh", "report.sh", "selftest.sh"])
def test_scripts_parse_in_every_shell(name: str, shell: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text(name))
    command = ["busybox", "sh"] if shell == "busybox" else [shell]
    result = subprocess.run([*command, "-n", str(tmp_path / name)], capture_output=True, check=False)
    assert (result.returncode, result.stderr) == (0, b"")


def answer_of_init(shell: str, root: Path, line: str) -> tuple[str, str, list[str]]:
    """What ``init.sh`` does with a line of the Host's: output for the port, for the console, commands that ran."""
    functions = [
        text("init.sh").partition(f"\n{name}() {{")[2].partition("\n}\n")[0] for name in ("power_off", "answer")
    ]
    script = 'say() { echo "realmkit: $*"; }\n' + "".join(
        f"{name}() {{{body}\n}}\n" for name, body in zip(("power_off", "answer"), functions, strict=True)
    )
    for there, here in (("/realmkit/report", "report"), ("/dev/console", "console"), ("/proc/sysrq-trigger", "sysrq")):
        script = script.replace(there, str(root / here))
    (root / "bin").mkdir()
    for name in ("report", "bin/poweroff", "bin/sync", "bin/reboot"):
        (root / name).write_text(f'#!/bin/sh\necho "{Path(name).name} $*" >>{root}/ran\n')
        (root / name).chmod(0o755)
    (root / "init").write_text(f'{script}port=/dev/vport0p1\nanswer "$1"\n')
    command = ["busybox", "sh"] if shell == "busybox" else [shell]
    result = subprocess.run(
        [*command, str(root / "init"), line],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PATH": f"{root}/bin{os.pathsep}{os.environ['PATH']}"},
    )
    assert result.stderr == ""
    console, ran = root / "console", root / "ran"
    return (
        result.stdout,
        console.read_text() if console.exists() else "",
        ran.read_text().splitlines() if ran.exists() else [],
    )


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("line", "port", "ran"),
    [
        ("challenge 00", "", ["report 00"]),
        ("challenge 00 11 -x", "", ["report 00 11 -x"]),
        ("challenge $(reboot) `reboot`; reboot", "", ["report $(reboot) `reboot`; reboot"]),
        ("poweroff", "", ["sync ", "poweroff -f"]),
        ("", "", []),
        ("challenge", "error the line is not in the protocol\n", []),
        ("reboot; $(reboot)", "error the line is not in the protocol\n", []),
        ("-n", "error the line is not in the protocol\n", []),
    ],
)
def test_init_takes_nothing_but_the_protocol(shell: str, tmp_path: Path, line: str, port: str, ran: list[str]) -> None:
    out, console, commands = answer_of_init(shell, tmp_path, line)
    assert out == port
    assert commands == ran
    assert ("the report went out on /dev/vport0p1" in console) == line.startswith("challenge ")


def test_init_looks_for_the_port_that_the_host_offers() -> None:
    assert f"= {PORT_NAME} ]" in text("init.sh")


def test_the_selftest_program_runs_with_pages_of_any_size() -> None:
    content = (files("realmkit.guest") / "selftest").read_bytes()
    program = parse(content, "selftest")
    assert not program.relocatable
    assert not program.interpreted
    offset, count = int.from_bytes(content[32:40], "little"), int.from_bytes(content[56:58], "little")
    headers = [content[offset + 56 * i : offset + 56 * (i + 1)] for i in range(count)]
    alignments = [int.from_bytes(header[48:56], "little") for header in headers if header[:4] == b"\x01\0\0\0"]
    assert alignments
    assert all(alignment >= 0x10000 for alignment in alignments)
