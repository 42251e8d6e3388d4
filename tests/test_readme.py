"""Every command that README, CONTRIBUTING and the heads of experiments show parses; recipes without downloads run."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dltrain.cli import main
from dltrain.config.compose import compose
from dltrain.config.messages import Mistake
from dltrain.config.precheck import precheck
from dltrain.run import all_runs

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SHOWN = re.compile(r"<!-- (\w+) -->\n(.*?)<!-- /\1 -->", re.DOTALL)  # a command and what it printed
EXPERIMENTS = sorted((ROOT / "configs" / "experiment").glob("*.yaml"))
TINY = ["trainer.steps=2", "trainer.threads=1"]
TWO_EPOCHS = ["trainer.epochs=2", "trainer.batch_size=1700", "trainer.threads=1"]  # for what is counted in epochs


def words_of(line: str) -> list[str]:
    """The words behind `dltrain`, up to a comment or a pipe."""
    return shlex.split(re.split(r"\s#\s|\s\|\s", line)[0])[1:]


def blocks(text: str) -> list[str]:
    return [line.strip() for line in SHOWN.sub("", text).splitlines() if re.match(r"    dltrain\b", line)]


def inline(text: str) -> list[str]:
    return re.findall(r"[`(](dltrain [^`)]+)[`)]", SHOWN.sub("", text))


def heads() -> list[str]:
    """The commands in the heads of the experiments' files."""
    lines = [line for path in EXPERIMENTS for line in path.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if line.startswith(("# command", "# seeds"))]
    return [line[line.index("dltrain ") :].split(" (")[0] for line in lines if "dltrain " in line]


COMMANDS = list(
    dict.fromkeys([*blocks(README), *inline(README), *blocks(CONTRIBUTING), *inline(CONTRIBUTING), *heads()])
)
RECIPES = [line for line in blocks(README) if not re.search(r"experiment=|resume=|data=|mode=generate", line)]
OWN = [line for line in blocks(README) if re.search(r"data=(folder|csv|array)", line)]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_commands_are_found() -> None:
    """The control: the patterns above see what is there."""
    assert len(RECIPES) >= 7
    assert ["model=mlp", "model.widths=[256,64]", "model.activation=tanh"] in [words_of(line)[:3] for line in RECIPES]
    assert ["--completion", "bash"] in [words_of(line) for line in inline(README)]
    assert len(heads()) >= 2 * (len(EXPERIMENTS) - 1)
    with pytest.raises(Mistake):
        precheck(words_of("dltrain model=mpl   # a network"))


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_that_is_shown_parses(line: str) -> None:
    words = words_of(line)
    if "trust=[my_nets]" in words:
        words = [word for word in words if not re.match(r"trust=|model(=|\.)", word)]  # needs the reader's package
    checked = precheck(words)
    typed = [word for word in checked if not word.startswith("-")]
    if len(typed) == len(checked) and not any(word.startswith(("run=", "resume=")) for word in typed):
        compose(typed)


def pictures(place: Path) -> None:
    """36 small pictures in two classes."""
    draw = np.random.RandomState(0)
    for number, name in enumerate(("cat", "dog")):
        (place / name).mkdir(parents=True)
        for index in range(18):
            pixels = draw.randint(0, 120, (16, 16, 3)).astype(np.uint8) + np.uint8(100 * number)
            Image.fromarray(pixels).save(place / name / f"{index}.png")


def test_the_recipes_run_one_after_another(capsys: pytest.CaptureFixture[str]) -> None:
    """As a reader types them, but for a few steps."""
    pictures(Path("photos"))
    for line in RECIPES:
        words = [word for word in words_of(line) if not word.startswith("trainer.epochs=")]
        sweep = next(iter(sorted(Path("outputs").glob("sweeps/*/*"))), None)
        words = [re.sub(r"outputs/sweeps/[^]]*", str(sweep), word) for word in words]
        quiet = [] if re.search(r"\blog[.=]|mode=", line) or line == RECIPES[0] else ["log=quiet"]
        short = TWO_EPOCHS if "schedule.warmup=" in line else [] if "mode=" in line else TINY
        assert main([*words, *short, *quiet]) == 0, (line, capsys.readouterr().err)
    assert len(all_runs()) >= 10


@pytest.mark.parametrize("line", OWN)
def test_the_recipes_for_your_own_images_run(line: str) -> None:
    pictures(Path("photos"))
    files = sorted(path.as_posix() for path in Path("photos").rglob("*.png"))
    table = [f"{file},{file.split('/')[1]},{i % 7},{i / 3:.2f}" for i, file in enumerate(files)]
    Path("photos.csv").write_text("\n".join(["file,animal,age,weight", *table]), encoding="utf-8")
    np.savez(
        "set.npz",
        images=np.random.RandomState(0).randint(0, 256, (60, 12, 12)).astype(np.uint8),
        labels=np.arange(60) % 3,
    )
    short = ["trainer.epochs=1", "trainer.batch_size=8", "trainer.threads=1", "log=quiet"]
    assert main([*words_of(line), *([] if "mode=" in line else short)]) == 0


def test_there_are_recipes_for_each_kind_of_images_of_your_own() -> None:
    assert len(OWN) == 5


def test_what_is_shown_beside_an_answer_gives_that_answer(capsys: pytest.CaptureFixture[str]) -> None:
    """The mistake is printed as the README prints it, the screen that of the default run."""
    shown = dict(SHOWN.findall(README))
    command, *answer = [line.removeprefix("    ") for line in shown["mistake"].strip("\n").splitlines()]
    assert main(words_of(command.removeprefix("$ "))) == 2
    said = capsys.readouterr().err
    assert [line for line in answer if line.strip() and line.strip() not in said] == []
    assert shown["screen"].split("\n")[0].strip() == "$ dltrain"


def test_python_in_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["model=lenet5", *TINY, "log=quiet"]) == 0
    Image.fromarray(np.zeros((28, 28), np.uint8)).save("digit.png")
    code = re.search(r"^    import dltrain\n((?:    .*\n)+)", README, re.MULTILINE)
    assert code
    lines = "\n".join(line.removeprefix("    ") for line in code[0].splitlines())
    space: dict[str, object] = {}
    exec(lines, space)
    assert tuple(space["probabilities"].shape) == (1, 10)  # type: ignore[attr-defined]
