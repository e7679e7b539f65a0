"""Real Hosts: the example, the platform tests, and the ones that make many calls."""

import pytest

from realmkit.baremetal import Outcome, place
from tests.baremetal.kit import EXAMPLE, parameters, prebuilt, run


@pytest.mark.parametrize("cpus", [1, 2, 8])
def test_the_example_host_passes_deterministically(cpus: int) -> None:
    image = place(EXAMPLE.read_bytes(), "example", None)
    first, second = run(image, cpus=cpus), run(image, cpus=cpus)
    assert first.outcome is Outcome.POWER_OFF, first.uarts
    assert "FAIL" not in first.uarts[2]
    assert f" 0 failed, {cpus} PE" in first.uarts[2]
    assert (first.ticks, first.uarts) == (second.ticks, second.uarts)


@pytest.mark.parametrize("cpus", [1, 2, 8])
def test_what_a_host_finds_at_ns_el2(cpus: int) -> None:
    result = run(prebuilt("platform"), cpus=cpus)
    assert result.outcome is Outcome.POWER_OFF, (result.reason, result.uarts)
    assert "FAIL" not in result.uarts[2]
    assert f" 0 failed, {cpus} PE" in result.uarts[2]


@pytest.mark.parametrize(
    ("kind", "realms", "pages", "vcpus", "entries"),
    [
        pytest.param(0, 3, 600, 2, 20, id="one after another"),
        pytest.param(1, 64, 4, 1, 2, id="64 Realms at once"),
        pytest.param(1, 1, 4, 64, 2, id="64 VCPUs"),
    ],
)
def test_many(kind: int, realms: int, pages: int, vcpus: int, entries: int) -> None:
    result = run(prebuilt("stress"), parameters(kind, realms, pages, vcpus, entries))
    assert result.outcome is Outcome.POWER_OFF, (result.reason, result.uarts)
    assert "FAIL" not in result.uarts[2]
    assert result.uarts[2].endswith(" 0 failed\n")
