"""An unmodified Linux kernel as a Realm: needs what tools/fetch-guest leaves, in REALMKIT_GUEST (make linux)."""

import hashlib
import random
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from realmkit.arch.plan import LoadPage
from realmkit.arch.time import TICKS_PER_SECOND
from realmkit.attestation import Expectations, TrustAnchor, Verdict, predict_rim, verify
from realmkit.cli.guest import Disk, Request, build
from realmkit.cli.launch import make_hypervisor, prepare
from realmkit.host.vmm.console import Console
from realmkit.host.vmm.layout import VmConfig
from realmkit.realm import embedded_payload
from tests.cli.kit import Finished, load, realmkit
from tests.linux.kit import GUEST, MIB, PARAMS, Linux, Listener, needs_guest

pytestmark = needs_guest

NONCE = bytes(range(7, 39))


@pytest.fixture(scope="module")
def initrd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("initrd") / "initrd.cpio"
    done = realmkit("initrd", "--from", GUEST, "-o", path, "--selftest")
    assert done.code == 0, done.err
    return path


def make_disk(folder: Path) -> Path:
    path = folder / "disk.img"
    path.write_bytes(random.Random(1).randbytes(4 * MIB))
    return path


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return make_disk(tmp_path)


def boot(initrd: Path, folder: Path, *options: str | Path) -> Finished:
    report = folder / "r.json"
    return realmkit(
        "run", "-k", f"{GUEST}/Image", "-i", initrd, "-p", PARAMS, f"--report={report}", *options, timeout=900
    )


@dataclass(frozen=True)
class Booted:
    """A boot of the self-test as a Realm with a challenge, and the files that it left in ``folder``."""

    folder: Path
    disk: Path
    before: bytes
    """What was on the disk."""
    done: Finished

    @property
    def token(self) -> bytes:
        return (self.folder / "token").read_bytes()

    @property
    def trust_anchor(self) -> TrustAnchor:
        return TrustAnchor.from_pem((self.folder / "anchor").read_bytes())


def boot_with_challenge(initrd: Path, folder: Path, vcpus: int) -> Booted:
    disk = make_disk(folder)
    before = disk.read_bytes()
    files = [f"--token-out={folder}/token", f"--trust-anchor-out={folder}/anchor"]
    done = boot(initrd, folder, f"-c{vcpus}", "-d", disk, "--challenge", NONCE.hex(), *files)
    print(done.out)
    return Booted(folder, disk, before, done)


@pytest.fixture(scope="module")
def booted(initrd: Path, tmp_path_factory: pytest.TempPathFactory) -> Booted:
    return boot_with_challenge(initrd, tmp_path_factory.mktemp("booted"), 1)


def check(booted: Booted, vcpus: int) -> None:
    """The Realm did all that it should."""
    assert booted.done.code == 0, booted.done.err
    report = load(booted.folder / "r.json")
    assert report["outcome"] == "ok"
    assert report["attestation"]["verified"]
    assert report["guest"]["report_provider"] == "arm_cca_guest"
    assert "RSI version 1.0" in report["guest"]["rsi_log"]
    assert report["guest"]["devices_refused"] == []
    assert "script exit status 0" in report["console"]
    assert report["counts"]["psci"].get("CPU_ON", 0) >= vcpus - 1
    assert report["teardown"] == {"granules_not_ns": 0, "granules_not_scrubbed": 0}
    before, after = booted.before, booted.disk.read_bytes()
    assert after[MIB : 2 * MIB] == before[:MIB] == after[:MIB]
    assert hashlib.sha256(after[2 * MIB :]).digest() == hashlib.sha256(before[2 * MIB :]).digest()


def test_linux_boots_attests_tests_itself_and_powers_off(booted: Booted) -> None:
    check(booted, 1)


def test_four_vcpus(initrd: Path, tmp_path: Path) -> None:
    check(boot_with_challenge(initrd, tmp_path, 4), 4)


def test_same_kernel_boots_as_a_plain_vm(initrd: Path, disk: Path, tmp_path: Path) -> None:
    done = boot(initrd, tmp_path, "--no-realm", "-d", f"{disk},ro")
    assert done.code == 0, done.err
    report = load(tmp_path / "r.json")
    assert report["guest"]["rsi_log"] is None
    assert "script exit status 0" in report["console"]
    assert "GRANULE_DELEGATE" not in report["counts"]["rmi"]
    # Nothing is asked, and /init does not wait for it, which would be 100 s of virtual time.
    assert report["counts"]["ticks"] < 60 * TICKS_PER_SECOND


# ---- attestation with the files of a launch ----


def request_of(booted: Booted, initrd: Path) -> Request:
    """The owner's side of that boot."""
    return Request(
        (Path(GUEST) / "Image").read_bytes(),
        "Image",
        VmConfig(256 * MIB),
        NONCE,
        kernel=True,
        initrd=initrd.read_bytes(),
        disks=(Disk(booted.disk),),
        params=PARAMS,
    )


@pytest.fixture(scope="module")
def features() -> int:
    """Features of the platform, which the Realm's parameters follow."""
    request = Request(embedded_payload(), "payload", VmConfig(64 * MIB), NONCE)
    return make_hypervisor(prepare(request, Listener())).rmi.features()


def appraise(booted: Booted, request: Request, features: int) -> tuple[Verdict, bytes]:
    """The verdict on the saved token for the RIM that the files of ``request`` have, and that RIM."""
    with ExitStack() as closing:
        rim = predict_rim(build(request, request.config.realm(features), Console(), closing).plan)
    expected = Expectations(rim=rim, rpv=request.config.rpv, hash_algo="sha-256")
    return verify(booted.token, trust_anchor=booted.trust_anchor, challenge=request.challenge, expected=expected), rim


def flipped(content: bytes) -> bytes:
    """``content`` with one bit of the byte in its middle changed."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def test_one_byte_of_kernel_initrd_or_parameters_fails_verification(
    booted: Booted, initrd: Path, features: int
) -> None:
    request = request_of(booted, initrd)
    verdict, real = appraise(booted, request, features)
    assert verdict.verified
    rims = {real}
    for change in (
        replace(request, image=flipped(request.image)),
        replace(request, initrd=flipped(request.initrd)),
        replace(request, params=PARAMS.replace("=1", "=0")),
    ):
        verdict, rim = appraise(booted, change, features)
        (failed,) = (check for check in verdict.checks if not check.ok)
        assert failed.name == "rim"
        assert failed.status == f"RIM is {real.hex()}; expected {rim.hex()}"
        rims.add(rim)
    assert len(rims) == 4


def test_another_challenge_fails_verification(booted: Booted, initrd: Path, features: int) -> None:
    verdict, _ = appraise(booted, replace(request_of(booted, initrd), challenge=bytes(32)), features)
    (failed,) = (check for check in verdict.checks if not check.ok)
    assert failed.name == "challenge"


# ---- cost ----


def test_creation_costs_what_is_touched_and_not_what_the_guest_may_touch(initrd: Path) -> None:
    costs = []
    for memory in (256 * MIB, 8192 * MIB):
        with Linux(initrd.read_bytes(), memory=memory) as linux:
            costs.append(
                {
                    "measured pages": sum(isinstance(step, LoadPage) and step.measured for step in linux.plan.steps),
                    "commands": linux.launch.counts.as_dict()["rmi"],
                    "tables": len(linux.running.realm.tables),
                    "delegated granules": len(linux.hypervisor.memory.delegated),
                    "granules in all": linux.hypervisor.memory.used,
                    "ticks": linux.hypervisor.port.now(),
                }
            )
    small, large = costs
    assert small == large
    assert small["measured pages"]
