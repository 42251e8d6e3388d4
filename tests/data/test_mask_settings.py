"""What the settings of masks ask of each other: answered before any file is looked at, with words to paste."""

import json
import shlex

import pytest

from dltrain.cli import main
from dltrain.config import data
from dltrain.config.check import check
from dltrain.config.compose import compose
from dltrain.config.precheck import precheck
from dltrain.config.saved import from_json, to_json

SMALL = ["model=unet", "model.depth=2", "model.base_channels=1"]


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main([*words]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says", "type_this"),
    [
        (["data.mask_values=[0]"], "data.mask_values=[0] makes 1 class", "data.mask_values=null"),
        (["data.class_names=[]"], "data.class_names=[] makes no class", "data.class_names=null"),
        (["data.mask_values=[0,1,1]"], "data.mask_values=[0,1,1] holds 1 twice", "data.mask_values=[0,1]"),
        (["data.class_names=[a,b,a]"], "holds a twice", "data.class_names=[a,b]"),
        (["data.mask_values=[0,0]"], "holds 0 twice", "data.mask_values=null"),
        (["data.mask_values=[0,1,1]", "data.class_names=[a,b,c]"], "holds 1 twice", "data.mask_values=null"),
        (["data.mask_colors=[[0,0,0],[0,0,0],[1,2,3]]"], "twice", "data.mask_colors=[[0,0,0],[1,2,3]]"),
        (["data.mask_colors=[[0,0,0],[1,2]]"], "[1,2] is no colour", "data.mask_colors=[[0,0,0],[255,0,0]]"),
        (["data.mask_values=[0,255]", "data.class_names=[a]"], "makes 1 class", "data.class_names=null"),
        (
            ["data.mask_values=[0,255]", "data.class_names=[a,b,c]"],
            "data.mask_values=[0,255] makes 2 classes, and data.class_names=[a,b,c] names 3",
            "data.class_names=[a,b]",
        ),
        (
            ["data.mask_colors=[[0,0,0],[1,1,1],[2,2,2]]", "data.class_names=[a,b]"],
            "makes 3 classes, and data.class_names=[a,b] names 2",
            "data.class_names=[a,b,class_2]",
        ),
        (
            ["data.mask_values=[0,255]", "data.mask_colors=[[0,0,0],[255,0,0]]"],
            "both say what the classes are",
            "data.mask_colors=null",
        ),
        (["data.mask_values=[0,255]", "data.ignore_index=255"], "is a class by", "data.ignore_index=null"),
        (["data.class_names=[a,b]", "data.ignore_index=1"], "is a class by data.class_names", "data.ignore_index=null"),
        (
            ["data.mask_colors=[[0,0,0],[255,0,0]]", "data.ignore_index=255"],
            "is a value of grey masks",
            "data.ignore_index=null data.unknown_mask_values=ignore",
        ),
        (["data.classes=[a,b]"], "data.classes=[a,b] needs classes", "data.classes=null"),
        (["data.train_per_class=5"], "data.train_per_class=5 needs classes", "data.train_per_class=null"),
        (["data.sampling=balanced"], "data.sampling=balanced needs classes", "data.sampling=shuffled"),
        (["data.fold=2"], "data.fold=2 says which fold", "data.folds=5"),
        (["data.crop=banana"], "data.crop cannot be banana", "data.crop=auto"),
        (["data.mask_colors=[0,0,0]"], "data.mask_colors cannot be [0,0,0]", "data.mask_colors=[[0,0,0]]"),
        (["data.mask_colors=[[0,0,256],[1,1,1]]"], "data.mask_colors cannot be", "data.mask_colors=null"),
        (["data.mask_values=[0,-1]"], "data.mask_values cannot be", "data.mask_values=null"),
        (["data.augment.mixup=0.2"], "data=mask_folder has no key augment.mixup", "data=mask_folder"),
        (["data.augment.cutout=3"], "data=mask_folder has no key augment.cutout", "data=mask_folder"),
    ],
)
def test_settings_that_cannot_be_are_told_with_words_to_paste(
    capsys: pytest.CaptureFixture[str], words: list[str], says: str, type_this: str
) -> None:
    """Of what is printed there is nothing more to say than that the files are not there."""
    said = told(capsys, *SMALL, "data=mask_folder", "data.root=absent", *words)
    assert says in said
    (line,) = [line for line in said.splitlines() if line.startswith("  type ")]
    pasted = shlex.split(line)[2:]
    for word in type_this.split():
        assert word in pasted, pasted
    again = told(capsys, *pasted)
    assert ("makes 1 class" if "[[0,0,0]]" in type_this else "data.root=absent does not exist") in again, again


def test_without_a_root_and_without_a_model_the_word_is_there_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    said = told(capsys, *SMALL, "data=mask_folder")
    assert "data=mask_folder needs the folder of your images and masks" in said
    assert "data.root=cells" in said
    for data_set in ("mask_folder", "em", "camvid"):
        said = told(capsys, f"data={data_set}", "data.root=absent")
        assert f"type     dltrain data={data_set} data.root=absent model=unet" in said
        assert "does not exist" in told(capsys, f"data={data_set}", "data.root=absent", "model=unet")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["data.mask_colors=[[0,0,0],[255,0,7]]"], [[0, 0, 0], [255, 0, 7]]),
        (["data.mask_colors=[[0, 0, 0], [1, 2, 3]]"], [[0, 0, 0], [1, 2, 3]]),
        (["data.mask_colors=null"], None),
        ([], None),
    ],
)
def test_lists_of_lists_are_read_written_and_read_again(words: list[str], expected: object) -> None:
    cfg, _ = compose(precheck(["model=unet", "data=mask_folder", "data.root=x", *words]))
    check(cfg)
    assert cfg.data.mask_colors == expected
    assert from_json(json.dumps(to_json(cfg))).data == cfg.data


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mask_folder", data.MaskFolder),
        ("em", data.MaskFolder),
        ("camvid", data.MaskFolder),
        ("pets", data.Pets),
        ("voc2012", data.Voc2012),
    ],
)
def test_each_set_chooses_the_task_and_passes_the_checks(name: str, kind: type) -> None:
    cfg, _ = compose(precheck([f"data={name}", "model=unet", "data.root=x"]))
    check(cfg)
    assert {type(cfg.data)} == {kind}
    assert cfg.task.name == "segmentation"
    assert cfg.data.augment.flip == 0.5
    if name == "em":
        assert (cfg.data.class_names, cfg.data.augment.elastic) == (["membrane", "cell"], 10)
    if name == "camvid":
        assert (len(cfg.data.class_names), cfg.data.ignore_index) == (11, 11)


@pytest.mark.parametrize("size", ["auto", "24", "100x50"])
def test_the_size_of_images_is_not_the_size_of_the_network(size: str) -> None:
    """Images of any size are answered; it is windows that must suit the network."""
    cfg, _ = compose(precheck(["data=mask_folder", "model=unet", "data.root=x", f"data.size={size}"]))
    check(cfg)


@pytest.mark.parametrize("word", ["data.crop=32", "data.augment.elastic=3"])
def test_what_only_sets_with_masks_have_is_taken_away_from_others(
    word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = told(capsys, "data=folder", "data.root=absent", word)
    assert "data=folder has no key" in said
    assert said.rstrip().endswith("type     dltrain data=folder data.root=absent")


def test_help_says_what_lists_of_colours_look_like(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help", "data.mask_colors"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "a list of lists of whole numbers: [[a, b, ...], ...], each >= 0 and <= 255, or null" in said
