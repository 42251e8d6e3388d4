"""Inception-v3 by torch-fidelity: only with the weights that it should have."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

from dltrain.config.messages import Mistake
from dltrain.measuring import inception

theirs: Any = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")


@pytest.fixture(autouse=True)
def empty_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))


def test_weights_that_are_not_the_known_ones_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    path = inception.weights_file()
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something else")

    def never(*_: object, **__: object) -> None:
        raise AssertionError("read")

    monkeypatch.setattr(torch, "load", never)
    with pytest.raises(Mistake, match="has another checksum than its name says") as caught:
        inception.Inception(torch.device("cpu"))
    assert str(path) in str(caught.value)
    assert caught.value.type_this == "task.judge=none"


def test_without_a_network_it_is_a_mistake_that_says_where_the_file_belongs(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(Mistake, match="its weights cannot be had: no network") as caught:
        inception.Inception(torch.device("cpu"))
    assert inception.WEIGHTS in caught.value.allowed


@pytest.mark.slow
def test_its_features_are_torch_fidelitys_of_grey_images_and_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of weights that are drawn here, since those that are known would have to be fetched."""
    extractor = theirs.FeatureExtractorInceptionV3
    with monkeypatch.context() as patch:
        patch.setattr(theirs, "load_state_dict_from_url", lambda *_, **__: None)
        patch.setattr(extractor, "load_state_dict", lambda *_: None)
        torch.manual_seed(0)
        network = extractor("drawn", ["2048"])
    path = inception.weights_file()
    path.parent.mkdir(parents=True)
    torch.save(network.state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(inception, "BEGINNING", digest[:8])
    judge = inception.Inception(torch.device("cpu"))
    assert judge.weights_sha256 == digest
    grey = torch.randint(0, 256, (3, 1, 28, 28), dtype=torch.uint8)
    seen = judge.look(grey)
    with torch.inference_mode():
        (expected,) = network(grey.repeat(1, 3, 1, 1))
    assert seen.features.shape == (3, judge.width)
    torch.testing.assert_close(seen.features, expected, rtol=0, atol=1e-5)
    assert seen.classes is None
    assert not torch.equal(judge.look(torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)).features, expected[:1])
