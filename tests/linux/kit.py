"""Boots Linux from the library, with a secret that only the guest knows and a Host that a test can make hostile."""

import hashlib
import os
import re
import sys
from array import array
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest

from realmkit.arch.pas import Pas
from realmkit.cli.guest import Disk, Request, build
from realmkit.cli.launch import Launch, default_challenge, execute, make_hypervisor, prepare
from realmkit.cli.observers import Counts, ExceptionLoop
from realmkit.host.exits import Exit
from realmkit.host.hypervisor import RunningRealm, RunResult, Vcpu
from realmkit.host.vmm.layout import VmConfig
from realmkit.machine.port import GranuleProtectionFault
from realmkit.realm import embedded_payload

GUEST = os.environ.get("REALMKIT_GUEST", "")
needs_guest = pytest.mark.skipif(not GUEST, reason="REALMKIT_GUEST names no guest directory: see make linux")

PARAMS = "cryptomgr.notests=1 realmkit.poweroff"
MIB = 1 << 20
READY = "the secret is there"
SPOILT = "the secret is spoilt"
_PRESENT = 1 << 63
_SEED = "what the script begins with, which is no secret"
_HASHES = 3


def secret() -> bytes:
    """32 bytes that the script of :func:`keeper` computes: neither files nor parameters of the guest hold them."""
    text = _SEED
    for _ in range(_HASHES):
        text = hashlib.sha256(f"{text}\n".encode()).hexdigest()
    return bytes.fromhex(text)


def _parts() -> Iterator[bytes]:
    """What a copy of the secret holds, in either form and also where it crosses from one page to another."""
    for form in (secret(), secret().hex().encode()):
        half = len(form) // 2
        yield form[:half]
        yield form[half:]


def keeper(rounds: int) -> str:
    """A /script that makes the secret, keeps it as text and as bytes in files and in the shell, and works on.

    Each round copies and compares it, reads the first disk if there is one, prints a line and sleeps.
    """
    return f"""#!/bin/sh
secret="{_SEED}"
for n in {" ".join(map(str, range(_HASHES)))}; do
    secret=$(echo "$secret" | sha256sum)
    secret=${{secret%% *}}
done
echo "$secret" >/tmp/text
echo -e -n "$(echo "$secret" | sed 's/../\\\\x&/g')" >/tmp/bytes
echo "{READY}: $(wc -c </tmp/bytes) bytes"
round=0
while [ $round -lt {rounds} ]; do
    cp /tmp/bytes /tmp/copy
    [ "$(cat /tmp/text)" = "$secret" ] && cmp -s /tmp/bytes /tmp/copy || echo "{SPOILT}"
    if [ -b /dev/vda ]; then
        echo 3 >/proc/sys/vm/drop_caches
        dd if=/dev/vda of=/dev/null bs=65536 count=2 2>/dev/null
    fi
    head -c 16 /dev/hwrng >/dev/null 2>&1
    round=$((round + 1))
    echo "round $round"
    sleep 0.02
done
echo "all rounds done"
"""


class Listener:
    """Sees what the guest prints."""

    def __init__(self) -> None:
        self.output = bytearray()

    def phase(self, name: str) -> None:
        pass

    def console(self, data: bytes) -> None:
        self.output += data


@dataclass
class Linux:
    """A Realm with Linux, built and not yet run. Leaving the context destroys it."""

    initrd: bytes
    disks: tuple[Disk, ...] = ()
    params: str = f"quiet loglevel=1 {PARAMS}"
    memory: int = 256 * MIB
    listener: Listener = field(default_factory=Listener)
    shown: set[int] = field(default_factory=set)
    """Words of the secret that registers held at exits."""

    def __post_init__(self) -> None:
        image = (Path(GUEST) / "Image").read_bytes()
        config = VmConfig(self.memory)
        request = Request(
            image,
            "Image",
            config,
            default_challenge(0),
            kernel=True,
            initrd=self.initrd,
            disks=self.disks,
            params=self.params,
            console="virtio",
        )
        self.closing = ExitStack()
        self.launch = prepare(request, self.listener)
        self.hypervisor = make_hypervisor(self.launch)
        realm = config.realm(self.hypervisor.rmi.features())
        guest = build(request, realm, self.launch.console, self.closing)
        self.plan, self.devices = guest.plan, guest.devices
        self.running: RunningRealm = self.hypervisor.create(self.plan, self.devices)
        self.running.after_exit.append(self._look)
        key = secret()
        forms = key, key.hex().encode()
        self._words = {int.from_bytes(form[n : n + 8], "little") for form in forms for n in range(len(form) - 7)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.hypervisor.destroy(self.running)
        self.closing.close()

    def _look(self, running: object, vcpu: Vcpu, record: Exit) -> None:
        self.shown |= self._words.intersection(record.gprs)

    @property
    def text(self) -> str:
        return self.launch.console.text

    # ---- running ----

    def run(self, ticks: int) -> RunResult:
        """Run for at most so many ticks; a guest that failed is tried again."""
        self.running.result = None
        return self.hypervisor.run(self.running, max_ticks=self.hypervisor.port.now() + ticks)

    def run_until(self, text: str, ticks: int) -> RunResult:
        """Run until the guest prints ``text``, which it has not printed yet: the outcome is INTERRUPTED then."""
        marker, start = text.encode(), len(self.listener.output)

        def stop(running: object, vcpu: Vcpu, record: Exit) -> None:
            if self.listener.output.find(marker, start) >= 0:
                self.hypervisor.stop_requested = True

        self.running.after_exit.append(stop)
        result = self.run(ticks)
        self.running.after_exit.remove(stop)
        self.hypervisor.stop_requested = False
        return result

    @property
    def is_ready(self) -> bool:
        return READY in self.text

    @property
    def rounds(self) -> int:
        """Rounds of the script that are done."""
        return self.text.count("\nround ")

    # ---- what must hold ----

    def protected_places(self) -> list[int]:
        """Physical addresses of the secret, by the machine's own eyes; fails where the Host can read one."""
        found = []
        for part in _parts():
            for pa in _search(self.launch, part):
                try:
                    self.hypervisor.port.bus.read(Pas.NS, pa, len(part))
                except GranuleProtectionFault:
                    found.append(pa)
                else:
                    pytest.fail(f"the Host reads the secret at {pa:#x}")
        return found

    def assert_secret_unseen(self) -> None:
        """Neither memory of the Host, nor registers at exits, nor the console shows it, and the guest never lost it."""
        self.protected_places()
        assert not self.shown
        assert not any(part in self.listener.output for part in _parts())
        assert SPOILT not in self.text

    def assert_sound(self) -> None:
        """After the Realm is destroyed nothing of it is left, and the same machine runs another one that attests."""
        self.assert_secret_unseen()
        self.hypervisor.destroy(self.running)
        memory, stack = self.hypervisor.memory, self.launch.stack
        assert self.protected_places() == []
        assert not memory.delegated
        assert not memory.not_scrubbed
        assert not memory.used
        assert not self.launch.granules.held
        assert not stack.rmm.realms
        assert not stack.rmm.recs
        request = Request(embedded_payload(), "payload", VmConfig(64 * MIB), default_challenge(0))
        other = Launch(request, stack, Counts(), ExceptionLoop())
        other.observe()
        execute(other, self.hypervisor, Listener())
        assert other.outcome[0] == "ok", other.outcome
        assert other.verdict is not None
        assert other.verdict.verified


def _search(launch: Launch, wanted: bytes) -> Iterator[int]:
    """Physical addresses of ``wanted`` in all memory of the platform that was ever touched."""
    for region in launch.stack.machine.memory.regions:
        for offset, size in _resident(region.host_address, region.size):
            part = bytes(region.buffer[offset : offset + size])
            for match in re.finditer(re.escape(wanted), part):
                yield region.base + offset + match.start()


def _resident(address: int, size: int) -> Iterator[tuple[int, int]]:
    """(offset, size) of runs of pages that the operating system has given to this range of the process."""
    if not sys.platform.startswith("linux"):
        yield 0, size
        return
    page = os.sysconf("SC_PAGE_SIZE")
    with open("/proc/self/pagemap", "rb") as pagemap:
        pagemap.seek(address // page * 8)
        entries = array("Q", pagemap.read(size // page * 8))
    start = None
    for n, entry in enumerate(entries):
        if entry & (_PRESENT | _PRESENT >> 1):
            start = n if start is None else start
        elif start is not None:
            yield start * page, (n - start) * page
            start = None
    if start is not None:
        yield start * page, size - start * page
