"""Realms with a few words of code for the benchmarks to run, built by the Host library."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from realmkit.arch.pas import GRANULE_SIZE
from realmkit.arch.plan import (
    CreateRec,
    CreateTable,
    InitRipas,
    LaunchPlan,
    LoadPage,
    RealmConfiguration,
    Step,
)
from realmkit.arch.rmi import HashAlgorithm, Rmi
from realmkit.arch.vmsa import entry_size
from realmkit.host.exits import Exit, read_exit, write_enter
from realmkit.host.memory import GranuleAllocator, HostMemory
from realmkit.host.realm import HostRealm
from realmkit.host.rmi import RmiClient
from realmkit.machine.pe import NonSecurePort
from realmkit.stack import Stack

CODE = 0
"""IPA of the code page of every benchmark Realm."""
HOST_CALL = 0x1000
"""IPA of its RsiHostCall structure."""
DATA = 0x10_0000
"""IPA where its data begins."""
_BLOCK = entry_size(2)
_NO_REGISTERS = (0,) * 31


@dataclass(frozen=True, slots=True)
class BenchmarkMemory:
    """The Host's books of its memory: single granules from below, large runs from above."""

    rmi: RmiClient
    granules: HostMemory
    runs: GranuleAllocator

    def run(self, size: int) -> int:
        """``size`` bytes in a row, aligned to 2 MB."""
        return self.runs.contiguous(size // GRANULE_SIZE, _BLOCK)


def host_memory(stack: Stack) -> BenchmarkMemory:
    """Take the platform's first Non-secure range for a benchmark."""
    rmi = RmiClient(stack.host_port())
    first = stack.machine.platform.nonsecure_ram()[0]
    half = first.size // 2 & -_BLOCK
    return BenchmarkMemory(
        rmi,
        HostMemory(rmi, [(first.base, half)]),
        GranuleAllocator([(first.base + half, first.size - half)]),
    )


def program(words: Sequence[int]) -> bytes:
    """Instructions as bytes."""
    return b"".join(word.to_bytes(4, "little") for word in words)


def launch_plan(
    words: Sequence[int], registers: Sequence[int], data_size: int = 0, pages: Mapping[int, bytes] | None = None
) -> LaunchPlan:
    """A Realm that starts at ``words`` with X0.. = ``registers`` and has ``data_size`` bytes of zeros at DATA.

    ``pages`` are further pages by IPA.
    """
    contents = {
        CODE: program(words),
        HOST_CALL: b"",
        **dict.fromkeys(range(DATA, DATA + data_size, GRANULE_SIZE), b""),
        **(pages or {}),
    }
    top = (max(contents) // _BLOCK + 1) * _BLOCK
    steps: list[Step] = [
        CreateTable(0, 2),
        *(CreateTable(block, 3) for block in range(0, top, _BLOCK)),
        InitRipas(0, top, 3),
        *(LoadPage(ipa, page.ljust(GRANULE_SIZE, b"\0"), measured=False) for ipa, page in sorted(contents.items())),
        CreateRec(0, CODE, (*registers, *(0,) * (8 - len(registers)))),
    ]
    return LaunchPlan(RealmConfiguration(33, HashAlgorithm.SHA_256), tuple(steps), ((0, top),))


@dataclass(slots=True)
class GuestRealm:
    """A Realm that gives the PE back by RSI_HOST_CALL whenever it has done its work once."""

    stack: Stack
    plan: LaunchPlan
    port: NonSecurePort = field(init=False)
    realm: HostRealm = field(init=False)
    rec: int = field(init=False)
    run: int = field(init=False)

    def __post_init__(self) -> None:
        memory = host_memory(self.stack)
        self.port = self.stack.host_port()
        self.realm = HostRealm(memory.rmi, memory.granules, self.plan.realm, 1, self.plan.ram)
        self.realm.create()
        self.realm.build(self.plan)
        self.rec, self.run = self.realm.recs[0].pa, self.realm.recs[0].run
        write_enter(self.port.bus, self.run, 0, _NO_REGISTERS, 0, (0,) * 16)

    def enter(self) -> None:
        """One RMI_REC_ENTER: the Realm works until its next exit."""
        x = self.port.smc(Rmi.REC_ENTER, self.rec, self.run)
        if x[0]:
            raise RuntimeError(f"RMI_REC_ENTER was refused: {x[0]:#x}, {self.port.refusal}")

    def last_exit(self) -> Exit:
        """The record of the last exit."""
        return read_exit(self.port.bus, self.run)

    def work(self) -> Exit:
        """Enter until the Realm makes a host call: timers of nobody end it early, so this is one entry."""
        self.enter()
        record = self.last_exit()
        if record.reason_name != "HOST_CALL":
            raise RuntimeError(f"the benchmark's Realm left with {record.reason_name}, ESR {record.esr:#x}")
        return record
