"""docs/generate.md: its commands parse, those that train run, and so does what follows on a run; so does its Python."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dltrain.cli import main
from dltrain.config import table
from dltrain.config.compose import compose
from dltrain.config.precheck import precheck
from dltrain.grid import expand
from dltrain.run import all_runs

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "generate.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [line.strip() for line in PAGE.splitlines() if line.startswith("    dltrain ")]
COMMANDS = BLOCKS + re.findall(r"`(dltrain [^`]+)`", PAGE)
TRAINED = [line for line in BLOCKS if re.search(r"model=dcgan", line) and "data=mnist" not in line]
FOLLOWING = [line for line in BLOCKS if re.search(r"run=last|resume=", line)]
TINY = ["model.base_channels=2", "task.samples=8", "trainer.batch_size=8", "trainer.threads=1", "log=quiet"]


def words_of(line: str) -> list[str]:
    return shlex.split(re.split(r"\s#\s", line)[0])[1:]


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw = np.random.RandomState(0)
    Path("photos").mkdir()
    for number in range(24):
        Image.fromarray(draw.randint(0, 256, (70, 66, 3)).astype(np.uint8)).save(f"photos/{number}.png")


def test_the_commands_are_found() -> None:
    """The control: the patterns above see what is there."""
    assert len(TRAINED) >= 6
    assert len(FOLLOWING) >= 6
    in_readme = [line for line in README.splitlines() if line.startswith("    dltrain ") and "data=images" in line]
    assert len(in_readme) == 1
    assert words_of(in_readme[0].strip()) in [words_of(line) for line in TRAINED]


@pytest.mark.parametrize("line", [line for line in COMMANDS if line not in FOLLOWING])
def test_every_command_on_the_page_parses(line: str) -> None:
    words = words_of(line)
    if "-m" in words:
        jobs, _ = expand([word for word in words if word != "-m"])
        assert len(jobs) == 9
        words = jobs[-1]
    checked = precheck(words)
    if not any(word.startswith("--") for word in checked):
        compose(checked)


@pytest.mark.parametrize("line", TRAINED)
def test_the_commands_that_train_run(line: str) -> None:
    few = ["data.train_per_class=4"] if "data=" not in line else []
    words = [word for word in words_of(line) if word.partition("=")[0] not in {key.partition("=")[0] for key in TINY}]
    assert main([*words, *TINY, *few, "task.judge=none", "trainer.steps=2"]) == 0


def test_what_follows_on_a_run_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """One after another, as a reader types them, but for fewer samples and epochs; then the Python."""
    few = ["data.classes=[3,7]", "data.train_per_class=8", "task.judge=none", "trainer.epochs=1", "trainer.ema=0.5"]
    assert main(["model=dcgan", *TINY, *few]) == 0
    for line in FOLLOWING:
        words = [re.sub(r"task\.samples=\d+", "task.samples=9", word) for word in words_of(line)]
        words = [re.sub(r"trainer\.epochs=\d+", "trainer.epochs=2", word) for word in words]
        words = [f"resume={all_runs()[0]}" if word.startswith("resume=") else word for word in words]
        assert main(words) == 0, (line, capsys.readouterr().err)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    space: dict[str, np.ndarray] = {}  # type: ignore[type-arg]
    exec(code, space)
    assert space["images"].shape == (16, 28, 28)
    assert Path("fourth.png").is_file()


def test_the_page_names_every_key_of_the_task() -> None:
    keys = vars(table.schema("task", "adversarial")())
    assert [key for key in keys if key != "name" and f"task.{key}" not in PAGE] == ["gradient_penalty"]
