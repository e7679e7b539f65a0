"""Instructions per second of a Realm, against bare Unicorn with the same code in slices of the same size."""

from collections.abc import Sequence
from functools import partial
from statistics import median
from typing import Any

from unicorn import (
    UC_ARCH_ARM64,
    UC_HOOK_TLB_FILL,
    UC_MEM_FETCH,
    UC_MODE_ARM,
    UC_PROT_ALL,
    UC_PROT_EXEC,
    UC_PROT_READ,
    UC_PROT_WRITE,
    Uc,
)
from unicorn.arm64_const import UC_ARM64_REG_PC, UC_ARM64_REG_X9, UC_ARM64_REG_X22, UC_CPU_ARM64_MAX
from unicorn.unicorn_const import UC_TLB_VIRTUAL

from benchmarks import programs
from benchmarks.measure import Measurement, Settings, interleaved, ratio, timed
from benchmarks.realm import CODE, DATA, HOST_CALL, GuestRealm, launch_plan, program
from realmkit.machine.core.cpu import SLICE
from realmkit.stack import assemble

_DATA_SIZE = 0x1_0000


class BareUnicorn:
    """The loop without realmkit: virtual TLB mode with a fill hook that grants everything but execution of data."""

    def __init__(self, loop: Sequence[int], rounds: int) -> None:
        self._rounds = rounds
        self._count = rounds * len(loop)
        self.uc: Any = Uc(UC_ARCH_ARM64, UC_MODE_ARM, UC_CPU_ARM64_MAX)
        uc = self.uc
        uc.ctl_set_page_size(4096)
        uc.ctl_set_tlb_mode(UC_TLB_VIRTUAL)
        uc.ctl_exits_enabled(True)
        uc.hook_add(UC_HOOK_TLB_FILL, self._fill)
        uc.mem_map(0, DATA + _DATA_SIZE, UC_PROT_ALL)
        uc.mem_write(CODE, program(loop))
        uc.reg_write(UC_ARM64_REG_X22, DATA)

    @staticmethod
    def _fill(uc: Uc, vaddr: int, access: int, entry: Any, data: object) -> bool:
        entry.paddr = vaddr & ~0xFFF
        entry.perms = UC_PROT_EXEC | UC_PROT_READ if access == UC_MEM_FETCH else UC_PROT_READ | UC_PROT_WRITE
        return True

    def work(self) -> None:
        """All rounds of the loop, in slices."""
        uc = self.uc
        uc.reg_write(UC_ARM64_REG_X9, self._rounds)
        left, pc = self._count, CODE
        while left > 0:
            count = min(left, SLICE)
            uc.emu_start(pc, 0, count=count)
            pc = uc.reg_read(UC_ARM64_REG_PC)
            left -= count


def run(settings: Settings) -> list[Measurement]:
    """An ALU loop and a load-store loop."""
    rounds = settings.count(2_000_000, 400_000)
    results = []
    for name, words, loop in (
        ("ALU loop", programs.ALU, programs.ALU_LOOP),
        ("load-store loop", programs.LOAD_STORE, programs.LOAD_STORE_LOOP),
    ):
        realm = GuestRealm(assemble(), launch_plan(words, (rounds, HOST_CALL, DATA), _DATA_SIZE))
        bare = BareUnicorn(words[loop], rounds)
        ours, theirs = interleaved(settings.rounds, partial(timed, realm.work), partial(timed, bare.work))
        instructions = rounds * len(words[loop])
        note = f"slices of {SLICE:,}"
        results += [
            Measurement(
                f"{name}, Realm : bare Unicorn", ratio(theirs, ours), "ratio", goal=0.9, higher=True, note=note
            ),
            Measurement(f"{name}, Realm", instructions / median(ours) / 1e6, "Minstr/s", higher=True),
            Measurement(f"{name}, bare Unicorn", instructions / median(theirs) / 1e6, "Minstr/s", higher=True),
        ]
    return results
