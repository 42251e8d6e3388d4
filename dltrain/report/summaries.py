"""The messages that TensorBoard reads, filled: scalars, pictures, histograms, text, and a run's settings.

Each function returns a `Summary.Value`. What is imported comes from tensorboard alone, late: 20 ms once torch is there.
"""

import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from dltrain.config.ranges import shown
from dltrain.report.terminal import safe

BINS = 64
START, END = "_hparams_/session_start_info", "_hparams_/session_end_info"


def event(step: int, now: float, values: list[Any]) -> Any:
    """An `Event` of these values."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Event(wall_time=now, step=step, summary=Summary(value=values))


def scalar(tag: str, value: float) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary.Value(tag=tag, simple_value=value)


def picture(tag: str, image: Image) -> Any:
    """The image as PNG."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    image = image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGB")
    png = io.BytesIO()
    image.save(png, "PNG")
    content = Summary.Image(
        width=image.width,
        height=image.height,
        colorspace=len(image.getbands()),
        encoded_image_string=png.getvalue(),
    )
    return Summary.Value(tag=safe(tag), image=content)


def histogram(tag: str, values: NDArray[np.float64]) -> Any:
    """64 bins of equal width over the (N,) finite values, N at least 1."""
    from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary

    counts, edges = np.histogram(values, BINS)
    content = HistogramProto(
        min=values.min(),
        max=values.max(),
        num=values.size,
        sum=values.sum(),
        sum_squares=np.square(values).sum(),
        bucket_limit=edges[1:].tolist(),
        bucket=counts.tolist(),
    )
    return Summary.Value(tag=tag, histo=content)


def text(tag: str, content: str) -> Any:
    """Text in a fixed-width block."""
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING
    from tensorboard.plugins.text.plugin_data_pb2 import TextPluginData

    block = "\n".join(f"    {safe(line)}" for line in content.splitlines())  # Markdown's code block
    value = _of_plugin(tag, "text", TextPluginData(version=0))
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    value.tensor.CopyFrom(TensorProto(dtype=DT_STRING, tensor_shape=shape, string_val=[block.encode()]))
    return value


def outline(tree: Mapping[str, Any], indent: str = "") -> str:
    """A tree as indented lines, its values as one types them."""
    lines = []
    for key, value in tree.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}:", outline(value, indent + "  ")]
        else:
            lines.append(f"{indent}{key}: {shown(value)}")
    return "\n".join(lines)


def settings(name: str, tree: Mapping[str, Any], now: float) -> Any:
    """A line `name` of the table of runs (HParams), with every leaf of a config.

    There is no list of the settings that the table is to have: TensorBoard would take that of one run for all, and hide
    what only others have. Without it, it makes its own from all runs.
    """
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    content = HParamsPluginData()
    start = content.session_start_info
    start.group_name, start.start_time_secs = name, now
    for key, value in _leaves(tree):
        kind = "bool" if isinstance(value, bool) else "number" if isinstance(value, int | float) else "string"
        setattr(start.hparams[key], f"{kind}_value", shown(value) if kind == "string" else value)
    return _of_plugin(START, "hparams", content)


def completed(now: float) -> Any:
    """The end of what `settings` began."""
    from tensorboard.plugins.hparams.api_pb2 import STATUS_SUCCESS
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    content = HParamsPluginData()
    content.session_end_info.status, content.session_end_info.end_time_secs = STATUS_SUCCESS, now
    return _of_plugin(END, "hparams", content)


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _of_plugin(tag: str, plugin: str, content: Any) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata

    data = SummaryMetadata.PluginData(plugin_name=plugin, content=content.SerializeToString())
    return Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=data))
