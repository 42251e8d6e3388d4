"""Inception-v3 as FID's authors used it (Heusel et al. 2017), by torch-fidelity: for images that have no classes."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dltrain.config.messages import Mistake
from dltrain.measuring.judge import Seen
from dltrain.measuring.view import channels

RELEASE = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0"
BEGINNING = "6726825d"  # of the SHA-256 of its weights
WEIGHTS = f"weights-inception-2015-12-05-{BEGINNING}.pth"
WIDTH = 2048
PORTION = 32  # images at a time: each is enlarged to 299x299
MOST_ON_CPU, MOST = 5_000, 50_000  # training images that are looked at: on a CPU these take minutes


def weights_file() -> Path:
    """Where torch keeps what is fetched for it, and torch-fidelity its weights."""
    return Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS


class Inception:
    """Inception-v3's last pooling layer, 2,048 features. Its classes are ImageNet's and say nothing here."""

    name = "Inception-v3"
    where = "torch-fidelity"
    width = WIDTH
    class_names: tuple[str, ...] = ()

    def __init__(self, device: torch.device) -> None:
        """Fetches the weights (91 MB) where they are not yet. Raises Mistake."""
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        path = weights_file()
        try:
            self.weights_sha256 = _fetched(path)
            # from a file torch-fidelity reads tensors and nothing else, which it does not where it fetches by itself
            network: Any = FeatureExtractorInceptionV3("judge", [str(WIDTH)], feature_extractor_weights_path=str(path))
        except (OSError, RuntimeError, ValueError) as error:
            raise Mistake(
                f"task.judge=inception: its weights cannot be had: {error}",
                allowed=f"a network to fetch them over; or {WEIGHTS} of torch-fidelity's release, put to {path}",
                type_this="task.judge=none",
            ) from None
        self._network = network.to(device).eval()
        self._device = device
        self.most = MOST_ON_CPU if device.type == "cpu" else MOST

    def look(self, images: Tensor) -> Seen:
        """(N, C, H, W) uint8, grey or RGB. In float32, without a gradient, in portions of 32."""
        found = []
        with torch.inference_mode(), torch.autocast(self._device.type, enabled=False):
            for part in torch.split(images, PORTION):
                (features,) = self._network(channels(part.to(self._device), 3).contiguous())
                found.append(features.float().cpu())
        return Seen(torch.cat(found), None)


def _fetched(path: Path) -> str:
    """SHA-256 of the weights' file, fetched if need be. Raises OSError, ValueError if it is not what it should be."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(f"{RELEASE}/{WEIGHTS}", str(path), hash_prefix=BEGINNING)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(BEGINNING):
        raise ValueError(f"{path} has another checksum than its name says; remove it")
    return digest
