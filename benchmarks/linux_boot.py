"""Linux as a Realm from start to power-off, against the same kernel and initramfs as a plain VM under QEMU.

``--guest DIR`` names what ``tools/fetch-guest`` makes. Both run as processes of their own, whose CPU time is taken
from the operating system, so that start-up and everything else counts on both sides. Two more compare what 8 GB of
memory cost. A further boot, in this process and with clocks in its way, splits the cost by cause.
"""

import resource
import shutil
import subprocess
import sys
import tempfile
import time
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
LARGE_MIB = 8192
_PARAMETERS = "cryptomgr.notests=1 realmkit.poweroff"
_REALMKIT = "from realmkit.cli.main import main; main()"
_INIT = b"Run /init as init process"
_PROOF = b"Power down"


class _Silence:
    """A watcher who looks away."""

    def phase(self, name: str) -> None:
        pass

    def console(self, data: bytes) -> None:
        pass


def _cpu_time_of(command: list[str], arrivals: list[float]) -> float:
    """CPU time of a process and its children in seconds; when it came to /init, in seconds of wall time, is noted."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    lines: list[bytes] = []
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if _INIT in line:
                arrivals.append(time.perf_counter() - begin)
            lines.append(line)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode or not any(_PROOF in line for line in lines):
        tail = b"".join(lines[-40:]).decode(errors="replace")
        raise RuntimeError(f"{command[0]} ended with {process.returncode} and did not print {_PROOF!r}:\n{tail}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _qemu(kernel: Path, initrd: Path, memory: int = MEMORY_MIB) -> list[str]:
    machine = ["-M", "virt,gic-version=3", "-cpu", "max", "-accel", "tcg,thread=single", "-m", str(memory)]
    devices = ["-nic", "none", "-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot"]
    images = ["-kernel", str(kernel), "-initrd", str(initrd), "-append", f"console=ttyAMA0 {_PARAMETERS}"]
    return [QEMU, *machine, *devices, *images]


def _realm(kernel: Path, initrd: Path, memory: int = MEMORY_MIB) -> list[str]:
    options = ["--kernel", str(kernel), "--initrd", str(initrd), "-m", f"{memory}M", "--params", _PARAMETERS]
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
        arrivals: list[float] = []
        ours, theirs = interleaved(
            rounds,
            lambda: _cpu_time_of(_realm(kernel, initrd), arrivals),
            lambda: _cpu_time_of(_qemu(kernel, initrd), []),
        )
        large = _cpu_time_of(_realm(kernel, initrd, LARGE_MIB), []) / median(ours)
        large_qemu = _cpu_time_of(_qemu(kernel, initrd, LARGE_MIB), []) / median(theirs)
        split = _split(kernel, initrd)
    return [
        Measurement("Linux as a Realm : plain VM under QEMU", ratio(ours, theirs), "CPU time", goal=2, required=4),
        Measurement("Linux as a Realm", median(ours), "s"),
        Measurement("plain VM under QEMU", median(theirs), "s"),
        Measurement("Linux as a Realm, to /init", median(arrivals), "s wall", goal=8, required=20),
        Measurement("Realm with 8 GB : 256 MB", large, "CPU time", required=large_qemu, note="bound: QEMU's ratio"),
        *(Measurement(f"of a watched boot: {name}", value, "s", note=note) for name, value, note in split.parts()),
    ]
