"""A classifier's pictures show the images they should, with the words they should, whatever the portions."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dltrain.tasks import Batch, answers
from dltrain.tasks.answers import in_words
from dltrain.tasks.classification import Classification
from dltrain.tasks.pictures import to_pixels

NAMES = ("cat", "dog", "a\x1b[31m\nname")
K = len(NAMES)


class Given(nn.Module):
    """Logits that stand in the first pixels of an image."""

    def forward(self, images: Tensor) -> Tensor:
        return images[:, 0, 0, :K] * 20


def make(n: int = 100, seed: int = 0) -> Batch:
    g = torch.Generator().manual_seed(seed)
    images = torch.rand(n, 1, 6, 7, generator=g)
    return Batch(images, torch.randint(K, (n,), generator=g), torch.arange(1000, 1000 + n))


def evaluate(batch: Batch, portion: int = 256) -> Any:
    task = Classification(Given(), NAMES, mean=(0.0,), std=(1.0,))
    return task.evaluate(batch.part(slice(i, i + portion)) for i in range(0, len(batch.ids), portion)).pictures


class Shown:
    """What was given to `sheet`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.real = answers.sheet
        monkeypatch.setattr(answers, "sheet", self)

    def __call__(self, images: Any, captions: list[str], title: str, marks: list[bool]) -> Any:
        self.images = [np.asarray(image) for image in images]
        self.captions, self.title, self.marks = captions, title, marks
        return self.real(images, captions, title=title, marks=marks)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    return Shown(monkeypatch)


def expected(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Answers, probabilities and losses in float64, one image at a time."""
    assert batch.targets is not None
    z = (batch.images[:, 0, 0, :K] * 20).double()
    p = torch.stack([row.exp() / row.exp().sum() for row in z])
    return p.argmax(1), p, -p[torch.arange(len(z)), batch.targets].log()


def test_worst_are_the_wrong_answers_of_highest_loss(shown: Shown) -> None:
    batch = make()
    found, p, losses = expected(batch)
    targets = batch.targets
    assert targets is not None
    wrong = sorted((i for i in range(100) if found[i] != targets[i]), key=lambda i: -losses[i].item())
    assert len(wrong) > 24
    evaluate(batch)["worst"]()
    assert shown.marks == [False] * 24
    assert shown.title == f"24 of {len(wrong)} wrong answers, highest loss first"
    names = ["cat", "dog", "a\\x1b[31m\\nname"]
    for i, image, caption in zip(wrong, shown.images, shown.captions, strict=False):
        assert np.array_equal(image, (batch.images[i, 0] * 255).round().numpy().astype(np.uint8))
        answer, target = int(found[i]), int(targets[i])
        first, second = caption.split("\n")
        assert first.startswith(f"{names[answer]}\t")
        assert second.startswith(f"true {names[target]}\t")
        assert abs(float(first.split("\t")[1].split()[0]) - 100 * p[i, answer].item()) < 0.06
        assert abs(float(second.split("\t")[1].split()[0]) - 100 * p[i, target].item()) < 0.06


def test_predictions_are_spread_in_the_order_of_the_split_and_marked(shown: Shown) -> None:
    batch = make()
    found, _, _ = expected(batch)
    evaluate(batch)["predictions"]()
    pixels = (batch.images[:, 0] * 255).round().numpy().astype(np.uint8)
    rows = [next(i for i in range(100) if np.array_equal(pixels[i], image)) for image in shown.images]
    assert rows == sorted(rows)
    assert len(set(rows)) == 24
    assert max(np.diff(rows)) < 15
    assert shown.marks == [bool(found[i] == batch.targets[i]) for i in rows]  # type: ignore[index]
    assert [caption.count("\n") for caption in shown.captions] == [int(not mark) for mark in shown.marks]
    assert shown.title == "answers to 24 of 100 images"


@pytest.mark.parametrize("name", ["confusion", "worst", "predictions"])
def test_portions_make_no_difference_and_other_images_do(name: str) -> None:
    whole, parts, others = evaluate(make())[name](), evaluate(make(), portion=7)[name](), evaluate(make(seed=1))[name]()
    assert np.array_equal(np.asarray(whole), np.asarray(parts))
    assert whole.size != others.size or (np.asarray(whole) != np.asarray(others)).any()


def test_few_images_and_no_mistake(shown: Shown) -> None:
    batch = make(5)
    right = batch._replace(targets=expected(batch)[0])
    assert evaluate(right)["worst"]().size[1] < 60, "a note in place of a sheet"
    evaluate(right)["predictions"]()
    assert shown.marks == [True] * 5
    wrong = batch._replace(targets=(expected(batch)[0] + 1) % K)
    evaluate(wrong)["worst"]()
    assert shown.title == "all 5 wrong answers of 5 images, highest loss first"


def test_answers_that_are_not_numbers_are_shown(shown: Shown) -> None:
    batch = make(30)
    batch.images[3] = torch.nan
    pictures = evaluate(batch._replace(targets=torch.ones(30, dtype=torch.int64)))
    for name in ("confusion", "worst", "predictions"):
        pictures[name]()
    pictures["worst"]()
    assert "nan" in shown.captions[0]


def test_looking_reads_nothing_back_to_the_host() -> None:
    """On the meta device there are no values: whatever needs one raises."""
    batch = Batch(*(field.to("meta") for field in make() if field is not None))
    looking = answers.Answers(NAMES)
    for _ in range(2):
        logits = Given()(batch.images)
        looking.add(batch, logits, logits.sum(1), lambda images: to_pixels(images, *torch.ones(2, 1, device="meta")))
    with pytest.raises((NotImplementedError, RuntimeError)):
        looking.pictures(torch.zeros(K, K, dtype=torch.int64, device="meta"))["worst"]()


def test_targets_in_words() -> None:
    assert in_words(torch.tensor([1, 0]), ("cat", "dog")) == ["dog", "cat"]
    shares = torch.tensor([[0.3, 0.7, 0.0], [1.0, 0.0, 0.0], [0.25, 0.25, 0.5]])
    assert in_words(shares, ("cat", "dog", "cow")) == ["dog\t70 %\ncat\t30 %", "cat", "cow\t50 %\ncat\t25 %"]
    assert in_words(torch.ones(1, 1), ("cat",)) == ["cat"]
