"""Images of different sizes in one piece of memory."""

import numpy as np
import pytest
import torch

from dltrain.data.ragged import Ragged

SIZES = [(3, 5), (1, 1), (4, 2), (3, 5)]
IMAGES = [np.arange(i, i + 2 * h * w, dtype=np.uint8).reshape(2, h, w) for i, (h, w) in enumerate(SIZES)]


def images_in(ragged: Ragged) -> list[np.ndarray]:
    """Each image, cut out by hand."""
    found = []
    for start, (height, width) in zip(ragged.starts.tolist(), ragged.sizes.tolist(), strict=True):
        values = ragged.values[start : start + ragged.channels * height * width]
        found.append(values.numpy().reshape(ragged.channels, height, width))
    return found


def same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return len(first) == len(second) and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_every_image_is_there_as_it_was() -> None:
    ragged = Ragged.of(IMAGES)
    assert same(images_in(ragged), IMAGES)
    assert ragged.values.dtype == torch.uint8
    assert len(ragged.values) == sum(image.size for image in IMAGES)


def test_images_that_are_not_contiguous_come_in_the_order_of_their_indices() -> None:
    turned = [image.transpose(0, 2, 1) for image in IMAGES]
    assert same(images_in(Ragged.of(turned)), turned)


def test_an_array_of_images_is_taken_as_it_lies_in_memory() -> None:
    stack = np.stack([IMAGES[0], IMAGES[3]])
    ragged = Ragged.of(stack)
    assert same(images_in(ragged), list(stack))
    assert ragged.values.data_ptr() == stack.ctypes.data


def test_a_selection_copies_no_pixel_and_may_repeat_and_reorder() -> None:
    ragged = Ragged.of(IMAGES)
    rows = [3, 0, 0, 2]
    chosen = ragged.select(torch.tensor(rows))
    assert same(images_in(chosen), [IMAGES[row] for row in rows])
    assert chosen.values.data_ptr() == ragged.values.data_ptr()
    assert chosen.packed().tolist() == np.concatenate([IMAGES[row].ravel() for row in rows]).tolist()


def test_images_of_one_size_make_one_tensor() -> None:
    alike = Ragged.of(IMAGES).select(torch.tensor([3, 0])).alike((3, 5))
    assert np.array_equal(alike.numpy(), np.stack([IMAGES[3], IMAGES[0]]))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_it_is_the_same() -> None:
    device = torch.device("cuda")
    ragged = Ragged.of(IMAGES).to(device)
    chosen = ragged.select(torch.tensor([3, 0], device=device))
    assert np.array_equal(chosen.alike((3, 5)).cpu().numpy(), np.stack([IMAGES[3], IMAGES[0]]))
    assert chosen.packed().cpu().tolist() == np.concatenate([IMAGES[3].ravel(), IMAGES[0].ravel()]).tolist()
