"""Means, intervals and paired differences against NumPy and SciPy; settings, tables and CSV."""

import csv
import io
import math
from typing import Any

import numpy as np
import pytest
import scipy.stats

from dltrain.report import spread as drawing
from dltrain.report.comparing import (
    curves_of,
    difference,
    differences_csv,
    differences_text,
    each_level,
    laid_out,
    main_metric,
    reference_of,
    runs_table,
    settings_csv,
    settings_table,
    smaller_is_better,
    verdict,
)
from dltrain.report.spread import Drawn, spread
from dltrain.report.student import Mean, quantile, within
from dltrain.report.sweeps import Row, runs_csv, seeds_table, settings_of
from dltrain.report.terminal import width

ACCURACIES = {"mlp": [0.91, 0.93, 0.915, 0.92], "lenet5": [0.95, 0.965, 0.96, 0.94], "tiny": [0.5, 0.9, 0.7, 0.6]}


def row(number: int, differs: dict[str, str], score: float | None, status: str = "completed", **more: Any) -> Row:
    results: dict[str, Any] = {"metrics": {}, "best": None, "seconds": 3.0}
    if score is not None:
        results["best"] = {"metric": "val/accuracy", "value": score + 0.01, "epoch": 2, "step": 9}
        results["metrics"] = {"test/accuracy": score, "test/loss": 1 - score}
    return Row(number, differs, "", status=status, results=results | more)


def rows_of(accuracies: dict[str, list[float]], first_seed: int = 0) -> list[Row]:
    return [
        row(0, {"model": name, "seed": str(seed)}, value)
        for name, values in accuracies.items()
        for seed, value in enumerate(values, first_seed)
    ]


def alike(one: Row, other: Row) -> str:
    return ""


# ---- Student's t


@pytest.mark.parametrize("freedom", [*range(1, 31), 99, 100, 999, 1000])
def test_quantiles_and_probabilities_are_those_of_scipy(freedom: int) -> None:
    for level in (0.01, 0.1, 0.5, 0.9, 0.95, 0.99, 0.999, 1 - 0.05 / 435):
        expected = scipy.stats.t.ppf((1 + level) / 2, freedom)
        assert quantile(level, freedom) == pytest.approx(expected, rel=1e-9)
        assert within(expected, freedom) == pytest.approx(level, abs=1e-12)
    assert within(0, freedom) == 0
    assert within(math.inf, freedom) == pytest.approx(1)


def test_what_is_no_probability_is_refused() -> None:
    for level, freedom in ((0.0, 3), (1.0, 3), (math.nan, 3)):
        with pytest.raises(ValueError):
            quantile(level, freedom)
    for t, freedom in ((-1.0, 3), (math.nan, 3), (1.0, 0)):
        with pytest.raises(ValueError):
            within(t, freedom)
    with pytest.raises(ValueError):
        Mean.of([])


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_mean_deviation_and_interval_are_those_of_numpy_and_scipy(n: int) -> None:
    values = np.random.RandomState(n).normal(0.9, 0.02, n).tolist()
    mean = Mean.of(values)
    assert mean.value == pytest.approx(np.mean(values), rel=1e-14)
    assert mean.deviation == pytest.approx(np.std(values, ddof=1), rel=1e-12)
    between = mean.interval(0.95)
    assert between == pytest.approx(scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95), rel=1e-9)


def test_one_number_has_no_interval() -> None:
    assert Mean.of([0.5]).interval() is None
    assert Mean.of([0.5]).deviation == 0


# ---- pairs


def test_a_paired_difference_is_that_of_scipys_paired_test() -> None:
    mlp, lenet5, _ = settings_of(rows_of(ACCURACIES))
    found = difference(lenet5, mlp, "test/accuracy", alike)
    expected = scipy.stats.ttest_rel(ACCURACIES["lenet5"], ACCURACIES["mlp"])
    assert found.mean.n == 4
    assert found.mean.value == pytest.approx(np.mean(np.subtract(ACCURACIES["lenet5"], ACCURACIES["mlp"])))
    assert found.mean.interval(0.95) == pytest.approx(expected.confidence_interval(0.95), rel=1e-9)
    unpaired = scipy.stats.ttest_ind(ACCURACIES["lenet5"], ACCURACIES["mlp"]).confidence_interval(0.95)
    assert found.mean.interval(0.95) != pytest.approx(unpaired, rel=1e-3)  # the control: pairing matters


def test_runs_are_paired_by_seed_and_not_by_place() -> None:
    rows = rows_of({"mlp": [0.1, 0.2, 0.3]}) + rows_of({"lenet5": [0.35, 0.45, 0.9]}, first_seed=1)[::-1]
    mlp, lenet5 = settings_of(rows)
    found = difference(lenet5, mlp, "test/accuracy", alike)
    assert sorted(found.pairs) == [(0.35, 0.2), (0.45, 0.3)]
    assert found.reason == "no run of the same seed"


def test_a_run_without_a_partner_is_first_told_that_its_test_is_another() -> None:
    mlp, lenet5 = settings_of(rows_of({"mlp": [0.1]}) + rows_of({"lenet5": [0.3]}, first_seed=1))
    refused = difference(lenet5, mlp, "test/accuracy", lambda one, other: "another test set")
    assert refused.reason == "another test set"
    assert difference(lenet5, mlp, "test/accuracy", alike).reason == "no run of the same seed"
    rows = [
        row(0, {"model": name, "seed": "0", "data.fold": fold}, 0.1) for name, fold in (("mlp", "0"), ("lenet5", "1"))
    ]
    mlp, lenet5 = settings_of(rows)
    assert difference(lenet5, mlp, "test/accuracy", alike).reason == "no run of the same fold"


def test_folds_are_paired_too() -> None:
    rows = [
        row(0, {"model": name, "seed": "0", "data.fold": str(fold)}, score)
        for name, fold, score in (("mlp", 0, 0.1), ("mlp", 1, 0.2), ("lenet5", 1, 0.5), ("lenet5", 0, 0.3))
    ]
    mlp, lenet5 = settings_of(rows)
    assert sorted(difference(lenet5, mlp, "test/accuracy", alike).pairs) == [(0.3, 0.1), (0.5, 0.2)]
    assert any(
        line.endswith("paired by fold")
        for line in differences_text([difference(lenet5, mlp, "test/accuracy", alike)], False, None)
    )


def test_folds_are_said_to_give_too_narrow_intervals() -> None:
    texts = []
    for key in ("data.fold", "seed"):
        rows = [row(0, {"model": m, "seed": "0", key: str(i)}, 0.5 + 0.1 * i) for m in "ab" for i in range(2)]
        a, b = settings_of(rows)
        texts.append("\n".join(differences_text([difference(b, a, "test/accuracy", alike)], False, None)))
    assert ["narrower than is true" in text for text in texts] == [True, False]


def test_what_has_not_completed_and_what_cannot_be_compared_takes_no_part() -> None:
    rows = rows_of({"mlp": [0.1, 0.2, 0.3], "lenet5": [0.4, 0.5, 0.6]})
    rows[1].status = "failed"
    mlp, lenet5 = settings_of(rows)
    assert difference(lenet5, mlp, "test/accuracy", alike).pairs == ((0.4, 0.1), (0.6, 0.3))
    other = difference(lenet5, mlp, "test/accuracy", lambda one, _: "another test set" if one is rows[3] else "")
    assert other.pairs == ((0.6, 0.3),)
    none = difference(lenet5, mlp, "test/accuracy", lambda *_: "another test set")
    assert (none.pairs, none.reason) == ((), "another test set")
    assert any("another test set" in line for line in differences_text([none], False, None))
    assert difference(lenet5, mlp, "test/dice", alike).reason == "no test Dice"


def test_many_intervals_hold_together() -> None:
    """Bonferroni: each of m intervals is made at 1 - 0.05 / m, and the text says how many there are."""
    settings = settings_of(rows_of(ACCURACIES))
    found = [difference(one, settings[0], "test/accuracy", alike) for one in settings[1:]]
    assert each_level(1) == 0.95
    assert each_level(2) == pytest.approx(0.975)
    text = "\n".join(differences_text(found, False, None))
    between = scipy.stats.ttest_rel(ACCURACIES["lenet5"], ACCURACIES["mlp"]).confidence_interval(0.975)
    assert f"{100 * between.low:+.2f} to {100 * between.high:+.2f}" in text
    assert "the 2 intervals hold together" in text
    assert "97.5 %" in text
    alone = "\n".join(differences_text(found[:1], False, None))
    assert "together" not in alone
    between = scipy.stats.ttest_rel(ACCURACIES["lenet5"], ACCURACIES["mlp"]).confidence_interval(0.95)
    assert f"{100 * between.low:+.2f} to {100 * between.high:+.2f}" in alone


def test_intervals_hold_as_often_as_they_say() -> None:
    """1,000 sets of four settings of equal truth: all three intervals hold 0 in 95 % of them, or in more."""
    draw = np.random.RandomState(3).normal(0.9, 0.01, (1000, 4, 5))
    together = alone = 0
    for one in draw:
        means = [Mean.of((one[k] - one[0]).tolist()) for k in (1, 2, 3)]
        together += all(low <= 0 <= high for mean in means for low, high in [mean.interval(each_level(3)) or (0, 0)])
        alone += all(low <= 0 <= high for mean in means for low, high in [mean.interval(0.95) or (0, 0)])
    assert together >= 940
    assert alone < 920  # the control: three at 95 % each miss more often


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("val/loss", [0.2, 0.3], ["+0.250", "-0.385 to +0.885"]),
        ("val/mae", [1234.5, 1300.0], ["+1267", "+851 to +1683"]),
        ("val/mse", [1e-5, 2e-5], ["+0.0000150", "-0.0000485 to +0.0000785"]),
        ("val/loss", [0.0, 0.0], ["+0", "+0 to +0"]),
        ("val/loss", [1e-30, 1e-30], ["+0.000000000"]),
        ("val/accuracy", [0.001, 0.003], ["+0.20 points", "-1.07 to +1.47"]),
    ],
)
def test_differences_have_as_many_decimals_as_say_something(name: str, values: list[float], words: list[str]) -> None:
    rows = [row(0, {"model": m, "seed": str(i)}, 0.0) for m in "ab" for i in range(2)]
    for one, value in zip(rows, [0.0, 0.0, *values], strict=True):
        one.results["best"] = {"metric": name, "value": value}
    a, b = settings_of(rows)
    text = "\n".join(differences_text([difference(b, a, name, alike)], False, None))
    assert [part for part in words if part not in text] == []


def test_one_seed_tells_no_spread() -> None:
    mlp, lenet5 = settings_of(rows_of({"mlp": [0.1], "lenet5": [0.4]}))
    text = "\n".join(differences_text([difference(lenet5, mlp, "test/accuracy", alike)], False, None))
    assert "+30.00 points" in text
    assert "one seed: no spread can be told" in text
    assert "±" not in "\n".join(settings_table([mlp, lenet5], None))


@pytest.mark.parametrize(
    ("mean", "between", "smaller", "words"),
    [
        (0.1, None, False, "one seed: no spread can be told"),
        (0.1, (-0.1, 0.3), False, "not told apart"),
        (0.1, (0.05, 0.15), False, "better"),
        (0.1, (0.05, 0.15), True, "worse"),
        (-0.1, (-0.15, -0.05), False, "worse"),
        (-0.1, (-0.15, -0.05), True, "better"),
        (0.0, (0.0, 0.0), False, "the same in every seed"),
    ],
)
def test_verdict(mean: float, between: tuple[float, float] | None, smaller: bool, words: str) -> None:
    assert verdict(mean, between, smaller) == words


def test_a_loss_that_was_monitored_is_better_when_smaller() -> None:
    rows = rows_of({"mlp": [0.1]})
    assert not smaller_is_better(rows, "test/accuracy")
    rows[0].results["best"]["metric"] = "-val/loss"
    assert smaller_is_better(rows, "test/loss")
    assert main_metric(settings_of(rows)) == "test/loss"


# ---- settings and tables


def test_settings_are_what_differs_but_for_seed_and_fold() -> None:
    rows = [row(0, {"model": m, "seed": s, "data.fold": f}, 0.5) for m in "ab" for s in "01" for f in "01"]
    found = settings_of(rows)
    assert [(one.label, one.values, len(one.rows)) for one in found] == [
        ("A", {"model": "a"}, 4),
        ("B", {"model": "b"}, 4),
    ]
    assert settings_of([]) == []
    many = settings_of([row(0, {"model": str(i), "seed": "0"}, 0.5) for i in range(54)])
    assert [many[i].label for i in (0, 25, 26, 27, 51, 52)] == ["A", "Z", "AA", "AB", "AZ", "BA"]


def test_means_are_of_what_completed() -> None:
    rows = rows_of({"mlp": [0.90, 0.92, 0.10]})
    rows[2].status = "failed"
    (one,) = settings_of(rows)
    assert one.counted == "2 of 3"
    assert one.mean("test/accuracy") == "91.0 % ± 1.4"
    assert one.mean("test/dice") == ""
    rows[0].status = rows[1].status = "killed"
    assert one.mean("test/accuracy") == ""
    assert reference_of([one]) is None
    assert main_metric([one]) == ""


def test_a_sweep_and_a_comparison_show_the_same_means() -> None:
    rows = rows_of(ACCURACIES)
    shown = "\n".join(settings_table(settings_of(rows), None))
    for line in seeds_table(rows)[2:]:
        for cell in line.split("  ")[1:]:
            assert cell.strip() in shown


@pytest.mark.parametrize("count", [2, 3, 5, 30])
@pytest.mark.parametrize("room", [40, 80, 120])
def test_no_table_is_wider_than_the_screen(count: int, room: int) -> None:
    rows = rows_of({f"network_{i}": [0.9, 0.92, 0.91] for i in range(count)})
    for one in rows:
        one.differs = {"optim.lr": "0.003", "model.widths": "[300,100]", "trainer.batch_size": "64"} | one.differs
    settings = settings_of(rows)
    found = [difference(one, settings[0], "test/accuracy", alike) for one in settings[1:]]
    lines = [*settings_table(settings, room), *differences_text(found, False, room), *runs_table(settings, room)]
    assert max(map(width, lines)) <= room
    text = " ".join(" ".join(lines).split())
    for i in range(count):
        assert f"network_{i}" in text
    for cell in ("90.0 %", "[300,100]", "0.003", "91.0 % ± 1.0", "completed"):
        assert cell in text


def test_few_settings_stand_beside_and_many_below_each_other() -> None:
    head = ["", "model", "accuracy"]
    two = laid_out(head, [["A", "mlp", "1"], ["B", "lenet5", "2"]], [2], None)
    assert [line.split() for line in two] == [["A", "B"], ["model", "mlp", "lenet5"], ["accuracy", "1", "2"]]
    four = laid_out(head, [[label, "mlp", "1"] for label in "ABCD"], [2], None)
    assert [line.split() for line in four][1] == ["A", "mlp", "1"]


# ---- files


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_holds_every_metric_with_every_bit() -> None:
    settings = settings_of(rows_of(ACCURACIES))
    found = {(one["setting"], one["metric"]): one for one in read(settings_csv(settings))}
    assert set(found) == {(a, m) for a in "ABC" for m in ("val/accuracy", "test/accuracy", "test/loss")}
    tiny = found["C", "test/accuracy"]
    assert float(tiny["mean"]) == pytest.approx(np.mean(ACCURACIES["tiny"]), rel=1e-15)
    assert float(tiny["standard deviation"]) == pytest.approx(np.std(ACCURACIES["tiny"], ddof=1))
    assert tiny["n"] == tiny["runs"] == "4"
    between = scipy.stats.ttest_1samp(ACCURACIES["tiny"], 0).confidence_interval(0.95)
    assert (float(tiny["low"]), float(tiny["high"])) == pytest.approx((between.low, between.high))
    pairs = {(one["setting"], one["metric"]): one for one in read(differences_csv(settings, settings[0], alike))}
    assert set(pairs) == {(a, m) for a in "BC" for m in ("val/accuracy", "test/accuracy", "test/loss")}
    one = pairs["C", "test/loss"]
    test = scipy.stats.ttest_rel(*[[1 - v for v in ACCURACIES[name]] for name in ("tiny", "mlp")])
    assert (float(one["low"]), float(one["high"])) == pytest.approx(tuple(test.confidence_interval(0.95)))
    wider = float(one["low of all together"]), float(one["high of all together"])
    assert wider == pytest.approx(tuple(test.confidence_interval(0.975)))
    assert (one["reference"], one["n"], one["comparisons"]) == ("A", "4", "2")


def test_a_spreadsheet_runs_no_cell() -> None:
    rows = [
        row(0, {"data.root": "=cmd()|x", "seed": "0"}, 0.5),
        row(1, {"data.root": "b", "seed": "0"}, None, "failed"),
    ]
    settings = settings_of(rows)
    for text in (runs_csv(settings), settings_csv(settings), differences_csv(settings, settings[0], alike)):
        assert "=cmd" not in text.replace("'=cmd", "")
    assert "'=cmd()|x" in runs_csv(settings)
    assert [one["n"] for one in read(settings_csv(settings)) if one["setting"] == "B"] == ["0"] * 3
    assert read(differences_csv(settings, settings[0], alike))[0]["not paired"] == "no run has completed"


def test_a_curve_leaves_out_what_is_no_number() -> None:
    rows = [{"epoch": 1, "val/loss": 3.0}, {"epoch": 2}, {"epoch": 3, "val/loss": math.nan}, {"val/loss": 1.0}]
    assert curves_of(rows, "val/loss") == ([1], [3.0])


def colours(image: Any) -> int:
    return len(np.unique(np.asarray(image).reshape(-1, 3), axis=0))


@pytest.mark.parametrize("count", [1, 8, 27])
def test_the_plot_shows_every_setting_but_those_beyond_the_most(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "MOST", 25)
    one = [Drawn(f"A  lr={i} <b>$x^2$\x1b", [0.5 + i / 99, 0.6], [([1, 2], [0.1, 0.2])]) for i in range(count)]
    image = spread(one, "test/accuracy", "val/accuracy", "runs")
    assert image.size[0] == 1265
    assert image.size[1] >= 460 + (0 if count < 9 else 500)
    assert colours(image) > 50


@pytest.mark.parametrize("values", [[], [0.5], [0.5, 0.5], [1e99, -1e99], [0.0, 0.0, 0.0]])
def test_the_plot_can_be_drawn_of_any_numbers(values: list[float]) -> None:
    spread([Drawn("A", values, []), Drawn("B", values, [([], [])])], "test/loss", "val/loss", "")


def test_without_differences_there_is_no_text() -> None:
    assert differences_text([], False, 80) == []
