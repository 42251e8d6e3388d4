"""Numbers as people read them, and tables that stay safe in a spreadsheet."""

import csv
import io
import math

import pytest

from dltrain.report.table import (
    columns,
    count,
    csv_text,
    duration,
    mean_and_spread,
    metric,
    percent,
    standard_error,
)


def test_percent_never_rounds_up_to_all() -> None:
    assert percent(0.981) == "98.1 %"
    assert percent(1.0) == "100.0 %"
    assert percent(0.9996) == "99.96 %"
    assert percent(0.999999) == "99.99 %"


def test_metrics_between_0_and_1_are_shown_in_percent() -> None:
    assert metric("test/accuracy", 0.981) == "98.1 %"
    assert metric("test/accuracy/cat", 0.5) == "50.0 %"
    assert metric("val/loss", 0.08123) == "0.08123"
    assert metric("val/loss", math.nan) == "nan"


def test_counts_and_durations() -> None:
    assert (count(61706), count(1, "image"), count(5000, "image")) == ("61,706", "1 image", "5,000 images")
    assert (count(10, "class"), count(1, "class")) == ("10 classes", "1 class")
    assert (duration(4), duration(750), duration(3723), duration(-1)) == ("0:04", "12:30", "1:02:03", "0:00")


def test_standard_error_is_wilsons_and_never_zero() -> None:
    assert standard_error(981, 1000) == pytest.approx(math.sqrt(0.981 * 0.019 / 1000), rel=0.02)
    assert standard_error(1000, 1000) == pytest.approx(1 / 2002)
    p, n = 7 / 20, 20  # the two roots of (p - q)^2 = q (1 - q) / n
    low, high = sorted((2 * n * p + 1 + sign * math.sqrt(1 + 4 * n * p * (1 - p))) / (2 * (n + 1)) for sign in (-1, 1))
    assert standard_error(7, 20) == pytest.approx((high - low) / 2)


def test_mean_and_spread_is_the_sample_standard_deviation() -> None:
    assert mean_and_spread("test/accuracy", [0.97, 0.98, 0.99]) == "98.0 % ± 1.0"
    assert mean_and_spread("test/loss", [1.0, 2.0]) == "1.5 ± 0.71"
    assert mean_and_spread("test/accuracy", [0.98]) == "98.0 %"


def test_columns_are_aligned_and_escaped() -> None:
    lines = columns(["model", "accuracy"], [["mlp", "9.1 %"], ["\x1b[31m猫", "98.1 %"]], right=[1])
    assert lines == ["model       accuracy", "mlp            9.1 %", "\\x1b[31m猫    98.1 %"]


def test_a_spreadsheet_runs_no_cell() -> None:
    cells = ["=cmd()", "+1+1", "-1", "-x", "@sum", "\tx", "1e-3", 'a,"b"', "-inf"]
    text = csv_text(["name"] * len(cells), [cells])
    assert next(csv.reader(io.StringIO(text.split("\n", 1)[1]))) == [
        "'=cmd()",
        "'+1+1",
        "-1",
        "'-x",
        "'@sum",
        "'\tx",
        "1e-3",
        'a,"b"',
        "-inf",
    ]
