"""Metrics of single outputs and classes as people read them."""

from collections.abc import Mapping

from dltrain.config.spec import DataSpec, Target
from dltrain.report.table import metric, percent, spoken
from dltrain.report.terminal import safe

MOST = 12  # outputs that get a line; all of them are in results.json
MOST_CLASSES = 32  # of pixels


def with_unit(name: str, value: float, spec: DataSpec) -> str:
    """A metric's value; an error of the only output, or of the output it is named after, with its unit if known."""
    rest = name.partition("/")[2]
    what, _, output = rest.partition("/")
    if what == "mae" and spec.value_units and (output or len(spec.value_names) == 1):
        unit = spec.value_units[spec.value_names.index(output) if output else 0]
        return f"{metric(name, value)} {safe(unit)}".rstrip()
    return metric(name, value)


def is_repeated(name: str, spec: DataSpec) -> bool:
    """Whether a metric of the only output says what the one without its name says already."""
    return len(spec.value_names) == 1 and name.partition("/")[2].startswith(("r2/", "mae/"))


def of_real(name: str) -> str:
    """The metric of real images that stands beside one of generated images: `val/real_fid` of `val/fid`."""
    split, _, what = name.partition("/")
    return f"{split}/real_{what}"


def is_of_real(name: str, metrics: Mapping[str, float]) -> bool:
    """Whether a metric of real images stands beside that of generated ones."""
    split, _, what = name.partition("/")
    return what.startswith("real_") and f"{split}/{what.removeprefix('real_')}" in metrics


def beside_real(name: str, metrics: Mapping[str, float]) -> str:
    """`   real images 0.412`, behind a metric of generated images; empty behind others."""
    real = of_real(name)
    return f"   real images {metric(real, metrics[real])}" if real in metrics else ""


def of_each_output(metrics: Mapping[str, float], spec: DataSpec, split: str) -> list[tuple[str, str]]:
    """`rotation`, `R² 0.534   MAE 14.1 degrees` for each of several outputs; empty where there is one or none."""
    if len(spec.value_names) < 2:
        return []
    rows = []
    for name in spec.value_names[:MOST]:
        keys = [key for key in (f"{split}/r2/{name}", f"{split}/mae/{name}") if key in metrics]
        texts = [f"{spoken(key.split('/')[1])} {with_unit(key, metrics[key], spec)}" for key in keys]
        rows.append((safe(name), "   ".join(texts)))
    if more := len(spec.value_names) - MOST:
        rows += [("…", f"and {more} more in results.json")] if more > 0 else []
    return rows


def of_each_class(metrics: Mapping[str, float], spec: DataSpec, split: str) -> list[tuple[str, str]]:
    """`cell`, `IoU 83.1 %   Dice 90.8 %` for each class of pixels; empty where classes are those of images.

    A class without pixels in the split has no numbers.
    """
    if spec.target != Target.mask:
        return []
    rows = []
    for name in spec.class_names[:MOST_CLASSES]:
        keys = [key for key in (f"{split}/iou/{name}", f"{split}/dice/{name}") if key in metrics]
        texts = [f"{spoken(key.split('/')[1])} {percent(metrics[key])}" for key in keys]
        rows.append((safe(name), "   ".join(texts) or f"no pixels in {split}"))
    if (more := len(spec.class_names) - MOST_CLASSES) > 0:
        rows.append(("…", f"and {more} more in results.json"))
    return rows
