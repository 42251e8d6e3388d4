"""mode=reproduce says, bit for bit, whether the same came out, and what differs."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

import dltrain
from dltrain import data
from dltrain.cli import main
from dltrain.modes import reproduce
from dltrain.run import Run, all_runs
from tests.runs.states import edit


def test_reproduce_says_identical(here, capsys):
    assert main(["mode=reproduce", "run=last"]) == 0
    again = Run(all_runs()[0])
    assert again.path != here.path
    shown = capsys.readouterr().out
    assert "identical" in shown
    assert "although" not in shown
    assert (again.path / "metrics.csv").read_bytes() == (here.path / "metrics.csv").read_bytes()
    assert again.results()["weights_sha256"] == here.results()["weights_sha256"]
    assert again.results()["status"] == "completed"
    assert {path.name for path in again.path.iterdir()} == {path.name for path in here.path.iterdir()}
    assert all_runs() == [again.path, here.path]


def test_reproduce_with_one_setting_changed_names_it_and_the_first_cell(small, capsys):
    assert main(["mode=reproduce", "run=last", "optim.lr=0.04"]) == 1
    shown = capsys.readouterr().out
    assert "different" in shown
    assert "first in       metrics.csv, row 1 (epoch 1, step 3), train/" in shown
    assert "optim.lr" in shown
    assert "0.04" in shown


def test_reproduce_of_an_edited_config_names_the_key(small, capsys):
    edit(small.path / "config.json", lambda tree: tree["task"].update(label_smoothing=0.1))
    assert main(["mode=reproduce", "run=last"]) == 1
    shown = capsys.readouterr().out
    assert "task.label_smoothing" in shown
    assert "row 1 (epoch 1, step 3)" in shown


def test_reproduce_names_another_version_even_if_nothing_changed(small, capsys):
    edit(small.path / "environment.json", lambda tree: tree["versions"].update(numpy="1.0"))
    assert main(["mode=reproduce", "run=last"]) == 0
    shown = capsys.readouterr().out
    assert "identical" in shown
    assert shown.index("although") < shown.index("numpy")
    assert "1.0" in shown[shown.index("numpy") :]


def test_reproduce_finds_one_changed_bit_of_one_cell(small, capsys):
    path = small.path / "metrics.csv"
    header, first, second = path.read_text().splitlines()
    cells = second.split(",")
    column = header.split(",").index("train/loss")
    cells[column] = repr(float(np.nextafter(float(cells[column]), 2)))
    path.write_text("\n".join([header, first, ",".join(cells)]) + "\n")
    assert main(["mode=reproduce", "run=last"]) == 1
    shown = capsys.readouterr().out
    assert "first in       metrics.csv, row 2 (epoch 2, step 6), train/loss" in shown
    assert "nothing that is recorded" in shown


def test_reproduce_of_an_unfinished_run_is_a_mistake(small, capsys):
    for status in ("interrupted", "failed", "running"):
        small.write_results(status=status)
        assert main(["mode=reproduce", "run=last"]) == 2
        assert f"its status is {status}" in capsys.readouterr().err
    assert all_runs() == [small.path]


def test_reproduce_with_other_threads_names_them(small, monkeypatch):
    now = small.environment()
    edit(small.path / "environment.json", lambda tree: tree.update(threads=2, device="cuda:7"))
    again = Run(Path("again"))
    again.path.mkdir()
    again.write_environment(now)
    assert reproduce.what_differs(small, again) == [("device", "cuda:7", now["device"]), ("threads", "2", "1")]


def test_first_difference_is_found_by_row_then_column():
    rows = [{"epoch": 1, "a": 0.1}, {"epoch": 2, "a": 0.2, "b": float("nan")}]
    assert reproduce.first_difference(rows, [dict(row) for row in rows]) is None
    assert reproduce.first_difference(rows, rows[:1]) == (1, "the row", "there", "missing")
    assert reproduce.first_difference(rows, [{"epoch": 1}, rows[1]]) == (0, "a", "0.1", "'missing'")
    assert reproduce.first_difference(rows, [rows[0], rows[1] | {"b": 0.0}]) == (1, "b", "nan", "0.0")
    assert reproduce.first_difference([{"a": 0.0}], [{"a": -0.0}]) == (0, "a", "0.0", "-0.0")
    assert reproduce.first_difference([{"a": 1}], [{"a": 1.0}]) is not None


def test_one_changed_image_is_noticed_with_its_split(small, capsys):
    trained = data.open_set(small.read_config(), print)
    path = sorted(Path("photos").rglob("*.png"), key=lambda p: (p.parent.name, p.name))[int(trained.splits["train"][0])]
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    capsys.readouterr()
    assert main(["mode=reproduce", "run=last"]) == 1
    shown = capsys.readouterr().out
    assert "different" in shown
    assert "images: sha256 of train" in shown
    assert "row 1 (epoch 1, step 3)" in shown


def test_run_is_opened_and_evaluated_where_its_images_are_not(small, capsys):
    own = small.results()["metrics"]
    Path("photos").rename("moved")
    loaded = dltrain.load("last")
    assert loaded.class_names == ("ant", "bee", "cat")
    assert loaded.preprocess("moved/ant/0.png").shape == (3, 16, 16)
    assert main(["mode=eval", "run=last"]) == 2
    assert main(["mode=eval", "run=last", "data.root=moved", "output=found"]) == 0
    assert json.loads(Path("found/results.json").read_text())["metrics"] == own
