"""docs/models.md and the README's table: made anew, held against published figures; commands and code are tried."""

import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest

from dltrain.config import table
from dltrain.config.check import check, check_data
from dltrain.config.compose import compose
from dltrain.config.precheck import precheck
from dltrain.config.spec import DataSpec, Target

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
COMMANDS = [line.strip() for line in PAGE.splitlines() if line.startswith("    dltrain ")] + re.findall(
    r"`(dltrain [^`]+)`", PAGE
)

# Multiply-adds in thousands: Han et al. 2015, tables 3 to 5, who count two operations each (532 K, 4,586 K); Li et al.
# 2017, "Pruning filters", table 1 (ResNet-56 1.25e8, ResNet-110 2.53e8, VGG-16 with batch norm 3.13e8); Krizhevsky's
# paper by its own layers, 55x55 and 27x27 and 13x13 positions times the weights that each of them sees.
LITERATURE = {
    "mlp_300_100 at 1x28x28": (532 / 2, 0.5),
    "lenet5_caffe at 1x28x28": (4_586 / 2, 0.5),
    "resnet56 at 3x32x32": (125_000, 500),
    "resnet110 at 3x32x32": (253_000, 500),
    "vgg16 model.norm=batch at 3x32x32": (313_000, 500),
    "alexnet model.form=paper at 3x227x227": (
        (
            55 * 55 * 96 * 11 * 11 * 3
            + 27 * 27 * 256 * 5 * 5 * 48
            + 13 * 13 * 9 * (384 * 256 + 384 * 192 + 256 * 192)
            + 9216 * 4096
            + 4096 * 4096
            + 4096 * 1000
        )
        / 1000,
        0,
    ),
}

# what a test of each kind of equality holds, by the first word of "equals"
ORACLES = {
    "torchvision": "torchvision",
    "timm": "timm",
    "scikit-learn": "sklearn",
    "NumPy": "numpy",
    "written": "written out",
    "Caffe's": "prototxt",
    "the": "paper",
    "features": "same_features",
}


@pytest.fixture(scope="module")
def make() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "docs" / "models"))
        for name in ("make", "rows"):  # the lecture has a make.py too
            sys.modules.pop(name, None)
        import make as found  # type: ignore[import-not-found]
    for name in ("make", "rows"):
        sys.modules.pop(name, None)
    return found  # type: ignore[no-any-return]


@pytest.mark.parametrize("page", ["README.md", "docs/models.md"])
def test_the_tables_are_what_the_script_makes(page: str, make: ModuleType) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    parts = make.parts(ROOT / page)
    assert make.filled(text, parts) == text, "python docs/models/make.py makes them anew"
    wrong = text.replace("11.69 M" if page == "README.md" else "11,689,512", "11")
    assert wrong != text
    assert make.filled(wrong, parts) == text  # the control: a wrong count does not stay


def test_every_name_has_a_row_and_every_row_its_test(make: ModuleType) -> None:
    rows = [row for found in make.TABLES.values() for row in found]
    assert sorted(row.name for row in make.MODELS) == sorted(table.options("model"))
    assert len({row.key for row in rows}) == len(rows)
    assert set(make.speeds()) == {row.key for row in rows}, "docs/models/make.py --measure NAME measures"
    assert all(one.images_per_second > 0 for one in make.speeds().values())
    for row in rows:
        words = [f"model={row.words.split()[0]}", *row.words.split()[1:]]
        per_pixel = table.schema("model", row.name).task == "segmentation"
        check(compose([*words, *(["data=digit_scenes"] if per_pixel else [])])[0])
        assert row.paper in {"", *make.PAPERS}
        if row.proof:
            test = (ROOT / "tests" / row.proof).read_text(encoding="utf-8").lower()
            assert ORACLES[row.equals.split()[0]] in test, row.key


def test_counts_are_those_that_torchvision_publishes(make: ModuleType) -> None:
    """Beside its weights: `num_params`, and `_ops`, multiply-adds in 1e9. Both leave out heads for training only."""
    import torchvision

    found = 0
    for row in [*make.MODELS, *make.VARIANTS]:
        if theirs := re.fullmatch(r"torchvision `(\w+)`", row.equals):
            meta = torchvision.models.get_model_weights(theirs[1]).DEFAULT.meta
            parameters, multiply_adds = make.count(row.words, *row.at)
            assert multiply_adds / 1e9 == pytest.approx(meta["_ops"], abs=0.0006), row.key
            heads = 6_379_984 if row.words == "inception_v1" else 0
            assert parameters - heads == meta["num_params"], row.key
            found += 1
    assert found == 16


@pytest.mark.parametrize("key", LITERATURE)
def test_counts_are_those_of_the_literature(key: str, make: ModuleType) -> None:
    (row,) = [row for found in make.TABLES.values() for row in found if row.key == key]
    thousands, rounding = LITERATURE[key]
    assert make.count(row.words, *row.at)[1] / 1000 == pytest.approx(thousands, abs=rounding, rel=0)


def test_squeeze_and_excitation_adds_what_its_paper_says(make: ModuleType) -> None:
    """Hu et al. 2018, section 4: 2/r sum N_s C_s^2, about 2.5 million for ResNet-50; ours has biases too."""
    stages = ((3, 256), (4, 512), (6, 1024), (3, 2048))
    by_hand = sum(n * (2 * c * c // 16 + c // 16 + c) for n, c in stages)
    (row,) = [row for row in make.ATTENTION if row.words == "resnet50 model.attention=se"]
    assert make.count(row.words, *row.at)[0] - make.count(row.name, *row.at)[0] == by_hand
    assert by_hand == pytest.approx(2.5e6, rel=0.02)


def test_both_networks_of_a_dcgan_are_counted_as_the_page_says(make: ModuleType) -> None:
    faces = ((3, 64, 64), 1)
    found = dict(re.findall(r"^\| `(transpose|resize|pixelshuffle)` \| .* \| ([\d,]+) \|$", PAGE, re.M))
    kinds = ("transpose", "resize", "pixelshuffle")
    assert found == {up: f"{make.count(f'dcgan model.up={up}', *faces)[0]:,}" for up in kinds}
    parameters, multiply_adds = make.count("dcgan", *faces, part="discriminator")
    words = " ".join(PAGE.split())
    assert f"its discriminator has {parameters:,} parameters and {make.short(multiply_adds)} multiply-adds" in words


def test_short_counts_keep_four_digits(make: ModuleType) -> None:
    counts = [61_706, 999_999, 1_727_962, 40_551_040, 138_357_544, 1_814_073_344]
    assert [make.short(n) for n in counts] == ["61,706", "999,999", "1.728 M", "40.55 M", "138.4 M", "1.814 G"]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_on_the_page_parses(line: str) -> None:
    words = shlex.split(line.split(" #")[0])[1:]
    words = [word.replace("NAME", "resnet18").replace("DATA", "digits") for word in words]
    checked = precheck(words)
    if not any(word.startswith("-") for word in checked):
        cfg, _ = compose(checked)
        if cfg.data.name != "folder":  # whose folder is not there
            check(cfg)


def test_keys_and_files_that_the_page_names_are_there() -> None:
    for target in re.findall(r"\]\((\.\./[^)]+)\)", PAGE):
        assert (ROOT / "docs" / target).is_file(), target
    words = set(re.findall(r"`(?:\w+ )?(model\.\w+=[\w\[\],.]+)`", PAGE))
    assert len(words) >= 15
    for word in words:
        key = word.partition("=")[0].removeprefix("model.")
        assert any(hasattr(table.schema("model", name)(), key) for name in table.options("model")), word


def test_googlenets_weights_take_images_as_the_page_says() -> None:
    """torchvision changes the normalization of images itself, once it has its trained weights."""
    import torch
    import torchvision

    from dltrain.models import build_model
    from dltrain.models.inception import TORCHVISION
    from dltrain.models.torchvision_names import from_torchvision

    (network,) = re.findall(r"`(model=inception_v1 [^`]+)`, and", PAGE)
    (normalization,) = re.findall(r"images of `(data\.mean=[^`]+)`", PAGE)
    cfg, _ = compose(precheck(["data=cifar10", *network.split(), *normalization.split()]))
    check_data(cfg, DataSpec("photos", (3, 65, 65), Target.classes, ("a", "b"), {"train": 256}, (0.0,) * 3, (1.0,) * 3))
    torch.manual_seed(0)
    theirs = torchvision.models.googlenet(aux_logits=False, transform_input=True, init_weights=False, num_classes=7)
    for module in theirs.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)  # else nothing is left of the images, and all are alike
    ours = build_model(cfg.model, (3, 65, 65), 7)
    ours.load_state_dict(from_torchvision(theirs.state_dict(), TORCHVISION))
    ours, theirs = ours.double().eval(), theirs.double().eval()
    pixels = torch.rand(2, 3, 65, 65, dtype=torch.float64)

    def normalized(mean: list[float], std: list[float]) -> torch.Tensor:
        return (pixels - pixels.new_tensor(mean).view(-1, 1, 1)) / pixels.new_tensor(std).view(-1, 1, 1)

    imagenets = normalized([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = theirs(imagenets)
        largest = expected.abs().max().item()
        assert (ours(normalized(cfg.data.mean, cfg.data.std)) - expected).abs().max() < 1e-9 * largest
        assert (ours(imagenets) - expected).abs().max() > 0.01 * largest


def test_only_what_has_a_row_is_measured(
    make: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured: list[list[str]] = []
    monkeypatch.setattr(make, "measure", measured.append)
    monkeypatch.setattr(make, "PAGES", ())
    monkeypatch.setattr(sys, "argv", ["make.py", "--measure", "vgg11", "resnet81"])
    with pytest.raises(SystemExit):
        make.main()
    assert "resnet81': there is no such row; the nearest is 'resnet18'" in capsys.readouterr().err
    assert measured == []
    monkeypatch.setattr(sys, "argv", ["make.py", "--measure", "vgg11", "vgg16 model.norm=batch"])
    make.main()
    assert measured == [["vgg11", "vgg16 model.norm=batch"]]


def test_torchvisions_weights_are_taken_as_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(code, {})
    assert 0 <= float(capsys.readouterr().out) < 1e-4
