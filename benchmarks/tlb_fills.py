"""TLB fills: both stages of translation and the granule protection check on real tables, once per page touched."""

from benchmarks import programs
from benchmarks.measure import Measurement, Settings, seconds, timed
from benchmarks.realm import DATA, HOST_CALL, GuestRealm, launch_plan
from realmkit.arch.pas import GRANULE_SIZE
from realmkit.stack import assemble

_TABLES = 0x4000
"""IPA of the stage 1 tables: level 1, level 2, then level 3."""
_LEVEL2 = _TABLES + GRANULE_SIZE
_LEVEL3 = _LEVEL2 + GRANULE_SIZE
_REACH = 512 * GRANULE_SIZE
_PAGE = 0b11 | 1 << 10 | 0b11 << 8
"""A level 3 descriptor: AF, Inner Shareable, readable and writable at EL1, executable, memory attributes 0 (Normal)."""
_TCR = 25 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23 | 2 << 32
"""T0SZ 25 (39 bits: starts at level 1), Write-Back, Inner Shareable, EPD1, IPS 40 bits."""


def _stage1(top: int) -> dict[int, bytes]:
    """Identity map of [0, top) in 4 KB pages."""
    tables = range(0, top, _REACH)

    def page(entries: list[int]) -> bytes:
        return b"".join(entry.to_bytes(8, "little") for entry in entries)

    pages = {
        _TABLES: page([_LEVEL2 | 0b11]),
        _LEVEL2: page([_LEVEL3 + n * GRANULE_SIZE | 0b11 for n in range(len(tables))]),
    }
    for n, base in enumerate(tables):
        pages[_LEVEL3 + n * GRANULE_SIZE] = page([base + slot * GRANULE_SIZE | _PAGE for slot in range(512)])
    return pages


def run(settings: Settings) -> list[Measurement]:
    """A Realm with its MMU on invalidates its TLB and loads from each page once."""
    count = settings.count(8192, 2048)
    size = count * GRANULE_SIZE
    plan = launch_plan(programs.TLB_FILLS, (count, HOST_CALL, DATA, _TABLES, _TCR), size, _stage1(DATA + size))
    realm = GuestRealm(assemble(), plan)
    spent = seconds(settings.rounds, lambda: timed(realm.work))
    return [
        Measurement("TLB fills", count / spent, "1/s", higher=True, note="stage 1, stage 2 and granule check"),
        Measurement("one fill", spent / count * 1e6, "us"),
    ]
