"""mode=summary: the layers of a network, a run's or what model= and data= give. Fetches nothing, makes nothing."""

from dltrain.config.mode import Summary
from dltrain.config.model import DCGAN
from dltrain.config.spec import DataSpec, Target
from dltrain.models import build_model, outline
from dltrain.modes import summary_layers as layers
from dltrain.report.table import count, folded, near
from dltrain.report.terminal import Screen
from dltrain.run import find


def run(cfg: Summary, spec: DataSpec, screen: Screen) -> int:
    """Print the network's layers and their sums, for a batch as it is trained on; of a DCGAN both. Returns 0."""
    batch = max(2, cfg.trainer.micro_batch_size or cfg.trainer.batch_size)
    try:
        found = summaries(cfg, spec, batch, on_meta=True)
    except NotImplementedError:  # a network that asks for numbers is built with them
        found = summaries(cfg, spec, batch, on_meta=False)
    room = screen.room
    head = [f"{cfg.model.title} for {spec.name}: {described(cfg, spec, found)}"]
    head[0] += f"   run {near(find(cfg.run, 'run'))}" if cfg.run is not None else ""
    head += cfg.model.notes(spec.shape[1:])
    for one in found.values():
        if one.device != "meta":
            head.append(f"measured with {count(one.batch, 'image')} on the CPU: the network asks for numbers")
    lines = [part for text in head for part in folded(text, room)]
    for name, one in found.items():
        lines += ["", *([name, ""] if name else []), *layers.table(one, room)]
    for line in lines:
        screen.line(line)
    return 0


def summaries(cfg: Summary, spec: DataSpec, batch: int, on_meta: bool) -> dict[str, layers.Summary]:
    """By the names of the networks; the only one of most models has none."""
    network = (outline if on_meta else build_model)(cfg.model, spec.shape, spec.num_outputs)
    if not isinstance(cfg.model, DCGAN):
        return {"": layers.summarize(network, spec.shape, batch)}
    latents = (cfg.model.latent_dim,)
    return {
        "generator": layers.summarize(network.get_submodule("generator"), latents, batch),
        "discriminator": layers.summarize(network.get_submodule("discriminator"), spec.shape, batch),
    }


def described(cfg: Summary, spec: DataSpec, found: dict[str, layers.Summary]) -> str:
    """What goes in and what comes out: `images of 1x28x28, 10 classes`."""
    images = f"{'windows' if spec.target == Target.mask else 'images'} of {layers.by(spec.shape)}"
    if isinstance(cfg.model, DCGAN):
        parameters = sum(one.parameters for one in found.values())
        return f"{images} from {count(cfg.model.latent_dim, 'number')}, {parameters:,} parameters in two networks"
    return f"{images}, {count(spec.num_outputs, 'class' if spec.class_names else 'value')}"
