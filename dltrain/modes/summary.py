"""mode=summary: the layers of a network, a run's or what model= and data= give. Fetches nothing, makes nothing."""

from dltrain.config.mode import Summary
from dltrain.config.spec import DataSpec
from dltrain.models import build_model
from dltrain.modes import summary_layers as layers
from dltrain.report.table import count, folded, near
from dltrain.report.terminal import Screen
from dltrain.run import find


def run(cfg: Summary, spec: DataSpec, screen: Screen) -> int:
    """Print the network's layers and their sums, for a batch as it is trained on. Returns 0."""
    network = build_model(cfg.model, spec.shape, spec.num_outputs)
    batch = cfg.trainer.micro_batch_size or cfg.trainer.batch_size
    found = layers.summarize(network, spec.shape, max(2, batch))
    outputs = count(spec.num_outputs, "class" if spec.class_names else "value")
    of = f"   run {near(find(cfg.run, 'run'))}" if cfg.run is not None else ""
    room = screen.room
    head = [f"{cfg.model.name} for {spec.name}: images of {layers.by(spec.shape)}, {outputs}{of}"]
    if found.device != "meta":
        head.append(f"measured with {count(found.batch, 'image')} on the CPU: the network asks for numbers")
    for line in [*(part for text in head for part in folded(text, room)), "", *layers.table(found, room)]:
        screen.line(line)
    return 0
