"""Every kind of mistake at the command line: exit 2, one shape, a command that works, no torch, no folder."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dltrain.cli import main
from dltrain.config import table, trust
from dltrain.config.choices import chosen, keys_of
from dltrain.config.compose import compose, load
from dltrain.config.diagnose import diagnose
from dltrain.config.messages import Mistake, require_extra
from dltrain.config.nearest import nearest
from dltrain.config.precheck import precheck
from dltrain.config.quote import unquote
from dltrain.config.value import allowed
from dltrain.run import Run

# (what is typed, what the message must say, the command it offers)
BEFORE_HYDRA = [
    # unknown group, option, key
    ("model=lenet4", ["lenet5|lenet5_caffe|mlp"], "model=lenet5"),
    ("model=resnet8", ["resnet18|resnet20|"], "model=resnet18"),
    ("model=resnet-50", ["nearest  model=resnet50"], "model=resnet50"),
    ("model=VGG_16", ["nearest  model=vgg16"], "model=vgg16"),
    ("model=googlenet", ["model=alexnet|"], None),
    ("resnet50", ["nearest  model=resnet50"], "model=resnet50"),
    ("modle=mlp", ["modle", "model=mlp"], "model=mlp"),
    ("modle=anything", ["nearest  model"], None),
    ("model=LeNet-5", ["nearest  model=lenet5"], "model=lenet5"),
    ("data=lenet5", ["nearest  model=lenet5"], "model=lenet5"),
    ("precision=fp61", ["auto|bf16|fp16|fp32"], "precision=fp16"),
    ("mode=evaluate", ["eval|export|generate|predict|reproduce|summary|train"], "mode=eval"),
    ("experiment=mnist_lenet", ["nearest  experiment=mnist_lenet5"], "experiment=mnist_lenet5"),
    ("model.dpth=3", ["model=lenet5 has no key dpth", "model.dropout", "nearest  model.depth"], None),
    ("model=mlp model.dpth=2", ["model=mlp has no key dpth"], "model=mlp model.depth=2"),
    ("modle.dropout=0.1", ["nearest  model.dropout"], "model.dropout=0.1"),
    ("trainr.epochs=3", ["nearest  trainer.epochs"], "trainer.epochs=3"),
    ("trainer.lr=0.1", ["trainer=batch64 has no key lr"], "optim.lr=0.1"),
    ("epochs=3", ["nearest  trainer.epochs"], "trainer.epochs=3"),
    ("lr=0.1", ["nearest  optim.lr"], "optim.lr=0.1"),
    ("batch_size=32", ["nearest  trainer.batch_size"], "trainer.batch_size=32"),
    ("learning_rate=0.1", ["nearest  optim.lr"], "optim.lr=0.1"),
    ("data.flip=0.5", ["nearest  data.augment.flip"], "data.augment.flip=0.5"),
    ("data.augment=0.5", ["it has keys of its own"], None),
    ("fp16=true", ["nearest  precision=fp16"], "precision=fp16"),
    ("model.name=mlp", ["the name comes from model="], "model=mlp"),
    ("model.mlp=1", ["nearest  model=mlp"], "model=mlp"),
    ("input=x", ["input belongs to mode=predict"], "mode=predict input=x"),
    (
        "mode=train run=last",
        ["run belongs to mode=eval|export|generate|predict|reproduce|summary"],
        "mode=eval run=last",
    ),
    ("run=last", ["run belongs to mode=eval|export|generate|predict|reproduce|summary"], "mode=eval run=last"),
    # modes that look at runs, and lists that a shell has cut
    ("runs=[a,b]", ["runs belongs to mode=compare"], "mode=compare 'runs=[a,b]'"),
    ("runs=a", ["runs belongs to mode=compare"], "mode=compare runs=a"),
    ("compare", ["nearest  mode=compare"], "mode=compare"),
    ("mode=sumary", ["nearest  mode=summary"], "mode=summary"),
    ("mode=compare run=last", ["run belongs to mode=eval"], "mode=eval run=last"),
    ("mode=summary resume=last", ["resume belongs to mode=train"], "mode=train resume=last"),
    ("mode=compare runs=[a,b] model=mlp", ["model=mlp: model has no say in mode=compare"], "mode=compare 'runs=[a,b]'"),
    ("mode=compare runs=[a,b] device=cpu seed=1", ["device has no say"], "mode=compare 'runs=[a,b]'"),
    ("mode=data optim.lr=0.1 data=mnist", ["optim.lr has no say in mode=data"], "mode=data data=mnist"),
    (
        "mode=summary trainer.epochs=3 reg=dropout",
        ["trainer.epochs has no say in mode=summary"],
        "mode=summary reg=dropout",
    ),
    ("mode=compare runs=a 'runs=[b, c]' output=o", ["runs are one list"], "mode=compare 'runs=[a,b,c]' output=o"),
    ("mode=compare runs=???", ["missing value"], "mode=compare 'runs=./???'"),
    ("model=mlp model.widths=[300, 100]", ["no space may stand in a list"], "model=mlp 'model.widths=[300,100]'"),
    ("mode=compare runs=[a, b, c] output=o", ["no space may"], "mode=compare 'runs=[a,b,c]' output=o"),
    # keys of options that are not chosen
    ("clip.max_norm=1", ["clip=none has no key max_norm"], "clip=norm clip.max_norm=1"),
    ("clip=value clip.max_norm=1", ["clip=value has no key"], "clip=norm clip.max_norm=1"),
    ("data.root=photos", ["data=digits has no key root"], "data=folder data.root=photos"),
    ("data.root=a/photos.CSV", ["data=digits has no key root"], "data=csv data.root=a/photos.CSV"),
    ("data.root=set.npz", ["data=digits has no key root"], "data=array data.root=set.npz"),
    ("schedule.gamma=0.1", ["schedule=onecycle has no key gamma"], "schedule=step schedule.gamma=0.1"),
    ("optim=sgd optim.betas=[0.9,0.99]", ["adam|adam_dcgan|adamw"], "optim=adam 'optim.betas=[0.9,0.99]'"),
    ("init.source=last", ["belongs to init=run"], "init=run init.source=last"),
    ("experiment=mnist_mlp model.pool=avg", ["model=mlp_300_100 has no key pool"], None),
    # grammar
    ("--epochs 3", ["without dashes"], "trainer.epochs=3"),
    ("--epochs=3", ["without dashes"], "trainer.epochs=3"),
    ("--lr 0.1 model=mlp", ["without dashes"], "optim.lr=0.1 model=mlp"),
    ("--batch-size 64", ["nearest  trainer.batch_size"], "trainer.batch_size=64"),
    ("--model mlp", ["nearest  model"], "model=mlp"),
    ("--versoin", ["nearest  --version"], "--version"),
    ("--nonsense", ["no such flag", "--help"], "--help"),
    ("--experimental-rerun x", ["no such flag"], "--help"),
    ("--config-dir=x", ["no such flag"], "--help"),
    ("-sc install=bash", ["nearest  --completion"], "--completion bash"),
    ("--cfg jbo", ["--cfg job|hydra|all"], "--cfg job"),
    ("seed 3", ["key=value"], "seed=3"),
    ("seed = 3", ["no space"], "seed=3"),
    ("seed= 3", ["no space"], "seed=3"),
    ("seed =3", ["no space"], "seed=3"),
    ("seed:3", ["key=value"], "seed=3"),
    ("seed==3", ["cannot be =3"], "seed=3"),
    ("model==mlp", ["no option =mlp"], "model=mlp"),
    ("epochs 3", ["nearest  trainer.epochs"], "trainer.epochs=3"),
    ("mlp", ["nearest  model=mlp"], "model=mlp"),
    ("mnist", ["nearest  data=mnist"], "data=mnist"),
    ("model mlp", ["key=value"], "model=mlp"),
    ("eval run=last", ["nearest  mode=eval"], "mode=eval run=last"),
    ("evla", ["nearest  mode=eval"], "mode=eval"),
    ("help", ["nearest  --help"], "--help"),
    ("=3", ["key=value"], None),
    ("''", ["an empty word"], ""),
    ("xyzzy", ["key=value"], None),
    ("+model.girth=1", ["without +", "model.dropout", "nearest  model."], None),
    ("+seed=1", ["nearest  seed"], "seed=1"),
    ("++model.dropout=0.1", ["without ++", "nearest  model.dropout"], "model.dropout=0.1"),
    ("+modle=mlp", ["nearest  model"], "model=mlp"),
    ("~clip", ["nearest  clip"], "clip=none"),
    ("~model.dropout seed=1", ["every key has a value"], "seed=1"),
    ("model/dropout=0.1", ["typed with points"], "model.dropout=0.1"),
    ("model/mlp=1", ["typed with points"], "model=mlp"),
    ("model@net=mlp", ["by its name alone"], "model=mlp"),
    ("seed=0,1", ["-m"], "-m seed=0,1"),
    ("model=mlp,lenet5", ["-m"], "-m model=mlp,lenet5"),
    ("seed=range(3)", ["-m"], "-m 'seed=range(3)'"),
    ("seed=[0,1]", ["not a list"], "-m seed=0,1"),
    ("model=[mlp,lenet5]", ["takes one name"], "-m model=mlp,lenet5"),
    ("model=null", ["takes one name"], None),
    ("model=", ["takes one name"], None),
    ("model={a:1}", ["takes one name"], None),
    ("seed=1 seed=2", ["given twice", "-m seed=1,2"], "seed=2"),
    ("model=mlp model=lenet5", ["given twice"], "model=lenet5"),
    ("trainer.epochs=3 trainer.steps=9", ["twice"], "trainer.steps=9"),
    # values
    ("trainer.epochs=three", ["a whole number >= 1"], "trainer.epochs=20"),
    ("trainer.epochs=0", ["a whole number >= 1"], "trainer.epochs=1"),
    ("trainer.epochs=1e2", ["a whole number"], "trainer.epochs=100"),
    ("trainer.epochs=", ["cannot be empty"], "trainer.epochs=20"),
    ("trainer.steps=None", ["or null"], "trainer.steps=null"),
    ("clip=norm clip.max_norm=-1", ["a number > 0"], "clip=norm clip.max_norm=1"),
    ("clip.max_norm=-1", ["clip=norm"], "clip=norm clip.max_norm=1"),
    ("model.dropout=1", [">= 0 and < 1"], "model.dropout=0"),
    ("model.dropout=nan", [">= 0 and < 1"], "model.dropout=0"),
    ("optim=sgd optim.lr=inf", ["a number > 0"], "optim=sgd optim.lr=0.05"),
    ("optim.lr=inf", ["a number > 0"], "optim.lr=0.003"),  # optim=adamw_small
    ("trainer.batch_size=x", ["a whole number"], "trainer.batch_size=64"),  # trainer=batch64
    ("model=mlp model.widths=[x]", ["whole numbers"], "model=mlp 'model.widths=[300,100]'"),
    ("resume", ["key=value"], "resume=last"),
    ("model.activation=rleu", ["leaky_relu"], "model.activation=relu"),
    ("optim=sgd optim.nesterov=perhaps", ["true or false"], None),
    ("optim=adam optim.betas=0.9,0.99", ["a list of numbers"], "optim=adam 'optim.betas=[0.9,0.99]'"),
    ("optim=adam optim.betas=[0.9,1.5]", ["each >= 0 and < 1"], "optim=adam 'optim.betas=[0.9,0.999]'"),
    ("seed=-1", ["< 2^63"], "seed=0"),
    ("determinism=exakt", ["exact, fast"], "determinism=exact"),
    ("model=mlp model.widths=300", ["a list of whole numbers"], "model=mlp 'model.widths=[300]'"),
    ("seed=1 data.size=фото model=mlp", ["data.size=фото", "180x240"], "seed=1 data.size=auto model=mlp"),
    # networks: keys that they do not have, lists that are too short or too long, and what is absurd
    ("model=mlp model.stem=small", ["model=mlp has no key stem"], None),
    ("model=resnet20 model.stem=small", ["model=resnet20 has no key stem"], None),
    ("model=resnet18 model.stem=big", ["auto, small, large"], "model=resnet18 model.stem=auto"),
    ("model=resnet18 model.blocks=[]", ["a list of 1 to 8 whole numbers"], "model=resnet18 'model.blocks=[2,2,2,2]'"),
    ("model=resnet50 model.blocks=[]", ["1 to 8"], "model=resnet50 'model.blocks=[3,4,6,3]'"),
    ("model=resnet18 model.blocks=[2,0,2]", ["each >= 1"], "model=resnet18 'model.blocks=[2,2,2,2]'"),
    ("model=resnet18 model.blocks=3", ["a list of"], "model=resnet18 'model.blocks=[3]'"),
    ("model=vgg16 model.convs=[]", ["1 to 8 whole numbers"], "model=vgg16 'model.convs=[2,2,3,3,3]'"),
    ("model=vgg11 model.convs=[1,1,1,1,1,1,1,1,1]", ["1 to 8"], "model=vgg11 'model.convs=[1,1,2,2,2]'"),
    ("model=resnet18 model.base_channels=100000", ["<= 4096"], "model=resnet18 model.base_channels=4096"),
    ("model=vgg11 model.base_channels=0", [">= 1 and <= 4096"], "model=vgg11 model.base_channels=1"),
    ("model=resnet20 model.n=3000", [">= 1 and <= 200"], "model=resnet20 model.n=200"),
    ("model=resnet18 model.blocks=[2,101]", ["each >= 1 and <= 100"], "model=resnet18 'model.blocks=[2,2,2,2]'"),
    ("model=vgg11 model.convs=[1,101]", ["each >= 1 and <= 100"], "model=vgg11 'model.convs=[1,1,2,2,2]'"),
    ("model=resnet20 model.n=0", ["a whole number >= 1"], "model=resnet20 model.n=1"),
    ("model=resnet20 model.shortcut=C", ["A, B"], "model=resnet20 model.shortcut=A"),
    ("model=resnet18 model.attention=cbma", ["none, se, cbam, spatial_softmax"], "model=resnet18 model.attention=cbam"),
    ("trainer.threads=two", ["from 1 to 1024"], "trainer.threads=auto"),
    ("device=gpu0", ["auto, cpu, cuda"], "device=auto"),
    ("trainer.max_time=soon", ["2h30m"], "trainer.max_time=null"),
    ("-m trainer.save_every=10min,never", ["10min"], "-m trainer.save_every=10min"),
    ("output=???", ["missing value"], "'output=./???'"),
    ("-m trainer.epochs=1,x", ["cannot be x"], "-m trainer.epochs=1,20"),
    ("-m model=mlp,lenet5 model.pool=avg", ["model=mlp has no key pool"], "-m model=lenet5 model.pool=avg"),
    ("-m model=mlp,resnet8", ["no option resnet8"], None),
    ("--completion", ["a word is missing"], "--completion bash"),
    ("--completion tcsh", ["bash|zsh|fish"], None),
    ("--help modle", ["nearest  model"], "--help model"),
    ("--help model=resnet", ["nearest  model="], None),
]

WITH_HYDRA = [
    ("'model.dropout=${oc.env:NO_SUCH_VARIABLE}'", ["model.dropout", "a number >= 0 and < 1"], "model.dropout=0"),
    ("'model.dropout=${optim.nothing}'", ["model.dropout"], "model.dropout=0"),
    ("seed=1 'trust=[a b]'", ["trust"], None),
    ("optim=sgd 'optim.lr=float(x)'", ["optim.lr", "cannot be read"], "optim=sgd optim.lr=0.05"),
    ("'hydra.run.dir=a(b'", ["hydra.run.dir", "cannot be read"], ""),
    ("seed=1 hydra.run.dri=x", ["hydra.run.dri", "--cfg hydra"], "seed=1"),
    ("hydra/launcher=nothing", ["hydra/launcher=nothing"], ""),
    ("'data.augment={flp: 0.5}'", ["data.augment.flp", "nearest  data.augment.flip"], None),
    ("'data.augment={flip: x}'", ["data.augment.flip", "a number >= 0 and <= 1"], None),
    ("reg=dropout trainer.epochs=3 schedule.warmup=9", ["warmup"], None),
    ("trainer.epochs=1 experiment=mnist_lenet5 'trainer.ema=${nothing}'", ["trainer.ema"], None),
    ("mode=compare", ["mode=compare needs runs", "runs=[RUN,RUN,…]"], "-m seed=0,1"),
    ("mode=compare runs=", ["mode=compare needs runs"], "-m seed=0,1"),
    ("mode=compare runs=nowhere", ["runs=nowhere is not there"], None),
    ("mode=compare runs=last", ["runs=last: there is no run"], None),
    ("mode=compare 'runs=[a*,b]'", ["runs=a*: no run matches"], None),
    ("mode=summary run=nowhere", ["run=nowhere is not there"], None),
    ("mode=summary data=folder", ["data=folder needs the folder"], None),
    ("mode=eval run=nowhere", ["run=nowhere", "last"], None),
    ("mode=eval run=last", ["run=last"], None),
    ("mode=eval run=", ["run="], None),
    ("resume=nowhere", ["resume=nowhere"], None),
    ("resume=", ["resume="], None),
    ("resume=last", ["resume=last"], None),
    ("init=run init.source=nowhere", ["init.source=nowhere"], None),
    ("mode=reproduce run=прогон#1", ["run=прогон#1"], None),
    *(
        (f"model={typed} data.size={size}", [said, "allowed  ", smallest], f"model={typed} data.size={right}")
        for typed, size, said, smallest, right in (
            ("vgg16", "10x10", "images of 10x10 are too small for vgg16", "32x32 and above", "32x32"),
            ("vgg16", "10x40", "images of 10x40 are too small for vgg16", "32x32 and above", "32x40"),
            ("attention_cnn", "31", "images of 31x31 are too small for attention_cnn", "32x32", "32x32"),
            ("lenet5_caffe", "8", "too small for lenet5_caffe", "13x13 and above", "13x13"),
            ("alexnet", "8", "too small for alexnet", "15x15 and above", "15x15"),
            ("inception_v1", "2", "too small for inception_v1", "4x4 and above", "4x4"),
            ("lenet5", "28", "lenet5 takes images of 32x32 only", "auto or 32x32", "auto"),
        )
    ),
    (
        "data=cifar10 data.size=10x10 model=vgg16",
        ["too small for vgg16", "32x32 and above, or data.size=auto"],
        "data=cifar10 model=vgg16 data.size=32x32",
    ),
    (
        "data=folder data.root=nowhere data.size=16 model=vgg11",
        ["images of 16x16 are too small for vgg11"],
        "data=folder data.root=nowhere model=vgg11 data.size=32x32",
    ),
    (
        "model=alexnet model.stem=large data.size=32",
        ["images of 32x32 are too small for alexnet", "63x63 and above"],
        "model=alexnet model.stem=large data.size=63x63",
    ),
    (
        "model=alexnet model.stem=large model.form=paper data.size=64",
        ["67x67 and above"],
        "model=alexnet model.stem=large model.form=paper data.size=67x67",
    ),
    (
        "model=vgg11 model.convs=[1,1,1,1,1,1,1] data=digits_pose data.size=32",
        ["too small for vgg10", "128x128 and above"],
        "model=vgg11 'model.convs=[1,1,1,1,1,1,1]' data=digits_pose data.size=128x128",
    ),
    *(
        (f"{typed} data=digit_scenes data.crop={crop}", [said, "allowed  ", allowed], f"{right}")
        for typed, crop, said, allowed, right in (
            (
                "model=unet",
                "100x90",
                "windows of 100x90 do not suit unet",
                "sides that are multiples of 16, or data.crop=auto",
                "model=unet data=digit_scenes data.crop=96x80",
            ),
            (
                "model=unet model.depth=6",
                "20",
                "windows of 20x20 are too small for unet",
                "sides that are multiples of 32",
                "model=unet model.depth=6 data=digit_scenes data.crop=32x32",
            ),
            (
                "model=unet model.padding=valid",
                "572x570",
                "windows of 572x570 do not suit unet",
                "sides of 188, 204, 220 and so on by 16",
                "model=unet model.padding=valid data=digit_scenes data.crop=572x556",
            ),
            (
                "model=unet_resnet18",
                "100",
                "windows of 100x100 do not suit unet_resnet18",
                "sides that are multiples of 32",
                "model=unet_resnet18 data=digit_scenes data.crop=96x96",
            ),
            (
                "model=unet_resnet34",
                "60",
                "windows of 60x60 do not suit unet_resnet34",
                "sides that are multiples of 8",
                "model=unet_resnet34 data=digit_scenes data.crop=56x56",
            ),
        )
    ),
    (
        "model=unet data=digit_scenes data.crop=half",
        ["data.crop=half", "auto, 96 or 180x240"],
        "model=unet data=digit_scenes data.crop=auto",
    ),
    ("data=digit_scenes", ["model=lenet5", "model=unet|unet_resnet18|unet_resnet34"], "data=digit_scenes model=unet"),
    (
        "model=unet",
        ["an answer for each pixel", "data=digit_scenes|"],
        "model=unet data=digit_scenes task=segmentation",
    ),
    (
        "model=unet task=classification data=csv data.root=a.csv",
        ["an answer for each pixel"],
        "model=unet data.root=a.csv data=mask_folder task=segmentation",
    ),
    (
        "mode=summary model=vgg16 data=mnist data.size=28",
        ["32x32"],
        "mode=summary model=vgg16 data=mnist data.size=32x32",
    ),
]


def complain(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a mistaken command line prints, once all that holds for every mistake is checked."""
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "append" not in said
    assert "+model" not in said or "+model" in " ".join(argv)
    assert not list(Path.cwd().iterdir()), "a mistake makes no folder"
    return said


def offered(said: str) -> str | None:
    """The command of the message; None if it has none."""
    lines = [line.removeprefix("  type     ") for line in said.splitlines() if line.startswith("  type     ")]
    return lines[0] if lines else None


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("typed", "fragments", "command"), BEFORE_HYDRA, ids=[row[0] for row in BEFORE_HYDRA])
def test_mistake_is_answered_with_a_command_that_passes(
    typed: str, fragments: list[str], command: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    said = complain(shlex.split(typed), capsys)
    assert [part for part in fragments if part not in said] == []
    offer = offered(said)
    assert offer is not None
    words = shlex.split(offer)
    assert words[0] == "dltrain"
    if command is not None:
        assert words[1:] == shlex.split(command)
    if "--completion" not in words and "--help" not in words:
        precheck(words[1:])
    else:
        assert main(words[1:]) == 0


@pytest.mark.parametrize(("typed", "fragments", "command"), WITH_HYDRA, ids=[row[0] for row in WITH_HYDRA])
def test_mistake_that_only_composing_can_find(
    typed: str, fragments: list[str], command: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    said = complain(shlex.split(typed), capsys)
    assert [part for part in fragments if part not in said] == []
    if command is not None:
        offer = offered(said)
        assert offer is not None
        assert shlex.split(offer) == ["dltrain", *shlex.split(command)]


def test_offered_commands_compose() -> None:
    """Not only the form: what is offered goes through Hydra too."""
    rows = [command for _, _, command in BEFORE_HYDRA if command]
    lines = [
        words for words in map(shlex.split, rows) if not any(re.match(r"-|resume=", w) or "run" in w for w in words)
    ]
    for words in lines[::6]:
        compose(precheck(words))


def test_no_torch_and_no_hydra_where_they_are_not_needed(tmp_path: Path) -> None:
    """In one fresh process: help, completion and all mistakes of the table leave torch out; most leave Hydra out."""
    program = """
import json, sys
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dltrain.cli import main
light, heavy = json.load(sys.stdin)
for argv, code in light:
    assert main(argv) == code, argv
    assert not {"torch", "hydra", "numpy", "PIL"} & set(sys.modules), argv
for argv in heavy:
    assert main(argv) == 2, argv
    assert "torch" not in sys.modules, argv
"""
    good = [["--help"], ["--version"], ["--completion", "bash"], ["--complete", ""], ["--complete", "run="]]
    good += [["--help", group] for group in table.SCHEMAS]
    light = [(argv, 0) for argv in good] + [(shlex.split(row[0]), 2) for row in BEFORE_HYDRA]
    heavy = [shlex.split(row[0]) for row in WITH_HYDRA]
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps([light, heavy]),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=_environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert not list(tmp_path.iterdir())


def _environment() -> dict[str, str]:
    import os

    return os.environ | {"PYTHONPATH": str(Path(table.__file__).parents[2])}


def test_right_commands_pass_unchanged() -> None:
    lines = [
        "",
        "model=mlp data=mnist reg=l2 clip=agc",
        "-m model=mlp,lenet5 seed=0,1,2",
        "-m seed=range(3)",
        "hydra.run.dir=a/b hydra/launcher=basic",
        "optim=adam optim.betas=[0.8,0.9]",
        "trainer.threads=2 device=cuda:0 data.size=180x240",
        "data.augment={flip:0.5,rotate:3}",
        "reg=dropout model.dropout=0.25",
        "experiment=mnist_mlp model.widths=[5,6]",
        "trainer.steps=null trainer.epochs=3",
        "model.activation='tanh'",
        "optim.lr=${trainer.ema}",
        "optim=sgd optim.nesterov=yes",
    ]
    for line in lines:
        assert precheck(line.split()) == line.split()


def test_keys_follow_the_option_that_the_command_line_chooses() -> None:
    """An experiment chooses the model, the model its optimizer: the same choice as Hydra's."""
    for line in ("", "model=mlp", "experiment=mnist_mlp", "experiment=fashion_lenet5 model=mlp optim=adam", "reg=all"):
        typed = dict(word.split("=") for word in line.split())
        ours = chosen({group: [option] for group, option in typed.items()})
        composed = load(line.split())
        for group, options in ours.items():
            assert list(options) == [composed.hydra.runtime.choices[group]], (line, group)


def test_keys_follow_the_run_that_is_opened(capsys: pytest.CaptureFixture[str]) -> None:
    cfg, _ = compose(["clip=norm"])
    Path("run").mkdir()
    Run(Path("run")).write_config(cfg)
    assert precheck(["resume=run", "clip.max_norm=2"]) == ["resume='run'", "clip.max_norm=2"]
    with pytest.raises(Mistake, match="clip=norm has no key max_value"):
        precheck(["resume=run", "clip.max_value=2"])
    with pytest.raises(Mistake, match="clip=none has no key max_norm"):
        precheck(["clip.max_norm=2"])


def trusted_package(name: str) -> None:
    package = Path(name)
    (package / "configs/model").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "config.py").write_text(
        "from dataclasses import dataclass\n"
        "from dltrain.config.knob import knob\n"
        "from dltrain.config.model import Model\n\n"
        "@dataclass\n"
        "class Wide(Model):\n"
        "    name: str = 'wide'\n"
        "    girth: int = knob(3, 'how wide', ge=1)\n"
    )
    (package / "configs/model/wide.yaml").write_text("defaults:\n  - _wide\n  - _self_\n")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("nets_short", "defaults: [_wide, _self_]\n", ""),
        ("nets_sgd", "defaults: [_wide, override /optim@_global_.optim: sgd, _self_]  # a recipe\ngirth: 4\n", ""),
        ("nets_mistyped", "defaults: [_wied, _self_]\n", "builds on _wied"),
        ("nets_round", "defaults: [wide, _self_]\n", "builds on itself"),
        ("nets_loose", "girth: 3\n", "builds on nothing"),
        ("nets_broken", ": {", "builds on nothing"),
    ],
)
def test_the_defaults_list_of_a_trusted_model_may_stand_on_one_line(
    name: str, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trusted_package(name)
    Path(f"{name}/configs/model/wide.yaml").write_text(text)
    words = [f"trust=[{name}]", "model=wide"]
    assert main([*words, "--cfg", "job"]) == (2 if message else 0)
    assert message in capsys.readouterr().err
    assert main([*words, "optim.momentum=2"]) == 2
    if "sgd" in text:
        assert offered(capsys.readouterr().err).endswith("model=wide optim.momentum=0.9")
    trust.apply([])


def test_trusted_models_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    trusted_package("nets_to_mistype")
    assert main(["trust=[nets_to_mistype]", "model=wide", "model.grith=4"]) == 2
    assert offered(capsys.readouterr().err) == "dltrain 'trust=[nets_to_mistype]' model=wide model.girth=4"
    assert main(["model=wide"]) == 2
    assert "no option wide" in capsys.readouterr().err


def test_two_options_that_exclude_each_other() -> None:
    """Each composes alone, both do not: both are named."""
    trusted_package("nets_without_dropout")
    trust.apply(["trust=[nets_without_dropout]"])
    words = ["trust=[nets_without_dropout]", "seed=3", "reg=dropout", "model=wide"]
    mistake = diagnose(words, ValueError())
    trust.apply([])
    assert "reg=dropout" in mistake.what
    assert "model=wide" in mistake.what
    assert mistake.type_this == "dltrain 'trust=[nets_without_dropout]' seed=3 model=wide"


def test_hydras_words_never_reach_the_user() -> None:
    """Whatever was raised, its text is not shown: advice with + would be wrong here."""
    error = ValueError("To append to your config use +model.x=1")
    for words in (["seed=1"], ["hydra.nothing=1"], ["data.augment={flp: 1}"]):
        assert "+" not in str(diagnose(words, error))


def test_every_bounded_key_refuses_what_is_outside() -> None:
    for group, names in table.SCHEMAS.items():
        for option in table.options(group):
            if table.schema(group, option) not in names.values() or group == "mode":
                continue
            for key in keys_of(table.schema(group, option), f"{group}."):
                if any(key.field.metadata.get(bound) is not None for bound in ("ge", "gt", "le", "lt")):
                    value = "[-1e9]" if "list" in allowed(key) else "-1e9" if "number" in allowed(key) else "-1"
                    with pytest.raises(Mistake, match="cannot be") as caught:
                        precheck([f"{group}={option}", f"{key.name}={value}"])
                    precheck(shlex.split(caught.value.type_this)[1:])


@pytest.mark.parametrize(
    ("word", "names", "expected"),
    [
        ("modle", ["mode", "model"], "model"),
        ("fp61", ["fp32", "bf16", "fp16"], "fp16"),
        ("drop", ["depth", "dropout"], "dropout"),
        ("SGD", ["adam", "sgd"], "sgd"),
        ("fashion-mnist", ["mnist", "fashion_mnist"], "fashion_mnist"),
        ("x", [], ""),
    ],
)
def test_nearest_name(word: str, names: list[str], expected: str) -> None:
    assert nearest(word, names) == expected


def test_message_has_one_shape_and_no_control_characters() -> None:
    mistake = Mistake("a=\x1b[31mb\x07", allowed="x", nearest="y", type_this="dltrain a\ndltrain b")
    assert str(mistake).split("\n") == [
        r"a=\x1b[31mb\x07",
        "  allowed  x",
        "  nearest  y",
        "  type     dltrain a",
        "           dltrain b",
    ]
    assert unquote(precheck(["output=a\x1bb"])[0].partition("=")[2]) == "a\x1bb"


def test_missing_extra_is_answered_with_its_name() -> None:
    require_extra("json", "nothing")
    with pytest.raises(Mistake) as caught:
        require_extra("no_such_module_anywhere", "export", what="mode=export")
    assert caught.value.type_this == 'pip install "dltrain[export]"'
    with pytest.raises(Mistake):
        require_extra("no_such_package.inside", "export")


PIECES = [
    "model",
    "mlp",
    "clip",
    "max_norm",
    "trainer",
    "epochs",
    "seed",
    "run",
    "last",
    "optim",
    "betas",
    "data",
    "root",
]
PIECES += [
    "=",
    ".",
    ",",
    "-",
    "--",
    "-m",
    "+",
    "~",
    "/",
    "@",
    ":",
    "[",
    "]",
    "{",
    "(",
    "'",
    '"',
    " ",
    "${",
    "\\",
    "ж",
    "",
]
PIECES += [
    "",
    "root",
    "1",
    "-1",
    "0.5",
    "null",
    "none",
    "???",
    "hydra",
    "mode",
    "eval",
    "experiment",
    "--help",
    "--cfg",
    "x",
]
WORDS = st.lists(st.sampled_from(PIECES), max_size=5).map("".join)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(WORDS, max_size=4))
def test_any_words_pass_or_are_answered_with_words_that_pass(argv: list[str]) -> None:
    """Property: nothing but a Mistake is ever raised, and its command is never a mistake itself."""
    try:
        checked = precheck(argv)
    except Mistake as mistake:
        words = shlex.split(mistake.type_this)
        assert words[0] == "dltrain"
        precheck(words[1:])
    else:
        assert precheck(checked) == checked
