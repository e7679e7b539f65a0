import json
import random
from pathlib import Path

import pytest

from tests.baremetal.kit import CODE, EXAMPLE, POWER_OFF, UDF, branch, flat, mov64, movz, printing, str32
from tests.cli.kit import realmkit


def write(path: Path, *words: int) -> str:
    path.write_bytes(b"".join(data for _, data in flat(words).segments))
    return f"{path}@{CODE:#x}"


def test_the_example_host(tmp_path: Path) -> None:
    report, trace = tmp_path / "report.json", tmp_path / "trace.jsonl"
    done = realmkit("boot", EXAMPLE, "--cpus", "2", "--report", report, "--trace", trace)
    assert done.code == 0, done.out + done.err
    lines = done.out.splitlines()
    assert lines[0] == "uart2| realmkit example Host at NS-EL2"
    assert all(line.startswith("uart2| ") for line in lines[:-1])
    assert lines[-1].startswith("realmkit: power-off: PSCI SYSTEM_OFF (tick ")
    content = json.loads(report.read_text())
    assert content["schema"] == 1
    assert content["outcome"] == "power-off"
    assert content["ticks"] > 0
    assert content["uarts"]["uart2"].endswith(" 0 failed, 2 PEs\n")
    assert content["counts"]["rmi"]["REC_ENTER"] > 0
    assert content["counts"]["rec_exits"]["HOST_CALL"] > 0
    assert content["counts"]["psci"]["CPU_ON"] == 1
    assert content["counts"]["host_psci"]["SYSTEM_OFF"] == 1
    events = [json.loads(line) for line in trace.read_text().splitlines()]
    assert events[0]["schema"] == 1
    assert any(event.get("name") == "REALM_CREATE" for event in events)


def test_output_is_the_same_twice() -> None:
    first, second = (realmkit("boot", EXAMPLE, "-c", "2") for _ in range(2))
    assert first.out == second.out


def test_crash_report(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    image = write(tmp_path / "a.bin", *mov64(1, 0x1C1D_0000), movz(3, 1), str32(3, 1, 0x18))
    done = realmkit("boot", image, "--report", report)
    assert done.code == 1
    assert "realmkit: crashed: " in done.out
    assert "write of 4 bytes at 0x1c1d0018 from X3 by the instruction at 0x8800000c" in done.out
    assert "=> 0x8800000c: b9001823  str w3, [x1, #0x18]" in done.out
    assert "FAR_EL2 000000001c1d0018" in done.out
    assert "Traceback" not in done.out + done.err
    content = json.loads(report.read_text())
    assert content["outcome"] == "crashed"
    assert content["missing_device"].startswith("write of 4 bytes at 0x1c1d0018")
    assert content["pes"][0]["registers"]["PC"] == "0x8800000c"
    assert content["last_events"]


def test_uarts_to_files_and_unlabelled(tmp_path: Path) -> None:
    words = (
        *printing("console\n"),
        *mov64(1, 0x1C0C_0000),
        movz(2, ord("!")),
        str32(2, 1),
        *mov64(1, 0x1C09_0000),
        movz(2, ord("0")),
        str32(2, 1),
        *POWER_OFF,
    )
    image = write(tmp_path / "a.bin", *words)
    log = tmp_path / "uart3.log"
    done = realmkit("boot", image, "--uart", "2=-", "--uart", f"3={log}")
    assert done.code == 0
    assert done.out.startswith("console\nuart0| 0\nrealmkit: power-off")
    assert log.read_bytes() == b"!"


def test_until_and_limits(tmp_path: Path) -> None:
    image = write(tmp_path / "a.bin", *printing("READY"), 0x9100_0400, branch(-1))
    assert realmkit("boot", image, "--until", "READY").code == 0
    limited = realmkit("boot", image, "--max-ticks", "100000")
    assert (limited.code, "max-ticks" in limited.out) == (1, True)
    timed = realmkit("boot", image, "--timeout-virtual", "0.001")
    assert (timed.code, "timeout: 0.001 s" in timed.out) == (1, True)


def test_nonvolatile_memory_in_a_file(tmp_path: Path) -> None:
    image = write(tmp_path / "a.bin", *mov64(1, 0x8280_0000), movz(2, 0x77), str32(2, 1), *POWER_OFF)
    state = tmp_path / "state=1.bin"
    assert realmkit("boot", image, "--nvm", f"0x82800000:4K={state}").code == 0
    assert state.read_bytes() == b"\x77\0\0\0" + b"\xff" * 4092


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.elf"], "cannot read image nothing.elf"),
        (["{image}", "--cpus", "9"], "9 PEs are not possible"),
        (["{image}", "--entry", "zero"], "'zero' is not a number"),
        (["{image}", "--nvm", "0x82800000"], "is not ADDR:SIZE"),
        (["{image}", "--nvm", "0x82800000:100"], "multiples of 4096"),
        (["{image}", "--uart", "4=-"], "a UART from 0 to 3"),
        (["{image}", "--uart", "2=-", "--uart", "2=-"], "given twice"),
        (["{image}", "--timeout-virtual", "0"], "not a positive number"),
        (["{image}", "--dtb", "{plain}"], "not a devicetree blob"),
        (["{plain}"], "say where it goes"),
        (["{plain}@0x0"], "not inside Non-secure memory"),
        (["{image}", "--report", "/nonexistent/x.json"], "there is no directory"),
    ],
)
def test_wrong_usage(tmp_path: Path, arguments: list[str], message: str) -> None:
    image = write(tmp_path / "a.bin", *POWER_OFF)
    plain = tmp_path / "plain"
    plain.write_bytes(bytes(16))
    done = realmkit("boot", *(text.format(image=image, plain=plain) for text in arguments))
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err


def test_arbitrary_files_do_no_harm(tmp_path: Path) -> None:
    noise = random.Random(0).randbytes(4096)
    for number, content in enumerate((noise, b"\x7fELF" + bytes(100), b"\x1f\x8b" + bytes(100))):
        path = tmp_path / str(number)
        path.write_bytes(content)
        done = realmkit("boot", f"{path}@{CODE:#x}", "--max-ticks", "1000000")
        assert done.code in (1, 2)
        assert "Traceback" not in done.err


def test_undefined_entry(tmp_path: Path) -> None:
    done = realmkit("boot", write(tmp_path / "a.bin", UDF))
    assert done.code == 1
    assert "an exception that nothing handles: UNKNOWN" in done.out


def test_output_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    image = write(tmp_path / "a.bin", *printing("console\n"), branch(0))
    done = realmkit("boot", image, "--uart=2=/dev/full")
    assert done.code == 2
    assert done.err == "realmkit: cannot write the output of UART 2 to /dev/full: No space left on device\n"


def test_results_have_files_of_their_own(tmp_path: Path) -> None:
    image = write(tmp_path / "a.bin", branch(0))
    log = tmp_path / "log"
    for other in (f"--uart=1={log}", f"--trace={log}", f"--nvm=0x82800000:64K={log}"):
        done = realmkit("boot", image, f"--uart=0={log}", other)
        assert done.code == 2
        assert "at once: give each a file of its own" in done.err


def test_results_do_not_replace_what_they_were_made_of(tmp_path: Path) -> None:
    placed, image = write(tmp_path / "a.bin", branch(0)), tmp_path / "a.bin"
    before = image.read_bytes()
    (tmp_path / "same").hardlink_to(image)
    for result in (f"--report={image}", f"--trace={tmp_path}/same", f"--uart=0={image}"):
        done = realmkit("boot", placed, "--max-ticks=1000", result)
        assert done.code == 2
        assert "an image and" in done.err or "and an image" in done.err
        assert image.read_bytes() == before
