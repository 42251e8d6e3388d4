"""The whole config of one run. Each mode adds its own keys to those that every mode has."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from dltrain.config.groups import Which
from dltrain.config.knob import knob


class Determinism(StrEnum):
    exact = "exact"
    fast = "fast"


@dataclass
class Config:
    """Keys that stand alone, and one dataclass a group."""

    mode: str = ""
    seed: int = knob(0, "the only source of randomness", ge=0, lt=2**63)
    device: str = knob("auto", "auto, cpu, cuda or cuda:N")
    determinism: Determinism = knob(Determinism.exact, "exact: same bits from the same config; fast: quicker kernels")
    trust: list[str] = knob(list, "packages of your own whose models and data sets may be imported")
    output: str | None = knob(None, "folder for what is made; null: a new folder below outputs/", free_text=True)
    model: Any = field(default=None)
    data: Any = field(default=None)
    task: Any = field(default=None)
    reg: Any = field(default=None)
    clip: Any = field(default=None)
    optim: Any = field(default=None)
    schedule: Any = field(default=None)
    precision: Any = field(default=None)
    trainer: Any = field(default=None)
    log: Any = field(default=None)
    init: Any = field(default=None)


@dataclass
class Train(Config):
    """Trains, evaluates, and tests the best weights at the end."""

    mode: str = "train"
    resume: str | None = knob(None, "go on with this run: its folder, or last", free_text=True)


@dataclass
class Eval(Config):
    """Metrics again, from a run's checkpoint."""

    mode: str = "eval"
    run: str | None = knob(None, "the run folder, or last", free_text=True)
    checkpoint: Which = knob(Which.best, "which of its checkpoints")


@dataclass
class Reproduce(Config):
    """Trains a run again in a new run and says, bit for bit, whether the same came out."""

    mode: str = "reproduce"
    run: str | None = knob(None, "the run folder, or last", free_text=True)


@dataclass
class Predict(Config):
    """What a trained network says of images: a table, a JSON file and a contact sheet."""

    mode: str = "predict"
    run: str | None = knob(None, "the run folder, or last", free_text=True)
    checkpoint: Which = knob(Which.best, "which of its checkpoints")
    input: str | None = knob(
        None, "an image, a folder (with all that is below it) or a pattern: scans/*.png", free_text=True
    )


@dataclass
class Export(Config):
    """The network with its preprocessing as ONNX, checked by running both."""

    mode: str = "export"
    run: str | None = knob(None, "the run folder, or last", free_text=True)
    checkpoint: Which = knob(Which.best, "which of its checkpoints")


@dataclass
class Generate(Config):
    """Images from a trained generator: PNG files, a grid, the latents; picture i depends on seed and i alone."""

    mode: str = "generate"
    run: str | None = knob(None, "the run folder, or last", free_text=True)
    checkpoint: Which = knob(Which.best, "which of its checkpoints")
    n: int = knob(64, "how many images", ge=1, le=1_000_000)


@dataclass
class Summary(Config):
    """A network's layers, shapes, parameters, multiply-adds and memory; of a run, or of model= and data=."""

    mode: str = "summary"
    run: str | None = knob(None, "the run folder, or last; null: what model= and data= give", free_text=True)


@dataclass
class Compare(Config):
    """Runs side by side: the settings that differ, results with their spread over seeds, paired differences."""

    mode: str = "compare"
    runs: list[str] = knob(list, "run folders, or folders of sweeps", free_text=True)


@dataclass
class LookAtData(Config):
    """A data set: counts, balance, sizes, problems, and a batch before and after augmentation."""

    mode: str = "data"


GROUPS = [
    "mode",
    "optim",
    "schedule",
    "clip",
    "precision",
    "trainer",
    "log",
    "init",
    "task",
    "data",
    "model",
    "reg",
    "experiment",
]
