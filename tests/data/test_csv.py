"""A table is read as it stands or refused with lines and names; batches are the same whoever reads them."""

import csv
import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dltrain.cli import main
from dltrain.config import data
from dltrain.config.messages import Mistake
from dltrain.config.spec import Target
from dltrain.data import describe, open_data
from dltrain.data.columns import natural
from dltrain.data.imageset import ImageSet, open_set
from dltrain.run import Run
from tests.data.conftest import config, picture, quiet

COLUMNS = ["file", "label", "angle", "shift", "split", "patient"]
LABELS = ["rot", "grün", "1", "10", "2"]
Rows = list[list[str]]
Write = Callable[..., Path]


def rows_of(count: int = 60) -> Rows:
    """A row for each of the pictures; five classes, two values, three splits, twelve patients."""
    splits = ["train"] * 3 + ["val", "test"]
    return [
        [f"img/{n:02d}.png", LABELS[n % 5], f"{n / 8}", f"-{n}e-2", splits[n // 5 % 5], f"p{n // 5}"]
        for n in range(count)
    ]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes 60 pictures once and a table of them: `write(rows)`; returns the table."""

    def make(
        rows: Sequence[Sequence[str]] | None = None,
        columns: Sequence[str] | None = COLUMNS,
        sign: str = ",",
        encoding: str = "utf-8",
    ) -> Path:
        folder = tmp_path / "set"
        if not folder.exists():
            (folder / "img").mkdir(parents=True)
            for number in range(60):
                picture(20, 24, seed=number).save(folder / "img" / f"{number:02d}.png")
        path = folder / "photos.csv"
        with path.open("w", newline="", encoding=encoding) as file:
            table = csv.writer(file, delimiter=sign)
            table.writerows([] if columns is None else [columns])
            table.writerows(rows_of() if rows is None else rows)
        return path

    return make


def opened(path: Path, seed: int = 0, **settings: Any) -> ImageSet:
    return open_set(config(data.Csv(root=str(path), **{"size": "16", **settings}), seed=seed), quiet)


def refused(path: Path, **settings: Any) -> Mistake:
    with pytest.raises(Mistake) as caught:
        opened(path, **settings)
    assert caught.value.what.startswith(f"data.root={path}: ")
    return caught.value


@pytest.mark.parametrize("sign", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_table_is_read_whatever_parts_its_cells(write: Write, sign: str, encoding: str) -> None:
    images = opened(write(sign=sign, encoding=encoding))
    assert images.spec.target == Target.classes
    assert images.spec.class_names == ("1", "2", "10", "grün", "rot")
    assert images.spec.counts == {"train": 45, "val": 5, "test": 10}
    assert [images.spec.class_names[label] for label in images.targets[:5]] == LABELS
    assert images.spec.shape == (3, 16, 16)
    assert images.spec.where.endswith("photos.csv")
    assert list(images.names or []) == [row[0] for row in rows_of()]


def test_an_image_belongs_to_its_row(write: Write) -> None:
    """Rows in another order than the files: pixels and labels stay together."""
    rows = rows_of()[::-1]
    images = opened(write(rows), size="20x24")
    for number in (0, 7, 59):
        expected = np.asarray(picture(20, 24, seed=59 - number)).transpose(2, 0, 1)
        assert np.array_equal(images.read(number), expected)
        assert images.spec.class_names[images.targets[number]] == rows[number][1]


def test_values_are_learned_in_the_order_named(write: Write) -> None:
    images = opened(write(), values=["shift", "angle"])
    spec = images.spec
    assert (spec.target, spec.value_names, spec.class_names, spec.num_outputs) == (
        Target.values,
        ("shift", "angle"),
        (),
        2,
    )
    expected = np.array([[float(row[3]), float(row[2])] for row in rows_of()], dtype=np.float32)
    assert images.targets.dtype == np.float32
    assert np.array_equal(images.targets, expected)
    train = expected[images.splits["train"]].astype(np.float64)
    assert spec.value_mean == pytest.approx(train.mean(0), rel=1e-12)
    assert spec.value_std == pytest.approx(train.std(0), rel=1e-12)
    assert "val and test cut from the images by seed" in spec.notes


def test_cut_by_seed_and_class_and_other_rows_move_few(write: Write) -> None:
    path = write()
    first, again, other = opened(path), opened(path), opened(path, seed=1)
    assert first.splits["val"].tolist() == again.splits["val"].tolist() != other.splits["val"].tolist()
    assert np.bincount(first.targets[first.splits["test"]]).tolist() == [2] * 5
    shuffled = opened(write(rows_of()[::-1]))
    names = {split: {(i.names or [])[n] for n in i.splits[split]} for i in (first,) for split in i.splits}
    assert names == {split: {(shuffled.names or [])[n] for n in shuffled.splits[split]} for split in shuffled.splits}


def test_the_column_of_splits_is_followed(write: Write) -> None:
    rows = rows_of()
    rows[0][4] = "Train "
    images = opened(write(rows), split="split")
    for split in ("train", "val", "test"):
        assert images.splits[split].tolist() == [n for n, row in enumerate(rows) if row[4].strip().lower() == split]
    assert not any("not used" in note for note in images.spec.notes)
    assert "the column split is not used; data.split=split uses it" in opened(write()).spec.notes


def test_splits_without_test_or_val(write: Write) -> None:
    no_test = opened(write([row for row in rows_of() if row[4] != "test"]), split="split")
    assert set(no_test.spec.counts) == {"train", "val"}
    no_val = opened(write([row for row in rows_of() if row[4] != "val"]), split="split")
    assert no_val.spec.counts == {"train": 34, "val": 5, "test": 10} or sum(no_val.spec.counts.values()) == 50
    assert "val cut from train by seed and class" in no_val.spec.notes


def test_groups_are_never_parted(write: Write) -> None:
    rows = rows_of()
    images = opened(write(rows), group="patient")
    of: dict[str, set[str]] = {}
    for split, numbers in images.splits.items():
        for number in numbers:
            of.setdefault(rows[number][5], set()).add(split)
    assert len(of) == 12
    assert all(len(splits) == 1 for splits in of.values())
    assert set.union(*of.values()) == {"train", "val", "test"}
    ungrouped = opened(write(rows))
    parted = {rows[n][5] for n in ungrouped.splits["train"]} & {rows[n][5] for n in ungrouped.splits["test"]}
    assert parted  # the negative control: without the column, patients are parted


def test_a_split_of_the_users_that_parts_groups_is_refused(write: Write) -> None:
    rows = rows_of()
    assert opened(write(rows), split="split", group="patient").groups is not None
    rows[1][4] = "test"
    mistake = refused(write(rows), split="split", group="patient")
    assert "1 of 12 groups stand in more than one split: p0 (train, test)" in mistake.what


def change(line: int, column: str, cell: str) -> Callable[[Rows], None]:
    def apply(rows: Rows) -> None:
        rows[line - 2][COLUMNS.index(column)] = cell

    return apply


def drop_cell(rows: Rows) -> None:
    rows[3] = rows[3][:-1]
    rows[5] = [*rows[5], "more"]


USED = {"values": ["angle"], "split": "split", "group": "patient"}
WRONG: dict[str, tuple[Callable[[Rows], None], dict[str, Any], str]] = {
    "missing": (change(4, "file", "img/nix.png"), {}, "a file that is not there: line 4 (img/nix.png)"),
    "empty file": (change(4, "file", ""), {}, "no file name: line 4"),
    "absolute": (change(4, "file", "/etc/passwd"), {}, "an absolute path: line 4 (/etc/passwd)"),
    "folder": (change(4, "file", "img"), {}, "a folder, and only files themselves are read: line 4 (img)"),
    "null byte": (change(4, "file", "img/\0.png"), {}, r"a file that is not there: line 4 (img/\x00.png)"),
    "long": (change(4, "file", "x" * 5000), {}, "a file that is not there: line 4"),
    "twice": (
        change(4, "file", "./img/00.png"),
        {},
        "a file that another row has: line 4 (./img/00.png, as in line 2)",
    ),
    "twice, written otherwise": (change(4, "file", "img//00.png"), {}, "a file that another row has: line 4"),
    "no label": (change(4, "label", "  "), {}, "nothing in label: line 4"),
    "no group": (change(4, "patient", ""), USED, "nothing in patient: line 4"),
    "no number": (change(4, "angle", "left"), USED, "no number in angle: line 4 (left)"),
    "comma": (change(4, "angle", "0,5"), USED, "no number in angle: line 4 (0,5)"),
    "nan": (change(4, "angle", "nan"), USED, "no number in angle: line 4 (nan)"),
    "inf": (change(4, "angle", "-inf"), USED, "no number in angle: line 4 (-inf)"),
    "underscore": (change(4, "angle", "1_0"), USED, "no number in angle: line 4 (1_0)"),
    "other digits": (change(4, "angle", "١"), USED, "no number in angle: line 4"),
    "empty value": (change(4, "angle", ""), USED, "no number in angle: line 4 (empty)"),
    "too large": (change(4, "angle", "1e39"), USED, "too large a number in angle: line 4 (1e39)"),
    "split": (change(4, "split", "validation"), USED, "no split in split: line 4 (validation)"),
    "cells": (drop_cell, {}, "2 of 60 rows have not the 6 cells of the header: line 5 (5), line 7 (7)"),
    "escape": (change(4, "file", "\x1b[31m[red]\u202e"), {}, r"line 4 (\x1b[31m[red]\u202e)"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_told_with_its_line(write: Write, kind: str) -> None:
    apply, settings, says = WRONG[kind]
    rows = rows_of()
    assert opened(write(rows), **settings).spec.counts["train"] > 0
    apply(rows)
    mistake = refused(write(rows), **settings)
    assert says in mistake.what
    assert mistake.allowed


def test_all_that_is_wrong_is_told_at_once_and_counted(write: Write) -> None:
    rows = rows_of()
    for line in range(2, 12):
        rows[line][0] = f"img/none{line}.png"
    rows[20][1] = ""
    rows[21][0] = "img/21"
    rows[22][0] = "img\\22.png"
    what = refused(write(rows)).what
    assert "12 of 60 rows: a file that is not there: line 4 (img/none2.png)" in what
    assert "and 7 more" in what
    assert "1 of 60 rows: nothing in label: line 22" in what


@pytest.mark.parametrize(
    ("cells", "hint"), [(("left", "0,5"), "with a decimal point in every"), (("left", "x"), "number in every")]
)
def test_of_several_hints_the_one_that_says_most_is_told(write: Write, cells: tuple[str, str], hint: str) -> None:
    rows = rows_of()
    for line, cell in enumerate(cells, 4):
        change(line, "angle", cell)(rows)
    assert hint in refused(write(rows), **USED).allowed


@pytest.mark.parametrize(("cell", "meant"), [("img/07", "img/07.png"), ("img\\07.png", "img/07.png"), ("07.png", "")])
def test_what_may_have_been_meant_by_a_missing_file_is_said(write: Write, cell: str, meant: str) -> None:
    rows = rows_of()
    rows[7][0] = cell
    assert refused(write(rows)).allowed.endswith(f"there is {meant}" if meant else "of files that are there")


def test_a_link_is_refused_as_in_folders(write: Write) -> None:
    path = write()
    (path.parent / "img" / "07.png").unlink()
    (path.parent / "img" / "07.png").symlink_to("08.png")
    assert "a link, and only files themselves are read: line 9 (img/07.png)" in refused(path).what


def test_paths_may_lead_beside_the_table(write: Write) -> None:
    path = write()
    other = path.parent / "tables" / "photos.csv"
    other.parent.mkdir()
    other.write_text("".join(["file,label\n", *(f"../{row[0]},{row[1]}\n" for row in rows_of())]))
    assert np.array_equal(opened(other).read(5), opened(path).read(5))


def test_lines_are_counted_past_blank_lines_and_cells_of_many_lines(write: Write) -> None:
    path = write()
    lines = path.read_text().splitlines()
    lines[1:1] = ["", ",,,,,", ""]
    lines[6] = f'"{lines[6].split(",")[0]}","a\nb",0,0,train,p1'
    lines[8] = "img/none.png,rot,0,0,train,p1"
    path.write_text("\n".join(lines))
    assert "line 10 (img/none.png)" in refused(path).what


@pytest.mark.parametrize(
    ("settings", "says", "types"),
    [
        ({"file": "path"}, "no column is called path (data.file)", "data.file=file"),
        ({"label": "lable"}, "no column is called lable (data.label)", "data.label=label"),
        ({"values": ["angel", "shift"]}, "no column is called angel (data.values)", "'data.values=[angle,shift]'"),
        ({"split": "spilt"}, "no column is called spilt (data.split)", "data.split=split"),
        ({"group": "patients"}, "no column is called patients (data.group)", "data.group=patient"),
        ({"group": "zzzzzz"}, "no column is called zzzzzz (data.group)", ""),
        ({"label": "angle"}, "angle holds 60 different numbers in 60 rows", "'data.values=[angle]'"),
    ],
)
def test_a_column_that_is_not_there_is_told_with_the_nearest(
    write: Write, settings: dict[str, Any], says: str, types: str
) -> None:
    mistake = refused(write(), **settings)
    assert says in mistake.what
    assert mistake.type_this == types


def test_a_column_with_a_comma_in_its_name_can_be_typed(write: Write, tmp_path: Path) -> None:
    path = write(columns=["file", "label", "x, mm", *COLUMNS[3:]], sign=";")
    mistake = refused(path, values=["x, mn"])
    assert mistake.nearest == "x, mm"
    from dltrain.config.compose import compose
    from dltrain.config.quote import free_text

    (word,) = [mistake.type_this.strip("'").replace("'\"'\"'", "'")]
    key, _, value = word.partition("=")
    cfg, _ = compose(["data=csv", f"{key}={free_text(value, elements=True)}"])
    assert cfg.data.values == ["x, mm"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it is empty"),
        (b"\n\n  \n", "it is empty"),
        (b"file,label\n", "nothing below its header"),
        (b"img/00.png,cat\nimg/01.png,dog\n", "its first line names no columns, but a file"),
        (b"file,file,label\nimg/00.png,b,c\n", "2 columns are called file"),
        (b'file,label\nimg/00.png,"cat\n', "line 2 cannot be read as a row of cells"),
        (b'file,label\nimg/00.png,"c"at\n', "line 2 cannot be read as a row of cells"),
        (b"file,label\nimg/00.png,c\xe4t\n", "it is not UTF-8 in line 2"),
        ("file,label\n".encode("utf-16"), "it is not UTF-8 in line 1, but UTF-16"),
        (b"PK\x03\x04\xff", "a spreadsheet"),
        (b"file,label\nimg/00.png," + b"x" * 200_000, "field larger than field limit"),
        (b"file,label\nimg/00.png,cat\nimg/01.png,cat\n", "one class only, cat"),
        (b"file,label\nimg/00.png,cat\nimg/01.png,dog\n", "too few images to split in cat (1), dog (1)"),
    ],
)
def test_what_is_no_table_of_images_is_refused(write: Write, content: bytes, says: str) -> None:
    path = write()
    path.write_bytes(content)
    assert says in refused(path).what


def test_a_root_that_is_no_file_is_told_with_the_table_in_it(write: Write) -> None:
    path = write()
    for root, nearest in ((path.parent, str(path)), (path.parent / "none.csv", str(path.parent))):
        with pytest.raises(Mistake) as caught:
            opened(root)
        assert caught.value.nearest == nearest


def test_an_unreadable_image_is_left_out_or_stops_by_the_same_setting_as_folders(write: Write) -> None:
    path = write()
    (path.parent / "img" / "07.png").write_bytes(b"rubbish")
    images = opened(path, values=["angle"])
    assert sum(images.spec.counts.values()) == 59
    assert any("img/07.png" in note for note in images.spec.notes)
    assert images.targets[7, 0] == np.float32(8 / 8)  # the row after the one left out
    with pytest.raises(Mistake, match=r"img/07\.png is not an image"):
        opened(path, unreadable=data.Unreadable.stop)


def test_classes_that_differ_by_case_are_told(write: Write) -> None:
    rows = rows_of()
    rows[0][1], rows[5][1], rows[10][1], rows[15][1] = ["Rot"] * 4
    assert "classes of their own, though alike: Rot and rot" in opened(write(rows)).spec.notes


def test_names_are_sorted_as_people_do() -> None:
    names = ["10", "2", "1", "01", "b2", "b10", "a b", "a", "B1", "٢", "9" * 5000]
    assert sorted(names, key=natural) == ["01", "1", "2", "10", "9" * 5000, "a", "a b", "B1", "b2", "b10", "٢"]


def test_fifty_thousand_rows_take_seconds(write: Write) -> None:
    path = write()
    path.write_text("file,label\n" + "".join(f"img/none{n}.png,{n % 5}\n" for n in range(50_000)))
    began = time.monotonic()
    assert "50,000 of 50,000 rows: a file that is not there" in refused(path).what
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("workers", [None, 0, 2])
@pytest.mark.parametrize("values", [None, ["angle", "shift"]])
def test_both_loaders_give_the_same_bits(write: Write, workers: int | None, values: list[str] | None) -> None:
    """`workers` None: the resident loader against itself from a later step."""
    settings = data.Csv(root=str(write()), size="12", values=values, augment=data.Augment(flip=0.5, crop=2))
    cfg = config(settings, batch_size=8)
    cpu = torch.device("cpu")
    spec = describe(cfg, quiet)
    resident = open_data(cfg, spec, cpu, "resident", 0, quiet)
    other = resident if workers is None else open_data(cfg, describe(cfg, quiet), cpu, "streaming", workers, quiet)
    batches, others = resident.batches(0), other.batches(3)
    for a, b in zip(itertools.islice(batches, 3, 9), others, strict=False):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.ids, b.ids)
        assert a.targets is not None
        assert b.targets is not None
        assert torch.equal(a.targets, b.targets)
        assert a.targets.shape == ((8,) if values is None else (8, 2))
    others.close()  # type: ignore[attr-defined]
    for a, b in zip(resident.split("test"), other.split("test"), strict=True):
        assert torch.equal(a.images, b.images)
    other.close()


@pytest.mark.parametrize("values", ["", "data.values=[angle,shift]"])
def test_it_trains_from_the_command_line(
    write: Write, values: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With values the task follows by itself; mistakes end with 2 before there is a run."""
    monkeypatch.chdir(tmp_path)
    path = write()
    words = ["data=csv", f"data.root={path}", *([values] if values else []), "data.size=12", "model=mlp"]
    words += ["model.widths=[8]", "trainer.epochs=1", "trainer.batch_size=16", "trainer.threads=1", "log=quiet"]
    assert main([*words, "output=run"]) == 0
    assert Run(Path("run")).read_config().task.name == ("regression" if values else "classification")
    assert main([*words, "data.file=path", "output=none"]) == 2
    assert not Path("none").exists()
