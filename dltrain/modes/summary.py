"""mode=summary: the layers of a network, a run's or what model= and data= give. Fetches nothing, makes nothing."""

from dltrain.config.mode import Summary
from dltrain.config.spec import DataSpec, Target
from dltrain.models import build_model, outline
from dltrain.modes import summary_layers as layers
from dltrain.report.table import count, folded, near
from dltrain.report.terminal import Screen
from dltrain.run import find


def run(cfg: Summary, spec: DataSpec, screen: Screen) -> int:
    """Print the network's layers and their sums, for a batch as it is trained on. Returns 0."""
    size = cfg.model, spec.shape, spec.num_outputs
    batch = max(2, cfg.trainer.micro_batch_size or cfg.trainer.batch_size)
    try:
        found = layers.summarize(outline(*size), spec.shape, batch)
    except NotImplementedError:  # a network that asks for numbers is built with them
        found = layers.summarize(build_model(*size), spec.shape, batch)
    outputs = count(spec.num_outputs, "class" if spec.class_names else "value")
    of = f"   run {near(find(cfg.run, 'run'))}" if cfg.run is not None else ""
    room = screen.room
    what = "windows" if spec.target == Target.mask else "images"
    head = [f"{cfg.model.title} for {spec.name}: {what} of {layers.by(spec.shape)}, {outputs}{of}"]
    head += cfg.model.notes(spec.shape[1:])
    if found.device != "meta":
        head.append(f"measured with {count(found.batch, 'image')} on the CPU: the network asks for numbers")
    for line in [*(part for text in head for part in folded(text, room)), "", *layers.table(found, room)]:
        screen.line(line)
    return 0
