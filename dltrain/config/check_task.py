"""What must hold within the settings of a task. Needs no data."""

from dltrain.config.messages import Mistake, require_extra
from dltrain.config.mode import Config, Reproduce, Train
from dltrain.config.model.unet import PerPixel
from dltrain.config.ranges import shown
from dltrain.config.segmentation import Segmentation, SegmentationLoss
from dltrain.config.spec import DataSpec


def check_task_settings(cfg: Config) -> None:
    """Raise Mistake for the first thing that cannot be."""
    _class_weights(cfg)
    if isinstance(cfg.task, Segmentation):
        _weight_map(cfg, cfg.task)


def _class_weights(cfg: Config) -> None:
    weights = getattr(cfg.task, "class_weights", None)
    if weights is None:
        return
    if cfg.task.balanced:
        raise Mistake(
            "task.class_weights and task.balanced=true both weight the classes",
            allowed="one of the two",
            type_this="task.balanced=true task.class_weights=null",
        )
    if not any(weight > 0 for weight in weights):
        raise Mistake(
            f"task.class_weights={shown(weights)} weight no class at all",
            allowed="one weight a class, at least one above 0",
            type_this="task.class_weights=null",
        )


def _weight_map(cfg: Config, task: Segmentation) -> None:
    """w0 and sigma belong to the weight map, and it to the cross-entropy."""
    if not task.weight_map:
        for name in ("w0", "sigma"):
            value, usual = getattr(task, name), getattr(Segmentation(), name)
            if value != usual:
                raise Mistake(
                    f"task.{name}={shown(value)} does nothing without task.weight_map=true",
                    allowed=f"with it, or task.{name}={shown(usual)}",
                    type_this=f"task.weight_map=true task.{name}={shown(value)}",
                )
        return
    if task.loss is SegmentationLoss.dice:
        raise Mistake(
            "task.weight_map=true weighs the pixels of the cross-entropy, and task.loss=dice has none",
            allowed="task.loss=cross_entropy, or both",
            type_this="task.loss=both task.weight_map=true",
        )
    if isinstance(cfg, Train | Reproduce):
        require_extra("scipy", "maps", what="task.weight_map=true")


def check_tile(cfg: Config, spec: DataSpec) -> None:
    """Raise Mistake for tiles that are smaller than what an output of the network looks at."""
    tile = getattr(cfg.task, "tile", None)
    if tile is None or not isinstance(cfg.model, PerPixel):
        return
    least = cfg.model.geometry(spec.shape[1:]).least
    if tile < least:
        raise Mistake(
            f"task.tile={tile} is too small for {cfg.model.title}: what an output looks at would not fit",
            allowed=f"{least} and above, or null",
            type_this=f"task.tile={least}",
        )
