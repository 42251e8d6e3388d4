"""Settings of the small groups: task, reg, clip, optim, schedule, precision, trainer, log, init."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from dltrain.config.knob import knob

# ---- task


@dataclass
class Classification:
    """Softmax cross-entropy over classes. `kinds` are the kinds of targets that it can learn from."""

    kinds: ClassVar[tuple[str, ...]] = ("class",)
    name: str = "classification"
    label_smoothing: float = knob(0.0, "share of the target spread over all classes", ge=0, lt=1, source="Szegedy 2016")
    class_weights: list[float] | None = knob(None, "weight of each class in the loss, in class order", ge=0)
    balanced: bool = knob(False, "weight classes by N / (K * count) over the training set")


class RegressionLoss(StrEnum):
    mse = "mse"
    mae = "mae"
    huber = "huber"


@dataclass
class Regression:
    """Real values: any number of outputs, each learned in units of its standard deviation over the training set."""

    kinds: ClassVar[tuple[str, ...]] = ("value",)
    name: str = "regression"
    loss: RegressionLoss = knob(RegressionLoss.mse, "mean squared, mean absolute or Huber's error")
    delta: float = knob(1.0, "where Huber's error turns from squared to absolute, in standard deviations", gt=0)


# ---- reg


@dataclass
class Reg:
    """Penalties on weights (not biases, not norms): loss + (l2/2) * sum w^2 + l1 * sum |w|."""

    name: str = "reg"
    l1: float = knob(0.0, "l1 * sum |w|", ge=0)
    l2: float = knob(0.0, "(l2/2) * sum w^2", ge=0)


# ---- clip


@dataclass
class NoClip:
    """Gradients as they are."""

    name: str = "none"


@dataclass
class ClipNorm:
    """g if ||g|| < T else T g / ||g||, over the update's whole gradient (Pascanu 2013)."""

    name: str = "norm"
    max_norm: float = knob(1.0, "T, the largest norm", gt=0)


@dataclass
class ClipValue:
    """Each element kept within [-max_value, max_value]."""

    name: str = "value"
    max_value: float = knob(0.5, "largest magnitude of an element", gt=0)


@dataclass
class ClipAgc:
    """Adaptive gradient clipping, unit-wise (Brock 2021, equation 3); a final linear layer is left out, as there."""

    name: str = "agc"
    factor: float = knob(0.01, "largest ratio of a unit's gradient norm to its weight norm", gt=0)


# ---- optim


@dataclass
class Sgd:
    """Stochastic gradient descent, torch.optim.SGD."""

    name: str = "sgd"
    lr: float = knob(0.05, "learning rate", gt=0)
    momentum: float = knob(0.9, "momentum", ge=0, lt=1)
    nesterov: bool = knob(True, "Nesterov's form of momentum; needs momentum > 0")
    weight_decay: float = knob(0.0, "added to the gradient as weight_decay * w", ge=0)


@dataclass
class Adam:
    """Adam (Kingma and Ba 2015), torch.optim.Adam."""

    name: str = "adam"
    lr: float = knob(1e-3, "learning rate", gt=0)
    betas: list[float] = knob(lambda: [0.9, 0.999], "decay of the gradient's first and second moment", ge=0, lt=1)
    eps: float = knob(1e-8, "added to the denominator", gt=0)
    weight_decay: float = knob(0.0, "added to the gradient as weight_decay * w", ge=0)


@dataclass
class AdamW:
    """AdamW (Loshchilov and Hutter 2019), torch.optim.AdamW."""

    name: str = "adamw"
    lr: float = knob(1e-3, "learning rate", gt=0)
    betas: list[float] = knob(lambda: [0.9, 0.999], "decay of the gradient's first and second moment", ge=0, lt=1)
    eps: float = knob(1e-8, "added to the denominator", gt=0)
    weight_decay: float = knob(0.01, "w shrinks by lr * weight_decay * w each step", ge=0)


# ---- schedule


@dataclass
class Constant:
    """lr, after the warm-up."""

    name: str = "constant"
    warmup: float = knob(0.0, "linear rise of the learning rate from 0", ge=0, unit="epochs")


@dataclass
class Step:
    """lr * gamma^(number of milestones passed), after the warm-up."""

    name: str = "step"
    warmup: float = knob(0.0, "linear rise of the learning rate from 0", ge=0, unit="epochs")
    milestones: list[float] = knob(lambda: [10.0, 15.0], "when the learning rate falls", gt=0, unit="epochs")
    gamma: float = knob(0.1, "factor at each milestone", gt=0, le=1)


@dataclass
class Cosine:
    """lr * (1 + cos(pi t/T)) / 2, after the warm-up (Loshchilov and Hutter 2017, without restarts)."""

    name: str = "cosine"
    warmup: float = knob(0.0, "linear rise of the learning rate from 0", ge=0, unit="epochs")


@dataclass
class OneCycle:
    """Cosine from lr/25 up to lr and down to lr/250,000 (Smith 2018; torch.optim.lr_scheduler.OneCycleLR)."""

    name: str = "onecycle"
    warmup: float | None = knob(None, "rise of the learning rate; null: 30 % of the run", gt=0, unit="epochs")


# ---- precision


@dataclass
class Precision:
    """auto: bf16 on a GPU that has it, else fp32."""

    name: str = "auto"


@dataclass
class Fp16(Precision):
    """Half precision with a gradient scaler (torch.amp.GradScaler)."""

    name: str = "fp16"
    init_scale: float = knob(65536.0, "first factor on the loss", gt=0)
    growth_interval: int = knob(2000, "steps without overflow until the factor doubles", ge=1, unit="steps")


# ---- trainer


class MemoryFormat(StrEnum):
    auto = "auto"
    contiguous = "contiguous"
    channels_last = "channels_last"


@dataclass
class Trainer:
    """How long and in what portions to train."""

    name: str = "trainer"
    epochs: int = knob(20, "passes over the training images", ge=1)
    steps: int | None = knob(None, "number of steps; when given, it replaces epochs", ge=1)
    max_time: str | None = knob(None, "stop after this time, save, go on with resume=: 90s, 45min, 2h30m")
    batch_size: int = knob(128, "images a step", ge=1)
    micro_batch_size: int | None = knob(
        None, "images computed at a time; gradients are accumulated; null: the batch", ge=1
    )
    ema: float | None = knob(
        None, "decay of an exponential moving average of the weights, used to evaluate", gt=0, lt=1
    )
    early_stop: int | None = knob(None, "evaluations without improvement until the run ends", ge=1)
    eval_every: int = knob(1, "evaluate every so many epochs", ge=1, unit="epochs")
    save_every: str = knob("10min", "time between checkpoints beside those at evaluations: 10min, or a number of steps")
    compile: bool = knob(False, "torch.compile the networks")
    threads: str = knob("auto", "CPU threads, part of the result: auto or a number")
    dry_run: bool = knob(False, "one batch of everything, to see that it works; keeps nothing")
    overfit_batches: int | None = knob(
        None, "train and validate on so many batches of images, without augmentation, to see the loss fall to 0", ge=1
    )
    profile: bool = knob(False, "profile ten steps: a trace and the ten dearest operations")
    memory_format: MemoryFormat = knob(MemoryFormat.auto, "auto: channels_last for convolutional networks")


# ---- log


@dataclass
class Log:
    """What is told while training."""

    name: str = "log"
    every: int = knob(
        50, "steps from one point of the training curves to the next; an epoch at most", ge=1, unit="steps"
    )
    layer_norms: bool = knob(False, "also log the gradient norm of each layer")
    histograms: bool = knob(False, "also write histograms of weights and gradients to TensorBoard, once an epoch")
    tensorboard: bool = knob(True, "write scalars, pictures and settings for TensorBoard")
    pictures: bool = knob(True, "draw pictures: the run's curves, the first batch, what is right and wrong")


# ---- init


class Which(StrEnum):
    best = "best"
    last = "last"


@dataclass
class Scratch:
    """Random weights, drawn by the seed."""

    name: str = "scratch"


@dataclass
class FromRun:
    """Weights of another run's checkpoint of the same network."""

    name: str = "run"
    source: str | None = knob(None, "the run folder, or last", free_text=True)
    checkpoint: Which = knob(Which.best, "which of its checkpoints")
