"""The data spec of a run comes back equal, and a forged one not at all."""

import json

import pytest

from dltrain.config.messages import Mistake
from dltrain.config.spec import DataSpec, Target, spec_from_json, spec_to_json
from dltrain.run import Run

SPEC = DataSpec(
    "folder", (3, 64, 48), Target.classes, ("cat", "dög"), {"train": 5, "val": 1}, (0.1, 1 / 3, 0.5), (1e-3, 0.2, 1.0)
)


def test_data_spec_comes_back_equal(tmp_path):
    record = Run(tmp_path)
    assert record.spec() is None
    record.write_environment({"data_spec": spec_to_json(SPEC)})
    assert record.spec() == SPEC


def test_a_data_spec_of_an_earlier_version_is_read():
    tree = json.loads(json.dumps(spec_to_json(SPEC)))
    older = {name: value for name, value in tree.items() if not name.startswith("value_")}
    assert len(older) < len(tree)
    assert spec_from_json(older) == SPEC
    del older["shape"]
    with pytest.raises(ValueError):
        spec_from_json(older)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [3, 64]},
        {"shape": [3, 64, 0]},
        {"shape": [3, 64, 10**9]},
        {"shape": [3, 64, 48.0]},
        {"shape": "abc"},
        {"target": "os.system"},
        {"class_names": "ab"},
        {"class_names": [1]},
        {"class_names": ["x" * 10_000]},
        {"counts": {"train": -1}},
        {"counts": {"evil": 1}},
        {"counts": {"train": True}},
        {"mean": [0.1]},
        {"mean": [0.1, 0.1, float("inf")]},
        {"std": [0.1, 0.1, 0]},
        {"ignore_index": "x"},
        {"where": 3},
        {"notes": None},
        {"name": None},
        {"_target_": "os.system"},
    ],
)
def test_forged_data_spec_is_refused(tmp_path, change):
    tree = json.loads(json.dumps(spec_to_json(SPEC)))
    assert spec_from_json(tree) == SPEC
    with pytest.raises(ValueError):
        spec_from_json(tree | change)
    Run(tmp_path).write_environment({"data_spec": tree | change})
    with pytest.raises(Mistake):
        Run(tmp_path).spec()
