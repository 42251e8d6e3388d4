"""Which judge a run has, and what it measures by it."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from dltrain import signals
from dltrain.config.adversarial import Adversarial
from dltrain.config.check_adversarial import INCEPTION
from dltrain.config.data import Digits, Fetched
from dltrain.config.messages import Failure, Mistake, has_module
from dltrain.config.mode import Config, Train
from dltrain.config.spec import DataSpec, Target
from dltrain.data.loaders import Data
from dltrain.environment import Environment
from dltrain.measuring.classifier import Classifier, open_run
from dltrain.measuring.judge import Judge, describe, tell
from dltrain.measuring.measures import Measures
from dltrain.report.terminal import Screen
from dltrain.tasks.balance import cures
from dltrain.text import safe_text

UNKNOWN = object()  # which judge a run had is not recorded
Record = dict[str, str] | None


def measures_for(
    cfg: Config, spec: DataSpec, data: Data, env: Environment, screen: Screen, recorded: Any = UNKNOWN
) -> Measures | None:
    """What an adversarial task is measured by; None for every other task.

    `recorded` is the judge of a run that goes on or is done again, None where it had none: then it has none now. No
    trace of a judge that had to be trained is left in torch. Raises Mistake where an explicit `task.judge` cannot be
    met; where `auto` cannot, the screen says so.
    """
    if not isinstance(cfg.task, Adversarial):
        return None
    judge = None if recorded is None else _judge(cfg, spec, data, env, screen)
    if judge is None and isinstance(cfg, Train) and cfg.trainer.early_stop is not None:
        raise Mistake(
            f"trainer.early_stop={cfg.trainer.early_stop} waits for a better FID, and none is measured",
            allowed="task.judge=digits, or the run of a classifier; or trainer.early_stop=null",
            type_this="trainer.early_stop=null",
        )
    return Measures(judge, lambda: _until_asked(data), spec.counts["train"], cures(cfg), partial(tell, screen))


def record_of(measures: Measures | None) -> Record:
    """What `environment.json` says of the judge; None where there is none."""
    return None if measures is None or measures.judge is None else describe(measures.judge)


def spoken_judge(record: dict[str, Any]) -> str:
    """`judge LeNet-5, /home/…/judges/…, weights sha256 0123456789ab`, of a record that is not trusted."""
    name, where, digest = (safe_text(str(record.get(key, "?"))) for key in ("model", "run", "weights_sha256"))
    return f"judge {name}, {where}, weights sha256 {digest[:12]}"


def _until_asked(data: Data) -> Iterator[Tensor]:
    """The training images; broken off when a signal asks to stop."""
    for pixels in data.pixels("train"):
        signals.stop_if_asked()
        yield pixels


def _judge(cfg: Config, spec: DataSpec, data: Data, env: Environment, screen: Screen) -> Judge | None:
    wanted: str = cfg.task.judge
    if wanted == "none":
        return None
    if wanted == "digits":
        return _trained(Digits(), "", cfg, spec, env, screen)
    if wanted == "inception":
        return _inception(env)
    if wanted != "auto":
        return open_run(Path(wanted), type(cfg.data).native, spec.shape[1:], env.device, screen.line)
    if spec.target is Target.classes and len(spec.class_names) > 1:
        try:
            # known sets are checked by their SHA-256: one judge serves whatever size their images are seen in
            pixels = "" if isinstance(cfg.data, Digits | Fetched) else data.digest()
            return _trained(cfg.data, pixels, cfg, spec, env, screen)
        except (Failure, Mistake) as error:
            _not_measured(screen, f"no judge could be trained: {error}")
            return None
    return _if_there(spec, env, screen)


def _trained(settings: Any, pixels: str, cfg: Config, spec: DataSpec, env: Environment, screen: Screen) -> Classifier:
    from dltrain.modes import judge_run

    theirs, their_spec = judge_run.described(judge_run.config_for(settings, cfg.trust, dry_run=cfg.trainer.dry_run))
    with judge_run.trained(theirs, their_spec, pixels, env, screen) as folder:
        return open_run(folder, type(cfg.data).native, spec.shape[1:], env.device, screen.line)


def _inception(env: Environment) -> Judge:
    from dltrain.measuring.inception import Inception

    return Inception(env.device)


def _if_there(spec: DataSpec, env: Environment, screen: Screen) -> Judge | None:
    """Inception-v3 if all of it is on this machine: nothing is fetched that nobody asked for."""
    from dltrain.measuring import inception

    classes = "one class" if spec.target is Target.classes else "no classes"
    if not has_module(INCEPTION):
        needs = 'Inception-v3 needs pip install "dltrain[fid]"'
    elif not inception.weights_file().is_file():
        needs = "Inception-v3's weights (91 MB) are not here: task.judge=inception fetches them"
    else:
        return inception.Inception(env.device)
    _not_measured(screen, f"{spec.name} has {classes} to train a judge on, and {needs}")
    return None


def _not_measured(screen: Screen, why: str) -> None:
    others = "task.judge=digits and task.judge=RUN (a classifier's) measure by another judge"
    tell(screen, f"FID is not measured: {why}\n  {others}")
