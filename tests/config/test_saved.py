"""`config.json`: what is written is read back the same, and what an attacker writes is refused without effect."""

import copy
import functools
import json
import time
import tracemalloc
from typing import Any

import pytest

from dltrain.config import saved, table
from dltrain.config.compose import compose
from dltrain.config.data import Augment
from dltrain.config.groups import Trainer
from dltrain.config.messages import Mistake
from dltrain.config.mode import Config


def config(*words: str) -> Config:
    return compose(list(words))[0]


@functools.cache
def plain(*words: str) -> dict[str, Any]:
    return saved.to_json(config(*words))


@pytest.mark.parametrize(
    "text", ["фото", "a b", "a#b", "a=b=c", "x(1).png", "[a]", '"quoted"', "back\\slash", "tab\there", "null"]
)
def test_free_text_survives_the_round_trip(text: str) -> None:
    cfg = config("data=folder")
    cfg.data.root = text
    assert saved.from_json(json.dumps(saved.to_json(cfg))).data.root == text


def test_what_belongs_to_the_command_line_is_not_saved() -> None:
    cfg = config("output=elsewhere")
    cfg.trust = ["mine"]
    tree = saved.to_json(cfg)
    assert not {"trust", "output", "resume"} & set(tree)
    read = saved.from_json(json.dumps(tree))
    assert (read.trust, read.output) == ([], None)


def changed(*path: str, to: Any) -> dict[str, Any]:
    tree = copy.deepcopy(plain("data=mnist"))
    at = tree
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = to
    return tree


ATTACKS = {
    "_target_ at the top": changed("_target_", to="os.system"),
    "_target_ in a group": changed("model", "_target_", to="os.system"),
    "the hydra node": changed("hydra", to={"launcher": {"_target_": "os.system"}}),
    "trust": changed("trust", to=["os"]),
    "resume": changed("resume", to="elsewhere"),
    "output": changed("output", to="/etc"),
    "an interpolation": changed("data", "root", to="${oc.env:HOME}"),
    "an interpolation elsewhere": changed("device", to="${oc.env:HOME}"),
    "missing": changed("data", "root", to="???"),
    "a null byte": changed("data", "root", to="a\0b"),
    "a model by path": changed("model", "name", to="os.system"),
    "a model of no name": changed("model", "name", to=None),
    "a mode of no name": changed("mode", to="obey"),
    "a list as a name": changed("model", "name", to=["mlp"]),
    "a text for a number": changed("trainer", "epochs", to="3"),
    "a float for a whole number": changed("trainer", "epochs", to=3.0),
    "a truth for a number": changed("trainer", "epochs", to=True),
    "a truth for a float": changed("optim", "lr", to=True),
    "a number for a truth": changed("task", "balanced", to=1),
    "a number for a text": changed("device", to=0),
    "a list for a number": changed("seed", to=[0]),
    "a number for a list": changed("task", "class_weights", to=1),
    "a list in a list": changed("task", "class_weights", to=[[1]]),
    "a null in a list": changed("task", "class_weights", to=[None]),
    "null where there must be a value": changed("seed", to=None),
    "out of range": changed("optim", "lr", to=-1),
    "a huge whole number": changed("optim", "lr", to=10**400),
    "no choice of ours": changed("determinism", to="sometimes"),
    "an unknown key": changed("trainer", "callbacks", to=[]),
    "a group that is no set of keys": changed("model", to="mlp"),
    "a group that is null": changed("model", to=None),
    "augment that is no set of keys": changed("data", "augment", to=[]),
    "a bad time": changed("trainer", "max_time", to="forever"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_edited_config_is_refused(name: str) -> None:
    saved.from_json(json.dumps(plain("data=mnist")))
    with pytest.raises(Mistake):
        saved.from_json(json.dumps(ATTACKS[name]))


@pytest.mark.parametrize(
    "path", [("mode",), ("model", "name"), *((group,) for group in table.SCHEMAS if group != "mode")]
)
def test_a_missing_group_or_name_is_refused(path: tuple[str, ...]) -> None:
    tree = copy.deepcopy(plain())
    at = tree
    for key in path[:-1]:
        at = at[key]
    del at[path[-1]]
    with pytest.raises(Mistake):
        saved.from_json(json.dumps(tree))


FIRST = {  # as the first version wrote it
    "mode": "train",
    "seed": 3,
    "device": "auto",
    "determinism": "exact",
    "model": {"name": "mlp", "widths": [8], "depth": None, "activation": "relu", "norm": "none", "dropout": 0.0},
    "data": {
        "name": "digits",
        "size": "auto",
        "loader": "auto",
        "workers": None,
        "mean": None,
        "std": None,
        "augment": {"flip": 0.0, "crop": 0, "rotate": 10.0, "translate": 0.1, "scale": 0.1, "shear": 0.0, "cutout": 0},
    },
    "task": {"name": "classification", "label_smoothing": 0.0, "class_weights": None, "balanced": False},
    "reg": {"name": "reg", "l1": 0.0, "l2": 0.0},
    "clip": {"name": "none"},
    "optim": {"name": "adamw", "lr": 0.003, "betas": [0.9, 0.999], "eps": 1e-08, "weight_decay": 0.01},
    "schedule": {"name": "onecycle", "warmup": None},
    "precision": {"name": "auto"},
    "trainer": {
        "name": "trainer",
        "epochs": 20,
        "steps": 20,
        "max_time": None,
        "batch_size": 64,
        "micro_batch_size": None,
        "ema": 0.9,
        "early_stop": None,
        "eval_every": 1,
        "save_every": "10min",
        "compile": False,
        "threads": "1",
        "memory_format": "auto",
    },
    "log": {"name": "log", "every": 50, "layer_norms": False},
    "init": {"name": "scratch"},
}


def test_a_run_of_an_earlier_version_opens() -> None:
    """What it did not know of is as it is by default; what it did say is kept."""
    read = saved.from_json(json.dumps(FIRST))
    now = saved.to_json(read)
    assert now["data"]["augment"].keys() > FIRST["data"]["augment"].keys()  # type: ignore[index]
    words = ["model=mlp", "model.widths=[8]", "trainer.steps=20", "trainer.threads=1", "trainer.ema=0.9", "seed=3"]
    assert read == config(*words)
    for group, settings in FIRST.items():
        if isinstance(settings, dict):
            assert {name: now[group][name] for name in settings if name != "augment"} == {
                name: value for name, value in settings.items() if name != "augment"
            }


def test_a_missing_key_takes_its_default_and_no_other_value() -> None:
    tree = copy.deepcopy(plain("trainer.epochs=7", "data.augment.flip=0.5"))
    del tree["trainer"]["epochs"], tree["data"]["augment"], tree["seed"]
    read = saved.from_json(json.dumps(tree))
    assert (read.trainer.epochs, read.data.augment, read.seed) == (Trainer().epochs, Augment(), 0)


ALIASES = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{after}: &{after} [{','.join([f'*{before}'] * 9)}]\n" for before, after in ("ab", "bc", "cd", "de", "ef")
)
TEXTS = {
    "nothing": "",
    "no object": "[]",
    "a number": "3",
    "YAML": "mode: train\nseed: 0\n",
    "a YAML tag": "!!python/object/apply:os.system ['echo']",
    "a bomb of aliases": ALIASES,
    "nested lists": "[" * 100_000,
    "nested objects": '{"a":' * 40_000,
    "ten megabytes of nesting": "[" * 10_000_000,
    "ten megabytes of text": '{"mode": "' + "x" * 10_000_000 + '"}',
    "not a number": json.dumps(changed("optim", "lr", to=float("nan"))),
    "infinity": json.dumps(changed("optim", "lr", to=float("inf"))),
    "1e999": json.dumps(changed("optim", "lr", to=0.125)).replace("0.125", "1e999"),
    "a key twice": json.dumps(plain()).replace('"seed": 0', '"seed": 0, "seed": 1'),
    "a broken end": json.dumps(plain())[:-1],
    "a surrogate": json.dumps(changed("device", to="\ud800")),
    "digits without end": '{"seed": ' + "9" * 200_000 + "}",
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_that_is_no_config_is_refused_at_once(name: str) -> None:
    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises(Mistake) as told:
            saved.from_json(TEXTS[name])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 1
    assert peak < 50e6
    assert len(str(told.value)) < 500  # the file's own text does not flood the screen


def test_a_message_shows_no_control_characters_of_the_file() -> None:
    with pytest.raises(Mistake) as told:
        saved.from_json(json.dumps(changed("model", "name", to="\x1b[31mred\n")))
    assert "\x1b" not in str(told.value)
    with pytest.raises(Mistake) as told:
        saved.from_json(json.dumps(changed("\x1b[2J", to=1)))
    assert "\x1b" not in str(told.value)
