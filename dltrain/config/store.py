"""Registers the dataclasses of `table.SCHEMAS` with Hydra, so that every key is typed.

The node of `SCHEMAS[group][name]` is called `_<name>`, since a YAML that names itself would build on itself.
The task follows from data and model: the node of a data set overrides the task by its kind of targets, and the node
of a model that is trained for one task only overrides that. Hydra walks the root's list from its end, and `model`
stands behind `data` there, so the model's word counts more and the user's most.
"""

from dataclasses import fields

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf, open_dict

from dltrain.config import table
from dltrain.config.mode import GROUPS

_stored: dict[tuple[str, str], type] = {}


def register() -> None:
    """Bring Hydra's store in line with `table.SCHEMAS`; what is there already costs nothing."""
    wanted = {(group, name): cls for group, names in table.SCHEMAS.items() for name, cls in names.items()}
    repo = ConfigStore.instance().repo
    for group, name in [place for place in _stored if place not in wanted]:
        del repo[group][f"_{name}.yaml"], _stored[group, name]
    for (group, name), cls in wanted.items():
        if _stored.get((group, name)) is not cls or f"_{name}.yaml" not in repo.get(group, {}):
            _store(group, name, cls)
            _stored[group, name] = cls


def _store(group: str, name: str, cls: type) -> None:
    store = ConfigStore.instance().store
    if group == "mode":
        store(group=group, name=f"_{name}", node=_typed_leaves(cls), package="_global_")
        return
    task = table.task_of(group, cls)
    if task is None:
        store(group=group, name=f"_{name}", node=cls)
        return
    node = OmegaConf.structured(cls)
    with open_dict(node):
        node["defaults"] = ["_self_", {"override /task@_global_.task": task}]
    store(group=group, name=f"_{name}", node=node)


def _typed_leaves(cls: type) -> DictConfig:
    """The keys that stand alone, typed one by one: a typed root would refuse what is merged at the top."""
    node = OmegaConf.structured(cls)
    names = [f.name for f in fields(cls) if f.name == "mode" or f.name not in GROUPS]
    return DictConfig({name: node._get_node(name) for name in names})
