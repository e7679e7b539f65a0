"""Linux as a Realm from start to power-off, against the same kernel and initramfs as a plain VM under QEMU.

``--guest DIR`` names what ``tools/fetch-guest`` makes. Both run as processes of their own, whose CPU time is taken
from the operating system, so that start-up and everything else counts on both sides. A further boot, in this process
and with clocks in its way, splits the cost by cause.
"""

import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.measure import Measurement, Settings, Unavailable, interleaved, ratio
from benchmarks.split import Split, watched
from realmkit.cli import launch
from realmkit.cli.guest import Request
from realmkit.guest import build
from realmkit.host.vmm.layout import VmConfig

QEMU = "qemu-system-aarch64"
MEMORY_MIB = 256
_PARAMETERS = "cryptomgr.notests=1 realmkit.poweroff"
_REALMKIT = "from realmkit.cli.main import main; main()"
_TIMEOUT = 600


class _Silence:
    """A watcher who looks away."""

    def phase(self, name: str) -> None:
        pass

    def console(self, data: bytes) -> None:
        pass


def _cpu_time_of(command: list[str], proof: str) -> float:
    """CPU time of a process and its children in seconds; ``proof`` must be in what it prints."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=_TIMEOUT,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode or proof.encode() not in done.stdout:
        tail = done.stdout[-2000:].decode(errors="replace")
        raise RuntimeError(f"{command[0]} ended with {done.returncode} and did not print {proof!r}:\n{tail}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _qemu(kernel: Path, initrd: Path) -> list[str]:
    machine = ["-M", "virt,gic-version=3", "-cpu", "max", "-accel", "tcg,thread=single", "-m", str(MEMORY_MIB)]
    devices = ["-nic", "none", "-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot"]
    images = ["-kernel", str(kernel), "-initrd", str(initrd), "-append", f"console=ttyAMA0 {_PARAMETERS}"]
    return [QEMU, *machine, *devices, *images]


def _realm(kernel: Path, initrd: Path) -> list[str]:
    options = ["--kernel", str(kernel), "--initrd", str(initrd), "-m", f"{MEMORY_MIB}M", "--params", _PARAMETERS]
    return [sys.executable, "-c", _REALMKIT, "run", *options]


def _split(kernel: Path, initrd: Path) -> Split:
    """One boot with clocks between the parts."""
    request = Request(
        kernel.read_bytes(),
        kernel.name,
        VmConfig(MEMORY_MIB << 20),
        b"",
        kernel=True,
        initrd=initrd.read_bytes(),
        params=_PARAMETERS,
        attest=False,
    )
    with watched() as split:
        launched = launch.prepare(request, _Silence())
        launch.execute(launched, launch.make_hypervisor(launched), _Silence())
    outcome, reason = launched.outcome
    if outcome != "ok":
        raise RuntimeError(f"the watched boot ended with {outcome}: {reason}")
    return split


def run(settings: Settings) -> list[Measurement]:
    """CPU time from start to power-off; needs a guest, and QEMU for the ratio."""
    if settings.guest is None:
        raise Unavailable("needs a Linux guest: --guest DIR, as tools/fetch-guest makes it")
    kernel = settings.guest / "Image"
    if not kernel.is_file():
        raise Unavailable(f"there is no {kernel}: tools/fetch-guest makes such a directory")
    if shutil.which(QEMU) is None:
        raise Unavailable(f"there is no {QEMU}: install Debian's qemu-system-arm")
    rounds = 1 if settings.quick else 3
    with tempfile.TemporaryDirectory() as scratch:
        initrd = Path(scratch) / "initrd.cpio"
        initrd.write_bytes(build(settings.guest).content)
        ours, theirs = interleaved(
            rounds,
            lambda: _cpu_time_of(_realm(kernel, initrd), "Power down"),
            lambda: _cpu_time_of(_qemu(kernel, initrd), "Power down"),
        )
        split = _split(kernel, initrd)
    return [
        Measurement("Linux as a Realm : plain VM under QEMU", ratio(ours, theirs), "CPU time", goal=2, required=4),
        Measurement("Linux as a Realm", median(ours), "s"),
        Measurement("plain VM under QEMU", median(theirs), "s"),
        *(Measurement(f"of a watched boot: {name}", value, "s", note=note) for name, value, note in split.parts()),
    ]
