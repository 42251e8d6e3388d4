"""From words on the command line to the typed config, by Hydra; for a run that exists, laid over its own config."""

import copy
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.utils import create_config_search_path
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.core.utils import JobRuntime, setup_globals
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf

from dltrain.config import saved, store, table, trust
from dltrain.config.check_fit import images_without_masks
from dltrain.config.messages import Mistake
from dltrain.config.mode import GROUPS, Config
from dltrain.config.overlay import HORIZON, option_of, refuse_changes

_ALONE = {f.name for cls in table.SCHEMAS["mode"].values() for f in fields(cls)} - set(GROUPS)


def load(overrides: list[str]) -> DictConfig:
    """Hydra's composition with its own node `hydra`. Raises whatever Hydra raises.

    Words that only set keys take no part in choosing files, and Hydra applies them last. So what the other words give
    is kept, and copied: the jobs of a sweep differ in such words most of the time.
    """
    store.register()
    setup_globals()
    JobRuntime.instance().set("name", "dltrain")
    typed = OverridesParser.create().parse_overrides(trust.searchpath(overrides) + overrides)
    setting = [one for one in typed if _only_sets_a_key(one)]
    choosing = tuple(str(one.input_line) for one in typed if not _only_sets_a_key(one))
    composed = copy.deepcopy(_chosen(choosing, _state_of_configs()))
    ConfigLoaderImpl._apply_overrides_to_config(setting, composed)
    own = [one for one in typed if not one.is_hydra_override()]
    composed.hydra.overrides.task = [one.input_line for one in own]
    dirname = composed.hydra.job.config.override_dirname
    composed.hydra.job.override_dirname = get_overrides_dirname(
        own, exclude_keys=dirname.exclude_keys, item_sep=dirname.item_sep, kv_sep=dirname.kv_sep
    )
    composed.hydra.runtime.cwd = str(Path.cwd())
    return composed


def _only_sets_a_key(one: Override) -> bool:
    """`seed=1`, `trainer.epochs=3`; no group, nothing of Hydra's own, no sweep."""
    key = one.key_or_group
    plain = one.type == OverrideType.CHANGE and one.package is None and not one.is_sweep_override()
    return plain and not one.is_hydra_override() and ("." in key or key in _ALONE)


def _state_of_configs() -> tuple[object, ...]:
    """Changes whenever a dataclass or a YAML file of the groups does."""
    folders = [table.configs_folder(), *table.extra_folders()]
    files = [(str(path), path.stat().st_mtime_ns) for folder in folders for path in sorted(folder.rglob("*.yaml"))]
    classes = [(group, name, cls) for group, names in table.SCHEMAS.items() for name, cls in names.items()]
    return *files, *classes, *table.TASK_OF_KIND.items()


@lru_cache(maxsize=64)
def _chosen(choosing: tuple[str, ...], state: tuple[object, ...]) -> DictConfig:
    loader = ConfigLoaderImpl(create_config_search_path(str(table.configs_folder())))
    return loader.load_configuration("config", list(choosing), RunMode.RUN)


def to_config(composed: DictConfig) -> Config:
    """The dataclass of the mode, filled; every group is a dataclass of its own."""
    cls = table.SCHEMAS["mode"][composed["mode"]]
    values = {}
    for f in fields(cls):
        value = composed[f.name]
        values[f.name] = OmegaConf.to_object(value) if isinstance(value, DictConfig | ListConfig) else value
    return cls(**values)  # type: ignore[no-any-return]


def compose(overrides: list[str]) -> tuple[Config, DictConfig]:
    """The typed config, and Hydra's composition behind it with its node `hydra`.

    With `resume=RUN`, or `run=RUN` under a mode that opens a run, the config is the run's own, with what the user
    typed laid over it. Raises Mistake for everything that does not compose.
    """
    try:
        typed = [one for one in OverridesParser.create().parse_overrides(overrides) if one.key_or_group != "hydra"]
        opened = _run_that_is_opened(typed)
        if opened is None:
            composed = load(overrides)
            if task := _task_that_follows(typed, composed):
                composed = load([*overrides, f"task={task}"])
        else:
            folder, composed = _over_saved(overrides, typed, *opened)
        _refuse_two_lengths(typed, composed)
        _refuse_change_of_folder(composed)
        cfg = to_config(composed)
        if opened is not None:
            setattr(cfg, opened[1], str(folder))  # `last` is looked up once
        return cfg, composed
    except Mistake:
        raise
    except Exception as error:
        mistake = _generator_beside_masks(overrides) or _file_sets_foreign_key(overrides)
        if mistake is None:
            from dltrain.config.diagnose import diagnose

            mistake = diagnose(overrides, error)
        raise mistake from None


def _task_that_follows(typed: list[Override], composed: DictConfig) -> str | None:
    """The task for targets whose kind the settings of the data decide; None if the task is right or was typed."""
    kind = OmegaConf.to_object(composed["data"]).target_kind  # type: ignore[union-attr]
    kinds = OmegaConf.to_object(composed["task"]).kinds  # type: ignore[union-attr]
    return None if kind in kinds or any(one.key_or_group == "task" for one in typed) else table.TASK_OF_KIND.get(kind)


def _values(typed: list[Override]) -> dict[str, Any]:
    return {one.key_or_group: one.value() for one in typed if not one.is_sweep_override()}


def _run_that_is_opened(typed: list[Override]) -> tuple[str, str, str] | None:
    """(mode, key, text) if the words name a run whose config is to be used."""
    values = _values(typed)
    mode = values.get("mode", "train")
    key = "resume" if mode == "train" else "run"
    text = values.get(key)
    return None if text is None else (str(mode), key, str(text))


def _over_saved(overrides: list[str], typed: list[Override], mode: str, key: str, text: str) -> tuple[Path, DictConfig]:
    """The run's folder, and its own config with the typed leaves over it."""
    from dltrain import run

    words = {name: _as_typed(one) for one in typed for name in _leaves_of(one)}
    resume = key == "resume"
    folder = run.find(text, key, unfinished=resume, longer=resume and bool(HORIZON & set(words)))
    of_the_run = run.Run(folder).read_config()
    refuse_changes(mode, folder, of_the_run, words)
    chosen = {one.key_or_group for one in typed}
    choices = [
        f"{group}={option_of(group, getattr(of_the_run, group))}"
        for group in GROUPS
        if group not in ("mode", "experiment") and group not in chosen
    ]
    composed = load([*choices, *overrides])
    kept = saved.OF_THE_COMMAND_LINE | {"mode", "run", "checkpoint"} | set(words)
    for name, value in leaves(of_the_run):
        if name not in kept and name.partition(".")[0] not in chosen:
            OmegaConf.update(composed, name, value, merge=False)
    return folder, composed


def leaves(settings: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(key, value) of every setting: `trainer.epochs`, `data.augment.flip`."""
    for f in fields(settings):
        value = getattr(settings, f.name)
        if is_dataclass(value):
            yield from leaves(value, f"{prefix}{f.name}.")
        else:
            yield prefix + f.name, value


def _as_typed(one: Override) -> str:
    """A word without the quotes that free text is given before Hydra reads it."""
    value = one.value()
    return f"{one.key_or_group}={value}" if isinstance(value, str) else str(one.input_line)


def _leaves_of(one: Override) -> Iterator[str]:
    """The keys that one typed word sets; `data.augment={flip: 0.5}` sets data.augment.flip."""

    def down(key: str, value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for name, item in value.items():
                yield from down(f"{key}.{name}", item)
        else:
            yield key

    yield from down(one.key_or_group, one.value())


def _refuse_two_lengths(typed: list[Override], composed: DictConfig) -> None:
    values = _values(typed)
    steps = composed["trainer"]["steps"]
    if "trainer.epochs" not in values or steps is None:
        return
    both = values.get("trainer.steps") is not None
    raise Mistake(
        f"trainer.epochs={values['trainer.epochs']} and trainer.steps={steps} both say how long to train",
        allowed="one of the two; trainer.steps replaces trainer.epochs",
        type_this=f"trainer.epochs={values['trainer.epochs']}{'' if both else ' trainer.steps=null'}",
    )


def _refuse_change_of_folder(composed: DictConfig) -> None:
    if composed["hydra"]["job"]["chdir"]:
        raise Mistake(
            "hydra.job.chdir=true: the working directory is never changed, so that relative paths stay yours",
            allowed="hydra.job.chdir=false",
            type_this="hydra.job.chdir=false",
        )


def _generator_beside_masks(overrides: list[str]) -> Mistake | None:
    """A generator's recipe says how images are augmented, in keys that a set with masks does not have."""
    typed = dict(word.split("=", 1) for word in overrides if "=" in word).get("model", "")
    if typed not in table.options("model") or table.task_of("model", table.schema("model", typed)) != "adversarial":
        return None
    try:
        rest = to_config(load([word for word in overrides if not word.startswith(("model=", "model."))]))
    except Exception:
        return None
    rest.model = table.schema("model", typed)()
    return images_without_masks(rest) if rest.data.target_kind == "mask" else None


def _file_sets_foreign_key(overrides: list[str]) -> Mistake | None:
    """An experiment or a preset of `reg` may set a key that the chosen model or data set does not have."""
    words = dict(word.split("=", 1) for word in overrides if "=" in word)
    for group, folder, neutral in (("experiment", "experiment", "none"), ("reg", "preset", "none")):
        name = words.get(group)
        file = table.configs_folder() / folder / f"{name}.yaml"
        if name is None or not file.is_file():
            continue
        try:
            rest = to_config(load([word for word in overrides if not word.startswith(f"{group}=")]))
        except Exception:
            continue
        for key in _foreign(file, rest):
            owner = key.partition(".")[0]
            settings = getattr(rest, owner)
            return Mistake(
                f"{group}={name} sets {key}, which {owner}={settings.name} does not have",
                allowed=f"{group}={neutral}, or a {owner} that has it",
                type_this=f"{group}={neutral}",
            )
    return None


def _foreign(file: Path, cfg: Config) -> Iterator[str]:
    content: Any = OmegaConf.to_container(OmegaConf.load(file))
    for group, keys in content.items():
        settings = getattr(cfg, group, None)
        if isinstance(keys, dict) and is_dataclass(settings):
            known = {f.name for f in fields(settings)}
            yield from (f"{group}.{key}" for key in keys if key not in known)
