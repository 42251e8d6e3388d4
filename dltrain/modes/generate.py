"""mode=generate: images from a run's generator, with the latents that they are made from."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import dltrain
from dltrain import atomic, checkpoint, environment
from dltrain.config.mode import Generate
from dltrain.config.spec import DataSpec
from dltrain.data.sizes import to_image
from dltrain.environment import Environment
from dltrain.loaded import open_task
from dltrain.output import made
from dltrain.report.samples import grid
from dltrain.report.table import count, duration, labelled, near
from dltrain.report.terminal import Screen
from dltrain.run import Run, find
from dltrain.text import json_bytes

PORTION = 512  # images that are held in memory
ON_GRID = 256


def run(cfg: Generate, spec: DataSpec, screen: Screen) -> int:
    """Write `cfg.n` images by `cfg.seed` from `cfg.run`'s `cfg.checkpoint`, a grid of them, and their latents.

    Returns 0. The files appear all together, or not at all.
    """
    assert cfg.run is not None
    folder = find(cfg.run, "run")
    env = environment.resolve(cfg, spec, Run(folder).environment())
    environment.apply(env)
    task, state = open_task(folder, cfg, spec, cfg.checkpoint.value, screen.line)
    task.to(env.device, memory_format=env.memory_format)
    screen.line(f"{near(folder)}   checkpoint {cfg.checkpoint.value}, step {state['step']:,}")
    with made(cfg.output, folder / "generate") as product:
        place = product.temporary
        first, latents = write_images(place / "images", task, cfg, screen)
        page = grid(first)
        atomic.write_new(place / "grid.png", lambda file: page.save(file, "PNG"))
        atomic.write_new(place / "latents.npz", lambda file: np.savez(file, latents=latents))
        about = describe(cfg, spec, env, folder, task, state["step"])
        text = json_bytes(json.dumps(about, indent=2, ensure_ascii=False) + "\n")
        atomic.write_new(place / "generate.json", lambda file: file.write(text))
    show(product.path, cfg, spec, screen)
    return 0


def name_of(number: int) -> str:
    """The file of an image: the same however many there are."""
    return f"{number:06d}.png"


def write_images(place: Path, task: Any, cfg: Generate, screen: Screen) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """All images as files in the new folder `place`. Returns the first, (N, C, H, W), and all latents, (n, Z)."""
    place.mkdir()
    first: NDArray[np.uint8] = np.empty(0, np.uint8)
    latents: list[NDArray[Any]] = []
    began = time.monotonic()
    for start in range(0, cfg.n, PORTION):
        drawn = task.latents(cfg.seed, min(PORTION, cfg.n - start), start)
        latents.append(drawn.numpy())
        images = task.generate(drawn).numpy()
        first = first if start else images[:ON_GRID]
        for number, pixels in enumerate(images, start):
            to_image(pixels).save(place / name_of(number), "PNG")
        done = start + len(images)
        left = (time.monotonic() - began) / done * (cfg.n - done)
        words = [f"{done:,} of {count(cfg.n, 'image')}", f"{duration(left)} left"]
        screen.progress("generate", done, cfg.n, words.copy)
    screen.clear()
    return first, np.concatenate(latents)


def describe(cfg: Generate, spec: DataSpec, env: Environment, folder: Path, task: Any, step: int) -> dict[str, Any]:
    """`generate.json`: all that the images depend on."""
    return {
        "dltrain": dltrain.__version__,
        "run": near(folder),
        "checkpoint": cfg.checkpoint.value,
        "step": step,
        "weights_sha256": checkpoint.weights_sha256(task.state_dict()),
        "model": cfg.model.title,
        "seed": cfg.seed,
        "n": cfg.n,
        "images": {"files": f"images/{name_of(0)} to {name_of(cfg.n - 1)}", "shape": list(spec.shape)},
        "latents": {"file": "latents.npz", "array": "latents", "shape": [cfg.n, task.model.latent_dim]},
        "device": str(env.device),
        "threads": env.threads,
        "torch": env.versions["torch"],
    }


def show(place: Path, cfg: Generate, spec: DataSpec, screen: Screen) -> None:
    """What was made, and how to get the same or others."""
    channels, height, width = spec.shape
    colour = "grey" if channels == 1 else "RGB"
    of_all = "" if cfg.n <= ON_GRID else f", the first {ON_GRID}"
    rows = {
        "generated": f"{count(cfg.n, 'image')} of {height}x{width}, {colour}, by seed {cfg.seed}",
        "images": f"{near(place / 'images')}   {name_of(0)} to {name_of(cfg.n - 1)}",
        "grid": f"{near(place / 'grid.png')}{of_all}",
        "latents": f"{near(place / 'latents.npz')}   one row an image; generate.json says what they depend on",
    }
    for label, text in rows.items():
        for line in labelled(label, text, screen.room):
            screen.line(line)
    screen.line(f"written      {near(place)}")
