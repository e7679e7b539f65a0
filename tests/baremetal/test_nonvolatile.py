import os
from pathlib import Path

import pytest

from realmkit.arch.errors import RealmkitError
from realmkit.baremetal import Limits, NonVolatile, Outcome
from realmkit.machine.platform import AddressRange
from tests.baremetal.kit import POWER_OFF, flat, mov64, movz, prebuilt, run, str32

NVM = AddressRange(0x8280_0000, 0x1_0000)
WRITE_77 = (*mov64(1, NVM.base), movz(2, 0x77), str32(2, 1), *POWER_OFF)


@pytest.mark.parametrize("cpus", [1, 2])
def test_progress_survives_resets_and_nothing_else_does(cpus: int) -> None:
    result = run(prebuilt("resets"), cpus=cpus, nvm=NonVolatile(NVM))
    assert result.outcome is Outcome.POWER_OFF, result.uarts
    assert "FAIL" not in result.uarts[2]
    assert result.uarts[2].endswith("0 failed\n")
    assert result.resets == ["system-reset", "watchdog", "sbsa-watchdog", "watchdog"]


def test_resets_are_deterministic() -> None:
    first, second = (run(prebuilt("resets"), cpus=2, nvm=NonVolatile(NVM)) for _ in range(2))
    assert (first.ticks, first.uarts) == (second.ticks, second.uarts)


def test_file_is_written_at_the_end_and_read_at_power_on(tmp_path: Path) -> None:
    file = tmp_path / "nvm.bin"
    run(flat(WRITE_77), nvm=NonVolatile(NVM, file))
    content = file.read_bytes()
    assert content == b"\x77\0\0\0" + b"\xff" * (NVM.size - 4)
    file.write_bytes(b"\x41")
    words = (*mov64(1, NVM.base), 0xB940_0022, *mov64(3, 0x1C0B_0000), str32(2, 3), *POWER_OFF)  # ldr w2, [x1]
    assert run(flat(words), nvm=NonVolatile(NVM, file)).uarts == {2: "A"}


def test_file_is_written_when_the_run_ends_badly(tmp_path: Path) -> None:
    file = tmp_path / "nvm.bin"
    result = run(flat((*WRITE_77[:-3], 0)), nvm=NonVolatile(NVM, file))
    assert result.outcome is Outcome.CRASHED
    assert file.read_bytes()[0] == 0x77


def test_progress_across_runs(tmp_path: Path) -> None:
    file = tmp_path / "nvm.bin"
    stopped = run(prebuilt("resets"), nvm=NonVolatile(NVM, file), limits=Limits(until="step 2"))
    assert stopped.outcome is Outcome.TEXT_SEEN
    result = run(prebuilt("resets"), nvm=NonVolatile(NVM, file))
    assert "first boot" not in result.uarts[2]
    assert "step 3" in result.uarts[2]
    assert result.uarts[2].endswith("0 failed\n")


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    file = tmp_path / "nvm.bin"
    file.write_bytes(bytes(NVM.size + 1))
    with pytest.raises(RealmkitError, match="has 65537 bytes, the range has 65536"):
        run(flat(POWER_OFF), nvm=NonVolatile(NVM, file))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(RealmkitError, match="cannot read the non-volatile memory file"):
        run(flat(POWER_OFF), nvm=NonVolatile(NVM, tmp_path))


def test_a_file_whose_directory_is_missing(tmp_path: Path) -> None:
    with pytest.raises(RealmkitError, match="there is no directory"):
        run(flat(POWER_OFF), nvm=NonVolatile(NVM, tmp_path / "none" / "nvm.bin"))


def test_pipes_and_devices_are_no_memory(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for file in (pipe, Path("/dev/zero")):
        with pytest.raises(RealmkitError, match="not a regular file"):
            run(flat(POWER_OFF), nvm=NonVolatile(NVM, file))


@pytest.mark.parametrize(("base", "size"), [(0x8280_0001, 4096), (0x8280_0000, 100), (0x8280_0000, 0)])
def test_ranges_are_whole_pages(base: int, size: int) -> None:
    with pytest.raises(RealmkitError, match="multiples of 4096"):
        NonVolatile(AddressRange(base, size))


def test_range_must_not_overlap_an_image() -> None:
    with pytest.raises(RealmkitError, match="overlap"):
        run(flat(POWER_OFF, NVM.base), nvm=NonVolatile(NVM))
