"""Real outputs in words: R², errors with their units, one line an output."""

import dataclasses

import pytest

from dltrain.config.spec import DataSpec, Target, spec_from_json, spec_to_json
from dltrain.report.table import mean_and_spread, metric, rank, spoken
from dltrain.report.values import MOST, beside_real, is_of_real, is_repeated, of_each_output, with_unit

SPEC = DataSpec(
    *("poses", (1, 8, 8), Target.values, (), {"train": 4, "test": 4}, (0.1,), (0.5,)),
    value_names=("rotation", "scale"),
    value_mean=(0.0, 1.0),
    value_std=(2.0, 0.1),
    value_units=("degrees", ""),
)
ALONE = dataclasses.replace(SPEC, value_names=("rotation",), value_mean=(0,), value_std=(2,), value_units=("degrees",))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.9342, "0.934"),
        (-0.25, "-0.250"),
        (1.0, "1.000"),
        (0.9994, "0.999"),
        (0.99964, "0.9996"),
        (0.9999999999, "0.9999"),
        (-12345.6, "-1.235e+04"),
        (float("nan"), "nan"),
    ],
)
def test_r2_has_three_digits_and_is_never_1_for_less(value: float, text: str) -> None:
    assert metric("val/r2", value) == metric("r2/rotation", value) == text
    assert metric("val/mae", 0.93456) == "0.9346"  # the control: no other number is written so
    assert mean_and_spread("test/r2", [0.9, 0.92]) == "0.910 ± 0.014"
    assert spoken("test/r2") == "test R²"
    assert spoken("test/r2/dx") == "test R² dx"
    assert spoken("iou/a/b") == spoken("val/iou/a/b").removeprefix("val ") == f"{spoken('iou')} a/b"
    assert spoken("test/class_accuracy/loss/macro_f1").endswith(" loss/macro_f1")


def test_errors_have_the_unit_of_their_output_if_it_is_known() -> None:
    assert with_unit("val/mae/rotation", 14.83, SPEC) == "14.83 degrees"
    assert with_unit("val/mae/scale", 0.04, SPEC) == "0.04"
    assert with_unit("val/r2/rotation", 0.5, SPEC) == "0.500"
    assert with_unit("test/mae", 14.83, ALONE) == "14.83 degrees"
    assert with_unit("test/mae", 14.83, dataclasses.replace(ALONE, value_units=())) == "14.83"
    assert with_unit("test/accuracy", 0.5, SPEC) == "50.0 %"


def test_each_of_several_outputs_has_a_line_and_an_only_one_none() -> None:
    metrics = {"test/r2/rotation": 0.5, "test/mae/rotation": 3.0, "test/r2/scale": 0.25, "test/mae/scale": 0.1}
    assert of_each_output(metrics, SPEC, "test") == [
        ("rotation", "R² 0.500   MAE 3 degrees"),
        ("scale", "R² 0.250   MAE 0.1"),
    ]
    assert of_each_output(metrics, ALONE, "test") == []
    assert is_repeated("test/r2/rotation", ALONE)
    assert not is_repeated("test/r2", ALONE)
    assert not is_repeated("test/r2/rotation", SPEC)
    names = tuple(f"v{k}" for k in range(MOST + 3))
    many = dataclasses.replace(SPEC, value_names=names, value_units=())
    rows = of_each_output({f"test/r2/{name}": 0.5 for name in names}, many, "test")
    assert len(rows) == MOST + 1
    assert rows[-1] == ("…", "and 3 more in results.json")


def test_the_first_metric_is_a_share_then_r2_and_the_loss_is_last() -> None:
    names = ["test/loss", "test/mae", "test/r2", "test/macro_f1", "test/accuracy"]
    assert sorted(names, key=rank) == ["test/accuracy", "test/macro_f1", "test/r2", "test/mae", "test/loss"]


def test_units_come_back_from_a_recorded_spec_and_fit_the_outputs() -> None:
    import json

    tree = json.loads(json.dumps(spec_to_json(SPEC)))
    assert spec_from_json(tree).value_units == ("degrees", "")
    assert spec_from_json(tree | {"value_units": []}).value_units == ()
    for wrong in (["degrees"], [1, 2], "ab"):
        with pytest.raises(ValueError, match="value_units"):
            spec_from_json(tree | {"value_units": wrong})


def test_what_is_measured_of_generated_images_in_words() -> None:
    metrics = {"test/fid": 8.314, "test/real_fid": 0.412, "test/rarest_class": 0.056, "test/real_score": 0.61}
    assert [spoken(name) for name in sorted(metrics, key=rank)] == [
        *("test FID", "test rarest class", "test real FID", "test real score"),
    ]
    assert metric("test/rarest_class", 0.056) == metric("test/class_share/7", 0.056) == "5.6 %"
    assert metric("val/real_checkerboard", -1.234) == "-1.2 dB"
    assert [name for name in metrics if is_of_real(name, metrics)] == ["test/real_fid"], "a score stands alone"
    assert beside_real("test/fid", metrics) == "   real images 0.412"
    assert beside_real("test/rarest_class", metrics) == beside_real("test/real_score", metrics) == ""
