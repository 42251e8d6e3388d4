"""Tab completion: groups, options, keys, values and runs; silent whatever is typed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dltrain.cli import main
from dltrain.config import table
from dltrain.config.complete import SCRIPTS, complete
from dltrain.config.mode import GROUPS

RUNS = ["outputs/2026-11-24/21-10-27-lenet5-digits", "outputs/2026-11-25/08-00-00-mlp-digits"]


@pytest.fixture(autouse=True)
def two_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for run in RUNS:
        Path(run).mkdir(parents=True)
        Path(run, "config.json").write_text("{}")


def test_groups_options_and_keys() -> None:
    assert set(complete([""])) >= {f"{group}=" for group in GROUPS} | {"seed=", "trainer.", "resume="}
    assert complete(["trainer.ep"]) == ["trainer.epochs="]
    for group in GROUPS:
        assert complete([f"{group}="]) == [f"{group}={option}" for option in table.options(group)]
    assert complete(["--he"]) == ["--help"]
    assert complete(["--help", "tra"]) == ["trainer"]
    assert complete(["--completion", "b"]) == ["bash"]


def test_keys_follow_what_is_typed_before() -> None:
    assert complete(["clip."]) == []
    assert complete(["clip=norm", "clip."]) == ["clip.max_norm="]
    assert complete(["model=mlp", "model.w"]) == ["model.widths="]
    assert complete(["mode=eval", "ru"]) == ["run="]
    assert complete(["ru"]) == []
    assert complete(["experiment=mnist_mlp", "model.w"]) == ["model.widths="]
    assert "model=" not in complete(["model=mlp", ""])


def test_values() -> None:
    assert complete(["model.activation=t"]) == ["model.activation=tanh"]
    assert complete(["determinism="]) == ["determinism=exact", "determinism=fast"]
    assert complete(["optim=sgd", "optim.nesterov="]) == ["optim.nesterov=false", "optim.nesterov=true"]
    assert complete(["device=c"]) == ["device=cpu", "device=cuda"]
    assert complete(["-m", "model=mlp,le"]) == ["model=mlp,lenet5", "model=mlp,lenet5_caffe"]
    assert complete(["-m", "model.activation=tanh,re"]) == ["model.activation=tanh,relu"]


@pytest.mark.parametrize(
    ("before", "key"),
    [(["mode=eval"], "run"), (["mode=reproduce"], "run"), ([], "resume"), (["init=run"], "init.source")],
)
def test_runs(before: list[str], key: str) -> None:
    assert set(complete([*before, f"{key}="])) >= {f"{key}=last", *(f"{key}={run}" for run in RUNS)}
    assert complete([*before, f"{key}=outputs/2026-11-25"]) == [f"{key}=outputs/2026-11-25/", f"{key}={RUNS[1]}"]


def test_folders_of_free_text() -> None:
    Path("мои фото").mkdir()
    assert complete(["data=folder", "data.root=мо"]) == ["data.root=мои фото/"]
    assert complete(["data=folder", "data.root=outputs/2026-11-2"]) == [
        "data.root=outputs/2026-11-24/",
        "data.root=outputs/2026-11-25/",
    ]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["'"],
        ["model='", "x(=", "run=\\"],
        ["model=nothing", "model."],
        ["mode=", "ru"],
        ["run=nowhere/at/all"],
        ["=", "="],
        ["trust=[no_such_package]", "model="],
        ["\udcff="],
        ["[" * 500],
        ["clip=", "clip."],
        ["--completion"],
        ["data=folder", "data.root=\x00"],
    ],
)
def test_nothing_is_ever_raised_or_printed_as_an_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--complete", *words]) == 0
    assert capsys.readouterr().err == ""


def test_nothing_is_made(tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    complete(["run="])
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("shell", list(SCRIPTS))
def test_script_is_accepted_by_its_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--completion", shell]) == 0
    script = capsys.readouterr().out
    assert script.rstrip("\n") == SCRIPTS[shell]
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"{shell} is not installed")
    subprocess.run([found, "-n"], input=script, text=True, check=True, capture_output=True)


def test_bash_completes_behind_equals_signs(tmp_path: Path) -> None:
    """bash itself, with the printed script: what stands in COMPREPLY for lines cut at `=` and `:`."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    command = tmp_path / "bin/dltrain"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dltrain "$@"\n')
    command.chmod(0o755)
    lines = {
        "dltrain model=le": ["lenet5", "lenet5_caffe"],
        "dltrain clip=norm clip.": ["clip.max_norm="],
        "dltrain mode=eval run=outputs/2026-11-25/": ["outputs/2026-11-25/08-00-00-mlp-digits"],
        "dltrain model=mlp,le": ["mlp,lenet5", "mlp,lenet5_caffe"],
        "dltrain it's (": [],
    }
    asked = "".join(
        f"COMP_LINE={_quoted(line)}; COMP_POINT={len(line)}; _dltrain; printf '%s|' \"${{COMPREPLY[@]}}\"; echo\n"
        for line in lines
    )
    done = subprocess.run(
        [bash, "--norc", "-c", f'eval "$(dltrain --completion bash)"\ncompopt() {{ :; }}\n{asked}'],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ
        | {"PATH": f"{command.parent}:{os.environ['PATH']}", "PYTHONPATH": str(Path(table.__file__).parents[2])},
    )
    assert done.stderr == ""
    assert [[word for word in row.split("|") if word] for row in done.stdout.splitlines()] == list(lines.values())


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
