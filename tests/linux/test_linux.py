"""An unmodified Linux kernel as a Realm: needs what tools/fetch-guest leaves, in REALMKIT_GUEST (make linux)."""

import hashlib
import os
import random
from pathlib import Path

import pytest

from tests.cli.kit import Finished, load, realmkit

GUEST = os.environ.get("REALMKIT_GUEST", "")
pytestmark = pytest.mark.skipif(not GUEST, reason="REALMKIT_GUEST names no guest directory: see make linux")

NONCE = "6f776e65722773206e6f6e6365206f662033322062797465732c2065786163742e"[:64]
PARAMS = "cryptomgr.notests=1 realmkit.poweroff"
MIB = 1 << 20


@pytest.fixture(scope="module")
def initrd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("initrd") / "initrd.cpio"
    done = realmkit("initrd", "--from", GUEST, "-o", path, "--selftest")
    assert done.code == 0, done.err
    return path


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(random.Random(1).randbytes(4 * MIB))
    return path


def boot(initrd: Path, report: Path, *options: str | Path) -> Finished:
    return realmkit(
        "run", "-k", f"{GUEST}/Image", "-i", initrd, "-p", PARAMS, f"--report={report}", *options, timeout=900
    )


@pytest.mark.parametrize("vcpus", [1, 4])
def test_linux_boots_attests_tests_itself_and_powers_off(initrd: Path, disk: Path, tmp_path: Path, vcpus: int) -> None:
    before = disk.read_bytes()
    done = boot(initrd, tmp_path / "r.json", f"-c{vcpus}", "-d", disk, "--challenge", NONCE)
    print(done.out)
    assert done.code == 0, done.err
    report = load(tmp_path / "r.json")
    assert report["outcome"] == "ok"
    assert report["attestation"]["verified"]
    assert report["guest"]["report_provider"] == "arm_cca_guest"
    assert "RSI version 1.0" in report["guest"]["rsi_log"]
    assert report["guest"]["devices_refused"] == []
    assert "script exit status 0" in report["console"]
    assert report["counts"]["psci"].get("CPU_ON", 0) >= vcpus - 1
    assert report["teardown"] == {"granules_not_ns": 0, "granules_not_scrubbed": 0}
    after = disk.read_bytes()
    assert after[MIB : 2 * MIB] == before[:MIB] == after[:MIB]
    assert hashlib.sha256(after[2 * MIB :]).digest() == hashlib.sha256(before[2 * MIB :]).digest()


def test_same_kernel_boots_as_a_plain_vm(initrd: Path, disk: Path, tmp_path: Path) -> None:
    done = boot(initrd, tmp_path / "r.json", "--no-realm", "-d", f"{disk},ro")
    assert done.code == 0, done.err
    report = load(tmp_path / "r.json")
    assert report["guest"]["rsi_log"] is None
    assert "script exit status 0" in report["console"]
    assert "GRANULE_DELEGATE" not in report["counts"]["rmi"]
