"""The command line from a word to an exit code: folders, files, codes, what a failing job leaves behind."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dltrain import run, signals
from dltrain.cli import main
from dltrain.config import table
from dltrain.config.messages import Failure, Mistake

SMALL = ["model=mlp", "model.widths=[8]", "trainer.steps=2", "trainer.threads=1", "log=quiet"]
RESULTS = {
    *("status", "metrics", "best", "parameters", "weights_sha256", "steps", "epochs", "seconds"),
    *("images_per_second", "peak_memory_bytes", "device", "precision", "seed"),
}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def the_run() -> Path:
    found = run.all_runs()
    assert len(found) == 1
    return found[0]


def results(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return read


# ---- a run's folder


def test_a_run_makes_its_folder_and_hydras(capsys: pytest.CaptureFixture[str], empty_folder: Path) -> None:
    assert main([*SMALL, "seed=3"]) == 0
    folder = the_run()
    assert re.fullmatch(r"outputs/\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d-mlp-digits", str(folder))
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", ".hydra", "environment.json", "run.log", "metrics.csv", "results.json"} <= names
    assert {path.name for path in (folder / ".hydra").iterdir()} == {"config.yaml", "hydra.yaml", "overrides.yaml"}
    overrides = (folder / ".hydra" / "overrides.yaml").read_text().splitlines()
    assert overrides == [f"- {word}" for word in [*SMALL, "seed=3"]]
    found = results(folder)
    assert set(found) == RESULTS
    assert (found["status"], found["seed"], found["steps"]) == ("completed", 3, 2)
    assert (folder / "run.log").read_text().splitlines()[0].endswith(shlex.join(["dltrain", *SMALL, "seed=3"]))
    assert Path.cwd() == empty_folder
    out = capsys.readouterr().out
    assert out.startswith("dltrain ")
    assert not (folder / ".lock").exists()


@pytest.mark.parametrize("key", ["output", "hydra.run.dir"])
def test_a_folder_of_ones_own_is_never_shared(key: str) -> None:
    for _ in range(2):
        assert main([*SMALL, f"{key}=here/mine"]) == 0
    assert {str(path.parent) for path in Path().glob("**/config.json")} == {"here/mine", "here/mine-2"}
    assert not Path("outputs").exists()


def test_a_folder_that_cannot_be_made_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("")
    assert main([*SMALL, "output=file/run"]) == 2
    assert "cannot be made" in capsys.readouterr().err


# ---- mistakes


@pytest.mark.parametrize(
    "words",
    [
        ["model=resnet8"],
        ["optim=sgd", "optim.momentum=0"],
        ["data=folder", "data.root=nowhere"],
        ["run=nowhere"],
        ["resume=nowhere"],
        ["mode=eval", "run=last"],
        ["mode=reproduce"],
        ["init=run", "init.source=nowhere"],
        ["task.class_weights=[1,2]"],
        ["trainer.epochs=1", "trainer.steps=1"],
        ["device=gpu"],
        ["trust=[no_such_package]"],
        ["trainer.save_every=${nothing}"],
    ],
    ids=" ".join,
)
def test_a_mistake_is_2_one_shape_and_no_folder(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "Traceback" not in told
    assert re.match(r"\S.*(\n  (allowed|nearest|type) +\S.*|\n {11}.*)*\n$", told), told
    assert not any(Path().iterdir())
    assert "+" not in told  # Hydra's advice to append


def test_what_to_type_keeps_the_other_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["seed=4", "optim=sgd", "optim.momentum=0", "output=a b"]) == 2
    advice = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("  type"))
    assert shlex.split(advice)[1:] == [
        *["dltrain", "seed=4", "optim=sgd", "output=a b", "optim.momentum=0", "optim.nesterov=false"]
    ]


START = """
import builtins, sys
imported = builtins.__import__
def watch(name, *rest, **more):
    top = name.partition(".")[0]
    if top in ("hydra", "omegaconf") and top not in sys.modules:
        sys.stderr.write("HYDRA\\n")
    return imported(name, *rest, **more)
builtins.__import__ = watch
class Tee:
    encoding = "utf-8"
    def write(self, text): sys.stderr.write("OUT " + text)
    def flush(self): pass
    def isatty(self): return False
    def fileno(self): raise OSError
sys.stdout = Tee()
from dltrain.cli import main
code = main(sys.argv[1:])
assert "torch" not in sys.modules
sys.exit(code)
"""


def test_the_first_line_comes_before_hydra_and_mistakes_need_no_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", START, "optim=sgd", "optim.momentum=0"],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert done.returncode == 2, done.stderr
    lines = done.stderr.splitlines()
    assert lines[0].startswith("OUT dltrain ")
    assert "HYDRA" in lines
    quick = subprocess.run(
        [sys.executable, "-c", START, "modle=mlp"], capture_output=True, text=True, env=environment()
    )
    assert quick.returncode == 2
    assert "HYDRA" not in quick.stderr


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(run.__file__).parent.parent)}


# ---- flags


def test_flags_that_only_print(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--version"], ["--help"], ["-h"], ["--help", "trainer"], ["--completion", "bash"]):
        assert main(words) == 0
        assert capsys.readouterr().out
    assert main(["--cfg", "job", "model=mlp", "seed=5"]) == 0
    shown = capsys.readouterr().out
    assert "seed: 5" in shown
    assert "hydra" not in shown
    assert main(["--complete", "modE"]) == 0
    assert capsys.readouterr().out == ""
    assert not any(Path().iterdir())


# ---- a job that fails


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (ValueError("no good"), 1, "failed"),
        (Failure("the loss is nan"), 1, "failed"),
        (OSError(28, "No space left on device"), 1, "failed"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_an_exception_becomes_a_status_and_a_code(
    error: BaseException,
    code: int,
    status: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from dltrain.modes import train

    def fails(*_: Any) -> int:
        raise error

    monkeypatch.setattr(train, "run", fails)
    assert main(SMALL) == code
    folder = the_run()
    assert results(folder)["status"] == status
    told = capsys.readouterr().err
    assert "Traceback" not in told
    assert f"dltrain resume={folder}" in told
    log = (folder / "run.log").read_text()
    assert str(error) in log
    assert ("Traceback" in log) == (code == 1)


def test_a_mistake_that_only_torch_sees_leaves_no_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dltrain.modes import train

    def mistaken(*_: Any) -> int:
        raise Mistake("device=cuda: no GPU here")

    monkeypatch.setattr(train, "run", mistaken)
    assert main(SMALL) == 2
    assert "no GPU here" in capsys.readouterr().err
    assert run.all_runs() == []
    assert not any(Path().iterdir())


# ---- going on


def test_resume_goes_on_in_the_run_and_leaves_hydras_files() -> None:
    assert main([*SMALL, "schedule=constant"]) == 0
    folder = the_run()
    before = {path: path.read_bytes() for path in (folder / ".hydra").iterdir()}
    assert main([f"resume={folder}"]) == 2  # it has completed
    assert main([f"resume={folder}", "trainer.steps=5", "log.every=1"]) == 0
    assert results(folder)["steps"] == 5
    assert {path: path.read_bytes() for path in (folder / ".hydra").iterdir()} == before
    recorded = run.Run(folder).read_config()
    assert (recorded.trainer.steps, recorded.log.every) == (5, 50)
    assert main([f"resume={folder}"]) == 2
    assert the_run() == folder


def test_a_run_from_another_runs_weights_records_which() -> None:
    assert main(SMALL) == 0
    first = the_run()
    assert main([*SMALL, "init=run", "init.source=last", "output=second"]) == 0
    assert run.Run(Path("second")).read_config().init.source == str(first)


# ---- asked to stop


def test_a_first_request_is_noted_and_a_second_ctrl_c_stops_at_once() -> None:
    before = {name: signal.getsignal(getattr(signal, name)) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")}
    with signals.install():
        with signals.patient():
            os.kill(os.getpid(), signal.SIGTERM)
            assert signals.requested() == "SIGTERM"
            os.kill(os.getpid(), signal.SIGTERM)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
                signal.sigtimedwait([], 1)  # the handler runs before this returns
        assert signals.requested() == "SIGTERM"
    assert signals.requested() is None
    after = {name: signal.getsignal(getattr(signal, name)) for name in before}
    assert after == before


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 75), ("SIGUSR1", 75)])
def test_being_asked_to_stop_before_the_job_is_a_code(name: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import dltrain.job

    def asked(*_: Any) -> Any:
        os.kill(os.getpid(), getattr(signal, name))
        signal.sigtimedwait([], 1)
        raise AssertionError("not stopped")

    monkeypatch.setattr(dltrain.job, "prepare", asked)
    assert main(SMALL) == code


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 75)])
def test_being_asked_to_stop_in_a_job_saves_and_resume_ends_the_same(
    name: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dltrain.engine import loop

    words = [*SMALL[:2], "trainer.steps=6", "trainer.threads=1"]
    assert main([*words, "output=whole"]) == 0
    original, calls = loop.apply_update, []

    def asks(*args: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), getattr(signal, name))
        return original(*args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "apply_update", asks)
        assert main([*words, "output=cut"]) == code
    cut = results(Path("cut"))
    assert cut["status"] == "interrupted"
    assert cut["steps"] == 3
    assert main(["resume=cut"]) == 0
    assert results(Path("cut"))["weights_sha256"] == results(Path("whole"))["weights_sha256"]
    assert Path("cut/metrics.csv").read_bytes() == Path("whole/metrics.csv").read_bytes()


# ---- a network of the user's own


@pytest.fixture
def package(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    home = empty_folder / "my_nets"
    (home / "configs" / "model").mkdir(parents=True)
    (home / "models").mkdir()
    for folder in (home, home / "models"):
        (folder / "__init__.py").write_text("")
    (home / "config.py").write_text(
        "from dataclasses import dataclass\n"
        "from typing import ClassVar\n"
        "from dltrain.config.model import Model\n"
        "@dataclass\n"
        "class Line(Model):\n"
        "    builds: ClassVar[str] = 'line:Line'\n"
        "    name: str = 'line'\n"
    )
    (home / "configs" / "model" / "line.yaml").write_text("defaults:\n  - _line\n  - _self_\n")
    (home / "models" / "line.py").write_text(
        "from torch import nn\n"
        "class Line(nn.Module):\n"
        "    def __init__(self, cfg, shape, num_outputs):\n"
        "        super().__init__()\n"
        "        self.line = nn.Linear(shape[0] * shape[1] * shape[2], num_outputs)\n"
        "    def forward(self, images):\n"
        "        return self.line(images.flatten(1))\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "my_nets"
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_nets"]:
        del sys.modules[name]
    table.forget_extras()


def test_a_network_of_ones_own_trains_and_resumes_by_trust_alone(
    package: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["model=line", "trainer.steps=2", "trainer.threads=1", "schedule=constant", "optim=sgd"]
    assert main(words) == 2
    assert package not in sys.modules
    word = f"trust=[{package}]"
    assert main([*words, word]) == 0
    folder = the_run()
    assert "my_nets" not in (folder / "config.json").read_text()
    capsys.readouterr()
    assert main([f"resume={folder}", "trainer.steps=3"]) == 2  # the run cannot trust for the user
    assert "trust=" in capsys.readouterr().err
    assert main([f"resume={folder}", "trainer.steps=3", word]) == 0
    assert results(folder)["steps"] == 3
