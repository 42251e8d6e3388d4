"""What `load` keeps between calls changes nothing: the same composition and the same refusals as Hydra's own."""

from pathlib import Path

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.utils import JobRuntime, setup_globals
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from dltrain.config import store, table
from dltrain.config.compose import load


def by_hydra(words: list[str]) -> DictConfig:
    """Everything composed anew; what Hydra must know of this process is told first, as `load` does."""
    store.register()
    setup_globals()
    JobRuntime.instance().set("name", "dltrain")
    loader = ConfigLoaderImpl(create_config_search_path(str(table.configs_folder())))
    return loader.load_configuration("config", words, RunMode.RUN)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "model=mlp model.widths=[3,4] seed=2",
        "seed=1 hydra.run.dir=a/b output=c_d",
        "data.augment={flip:0.5,rotate:3} trainer.epochs=3 reg=all reg.l2=3",
        "experiment=mnist_mlp optim.lr=0.1 hydra.job.config.override_dirname.exclude_keys=[seed] seed=4",
        "model.dropout=${optim.lr} optim=sgd trust=[a]",
        "mode=eval run=x checkpoint=last",
        "seed=1 seed=2",
    ],
)
def test_the_composition_is_hydras(line: str) -> None:
    words = line.split()
    for _ in range(2):
        ours = load(words)
        assert OmegaConf.to_yaml(ours) == OmegaConf.to_yaml(by_hydra(words))
        ours.trainer.epochs = 77  # what a caller does to its own is not seen by the next


@pytest.mark.parametrize(
    "line",
    [
        *("modle=mlp", "model.x=1", "seed=a", "seed=1,2", "model=zz", "data.augment={flp:1}", "hydra.zz=1"),
        *("model@net=mlp", "a.b=1", "preset=all", "trainer.epochs=x model=mlp", "optim=sgd optim.betas=[1,2]"),
    ],
)
def test_the_refusals_are_hydras(line: str) -> None:
    with pytest.raises(Exception) as hydras:
        by_hydra(line.split())
    for _ in range(2):
        with pytest.raises(type(hydras.value)) as ours:
            load(line.split())
        assert str(ours.value) == str(hydras.value)


def test_another_folder_and_a_changed_file_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(["seed=1"])
    monkeypatch.chdir(tmp_path)
    assert load(["seed=1"]).hydra.runtime.cwd == str(tmp_path)
    (tmp_path / "experiment").mkdir()
    monkeypatch.setattr(table, "_extra_folders", [tmp_path])
    for epochs in (3, 11):
        text = f"# @package _global_\ntrainer: {{epochs: {epochs}}}\n"
        (tmp_path / "experiment" / "mine.yaml").write_text(text)
        assert load(["experiment=mine"]).trainer.epochs == epochs
