"""The parts of the benchmarks that do not depend on speed."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from benchmarks.measure import Measurement, Settings, Unavailable, Verdict, interleaved, ratio

from benchmarks import runner


@pytest.mark.parametrize(
    ("measurement", "verdict"),
    [
        (Measurement("m", 3, "s"), Verdict.INFORMATION),
        (Measurement("m", 5, "ratio", goal=5, required=8), Verdict.GOAL),
        (Measurement("m", 8, "ratio", goal=5, required=8), Verdict.REQUIRED),
        (Measurement("m", 8.1, "ratio", goal=5, required=8), Verdict.FAILED),
        (Measurement("m", math.nan, "ratio", goal=5, required=8), Verdict.FAILED),
        (Measurement("m", 0.9, "ratio", goal=0.9, higher=True), Verdict.GOAL),
        (Measurement("m", 0.8, "ratio", goal=0.9, higher=True), Verdict.MISSED_GOAL),
        (Measurement("m", 0.8, "ratio", required=0.9, higher=True), Verdict.FAILED),
    ],
)
def test_a_value_is_held_against_its_bounds(measurement: Measurement, verdict: Verdict) -> None:
    assert measurement.verdict is verdict


def test_samples_are_taken_in_turns_after_one_of_each() -> None:
    order: list[str] = []

    def sample(name: str, first: float) -> Callable[[], float]:
        values = iter([first, 1.0, 2.0])

        def take() -> float:
            order.append(name)
            return next(values)

        return take

    assert interleaved(2, sample("a", 99), sample("b", 99)) == [[1.0, 2.0], [1.0, 2.0]]
    assert order == ["a", "b"] * 3


def test_a_ratio_compares_neighbours() -> None:
    assert ratio([2.0, 30.0, 4.0], [1.0, 10.0, 2.0]) == 2.0


def test_benchmarks_are_selected_by_name_in_the_order_of_the_list() -> None:
    assert runner.select([]) == list(runner.BENCHMARKS)
    assert runner.select(["token", "populate"]) == ["populate", "token"]


def test_a_name_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_status:
        runner.main(["populat", "--json", str(tmp_path / "out.json")])
    assert exit_status.value.code == 2
    assert "'populat'" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(settings: Settings) -> list[Measurement]:
        raise Unavailable("nothing to measure")

    monkeypatch.setattr(
        runner,
        "BENCHMARKS",
        {
            "good": lambda settings: [Measurement("speed", 12_345.6, "1/s", goal=100, higher=True, note="fast")],
            "bad": lambda settings: [Measurement("time", 9.0, "s", required=8)],
            "missing": missing,
        },
    )


@pytest.mark.usefixtures("fakes")
def test_the_table_and_the_json_hold_every_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    assert runner.main(["good", "missing", "--quick", "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "12,346" in printed
    assert "nothing to measure" in printed
    data = json.loads(out.read_text())
    assert data["schema"] == runner.SCHEMA
    assert data["quick"] is True
    good, missing = data["benchmarks"]
    assert good["measurements"] == [
        {
            "name": "speed",
            "value": 12_345.6,
            "unit": "1/s",
            "better": "higher",
            "goal": 100,
            "required": None,
            "verdict": "goal",
            "note": "fast",
        }
    ]
    assert missing["skipped"] == "nothing to measure"
    assert missing["measurements"] == []


@pytest.mark.usefixtures("fakes")
def test_what_is_required_and_missed_is_exit_code_1(tmp_path: Path) -> None:
    assert runner.main(["bad", "--json", str(tmp_path / "out.json")]) == 1
