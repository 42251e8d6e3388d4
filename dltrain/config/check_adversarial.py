"""What must hold between the settings of a generator's training. Needs no data."""

from dltrain.config.adversarial import Adversarial, AdversarialLoss
from dltrain.config.check_judge import check_judge
from dltrain.config.messages import Mistake, has_module, require_extra
from dltrain.config.mode import Compare, Config, Eval, LookAtData, Reproduce, Train
from dltrain.config.model import DCGAN, DiscriminatorNorm
from dltrain.config.overlay import option_of
from dltrain.config.ranges import shown
from dltrain.config.spec import Target

INCEPTION = "torch_fidelity"  # the package that has Inception-v3 as FID's authors used it
USUAL_R1 = 10  # Mescheder et al. 2018, section 4


def check_adversarial(cfg: Config) -> None:
    """Raise Mistake for the first thing that cannot be."""
    if not isinstance(cfg.task, Adversarial) or isinstance(cfg, Compare | LookAtData):
        return
    _range(cfg)
    _idle(cfg, cfg.task)
    _penalties(cfg, cfg.task)
    _compile(cfg, cfg.task)
    _mixed(cfg)
    _judge(cfg, cfg.task)


def _range(cfg: Config) -> None:
    """A generator ends in tanh, so real images must lie in -1 to 1 as well."""
    for name in ("mean", "std"):
        values = getattr(cfg.data, name)
        if values is None or any(value != 0.5 for value in values):
            own = f", the set's own {name}," if values is None else ""
            raise Mistake(
                f"data.{name}={shown(values)}{own} puts real images elsewhere than in -1 to 1, where "
                f"model={option_of('model', cfg.model)} makes them",
                allowed="data.mean=[0.5] data.std=[0.5]: 2x/255 - 1",
                type_this="data.mean=[0.5] data.std=[0.5]",
            )


def _norms_batches(cfg: Config) -> bool:
    return isinstance(cfg.model, DCGAN) and cfg.model.discriminator_norm is DiscriminatorNorm.batch


def _idle(cfg: Config, task: Adversarial) -> None:
    """A penalty's numbers belong to the penalty."""
    alone = " model.discriminator_norm=none" if _norms_batches(cfg) else ""
    usual = Adversarial()
    if task.gradient_penalty != usual.gradient_penalty and task.loss is not AdversarialLoss.wgan_gp:
        value = shown(task.gradient_penalty)
        raise Mistake(
            f"task.gradient_penalty={value} does nothing under task.loss={task.loss}",
            allowed=f"task.loss=wgan_gp, or task.gradient_penalty={shown(usual.gradient_penalty)}; "
            "task.r1 is a penalty for the other losses",
            type_this=f"task.loss=wgan_gp task.gradient_penalty={value}{alone}",
        )
    if task.r1_every != usual.r1_every and task.r1 is None:
        raise Mistake(
            f"task.r1_every={task.r1_every} does nothing without task.r1",
            allowed=f"task.r1 as well, or task.r1_every={usual.r1_every}",
            type_this=f"task.r1={USUAL_R1} task.r1_every={task.r1_every}{alone}",
        )


def _penalized(task: Adversarial) -> str:
    """The key and value that ask for a gradient of a gradient; empty where none does."""
    if task.loss is AdversarialLoss.wgan_gp and task.gradient_penalty > 0:
        return f"task.loss=wgan_gp task.gradient_penalty={shown(task.gradient_penalty)}"
    return "" if task.r1 is None else f"task.r1={shown(task.r1)}"


def _penalties(cfg: Config, task: Adversarial) -> None:
    asks = _penalized(task)
    if asks and _norms_batches(cfg):
        raise Mistake(
            f"{asks} is about the gradient at each image alone, and with model.discriminator_norm=batch what is said "
            "of an image hangs on the others",
            allowed="model.discriminator_norm=none|spectral",
            type_this="model.discriminator_norm=none",
        )


def _compile(cfg: Config, task: Adversarial) -> None:
    asks = _penalized(task)
    if asks and cfg.trainer.compile and isinstance(cfg, Train | Reproduce):
        raise Mistake(
            f"{asks} needs the gradient of a gradient, which torch.compile does not have: trainer.compile=true",
            allowed="trainer.compile=false, or a loss without such a penalty",
            type_this="trainer.compile=false",
        )


def _mixed(cfg: Config) -> None:
    """What is between two images is no image that a generator should learn to make."""
    for name in ("mixup", "cutmix"):
        value = getattr(cfg.data.augment, name, 0)
        if value and isinstance(cfg, Train | Reproduce):
            raise Mistake(
                f"data.augment.{name}={shown(value)} shows mixtures of two images, and a generator learns to make what "
                "it is shown",
                allowed=f"data.augment.{name}=0",
                type_this=f"data.augment.{name}=0",
            )


def _judge(cfg: Config, task: Adversarial) -> None:
    """What is asked for in so many words must be there; what `auto` cannot find is told when the run begins."""
    if not isinstance(cfg, Train | Reproduce | Eval):
        return
    check_judge(task, settled=isinstance(cfg, Reproduce) or (isinstance(cfg, Train) and cfg.resume is not None))
    if task.judge == "inception":
        require_extra(INCEPTION, "fid", what="task.judge=inception")
    if cfg.trainer.early_stop is not None and not isinstance(cfg, Eval) and (why := without_judge(cfg, task)):
        raise Mistake(
            f"trainer.early_stop={cfg.trainer.early_stop} waits for a better FID, and none is measured: {why}",
            allowed="task.judge=digits, or the run of a classifier; or trainer.early_stop=null",
            type_this="trainer.early_stop=null",
        )


def without_judge(cfg: Config, task: Adversarial) -> str:
    """Why no FID will be measured, as far as the settings tell; empty where it may be."""
    if task.judge == "none":
        return "task.judge=none"
    unlabelled = cfg.data.target_kind != Target.classes
    if task.judge == "auto" and unlabelled and not has_module(INCEPTION):
        return f'data={cfg.data.name} has no classes, and task.judge=inception needs pip install "dltrain[fid]"'
    return ""
