"""A sweep's names and tables."""

from dltrain import sweep
from dltrain.report.sweeps import Row, jobs_table, seeds_table, sweep_csv


def test_folder_names_are_short_and_plain() -> None:
    long = Row(3, {"data.root": "ж" * 100 + "/../[red]\x1b"}, "")
    name = sweep.slug(long)
    assert len(name.encode()) <= 2 + sweep.SLUG_BYTES
    assert "/" not in name
    assert "\x1b" not in name
    assert sweep.slug(Row(0, {"data.root": "a/b c"}, "")) == "0-data.root=a_b_c"
    assert sweep.slug(Row(0, {}, "")) == "0"
    other = Row(3, {"data.root": "ж" * 100 + "x"}, "")
    assert sweep.slug(other) != name


def test_a_spreadsheet_runs_no_cell_of_sweep_csv() -> None:
    text = sweep_csv([Row(0, {"data.root": "=cmd()|x"}, "dltrain")])
    assert "'=cmd()|x" in text


def test_no_spread_is_claimed_for_one_seed_or_none() -> None:
    best = {"metric": "val/accuracy", "value": 0.9}
    one = Row(0, {"seed": "0"}, "", status="completed", results={"best": best})
    assert seeds_table([one]) == []
    assert seeds_table([Row(0, {"model": "mlp"}, "")]) == []
    assert "90.0 %" in jobs_table([one])[1]


def test_a_narrow_terminal_gets_two_lines_a_job() -> None:
    best = {"metric": "val/accuracy", "value": 0.9}
    one = Row(0, {"model": "mlp", "optim.lr": "0.1"}, "", status="completed", results={"best": best, "seconds": 4})
    assert jobs_table([one], 40) == ["0  model=mlp optim.lr=0.1", "   completed  val accuracy 90.0 %  4 s"]
    assert len(jobs_table([one], 60)) == 2
    assert jobs_table([one], 60) == jobs_table([one])
