"""A generator's run and its judge, by the command line."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dltrain import checkpoint
from dltrain.cli import main
from dltrain.data.fetch import cache_folder
from dltrain.modes import judge_run
from dltrain.run import Run
from tests.runs.test_checkpoint_attacks import CANARY, Opens

TINY = ["model=dcgan", "model.base_channels=4", "trainer.batch_size=16", "trainer.steps=3", "trainer.threads=1"]
CLASSIFIER = ["model=mlp", "model.widths=[8]", "trainer.epochs=1", "trainer.threads=1", "log=quiet", "output=mlp"]
TINY += ["task.samples=40", "log.tensorboard=false", "log.pictures=false"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """`first`, which trained the judge, `second`, which found it, and `other`, of another seed."""
    place = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge_run, "EPOCHS", 1)
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        patch.chdir(place)
        for name, seed in (("first", 0), ("second", 0), ("other", 1)):
            assert main([*TINY, f"seed={seed}", f"output={name}"]) == 0
        yield place


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(judge_run, "EPOCHS", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def judge_of(name: str) -> Any:
    return Run(Path(name)).environment()["judge"]


def test_a_judge_that_was_trained_just_now_leaves_no_trace(here: Path) -> None:
    first, second = Run(Path("first")), Run(Path("second"))
    assert "trains a judge" in Path("first/run.log").read_text()
    assert "trains a judge" not in Path("second/run.log").read_text()
    assert first.results()["weights_sha256"] == second.results()["weights_sha256"]
    assert Path("first/metrics.csv").read_bytes() == Path("second/metrics.csv").read_bytes()
    assert first.results()["metrics"] == second.results()["metrics"]


def test_one_judge_serves_every_seed_and_is_named_in_the_run(here: Path) -> None:
    (folder,) = (path for path in (cache_folder() / "judges").iterdir() if path.is_dir())
    judge = judge_of("first")
    assert judge == judge_of("other")
    assert judge["model"] == "lenet5"
    assert Path(judge["run"]).name == folder.name
    state = checkpoint.load(folder, "best", print)
    assert state is not None
    assert judge["weights_sha256"] == checkpoint.weights_sha256(state["task"])
    assert judge["weights_sha256"][:12] in Path("first/run.log").read_text()


def test_the_best_is_the_smallest_fid_and_all_measures_are_recorded(here: Path) -> None:
    results = Run(Path("first")).results()
    assert results["best"]["metric"] == "-val/fid"
    names = {"fid", "real_fid", "precision", "recall", "rarest_class", "class_entropy", "class_share/7"}
    names |= {"nearest_distance", "real_nearest_distance", "copies", "checkerboard", "real_checkerboard"}
    assert {f"{split}/{name}" for split in ("val", "test") for name in names} <= set(results["metrics"])
    assert results["metrics"]["val/fid"] > results["metrics"]["val/real_fid"] > 0


def files_of(run: str) -> dict[str, bytes]:
    """What a run holds, but its log."""
    return {str(path): path.read_bytes() for path in Path(run).rglob("*") if path.is_file() and path.name != "run.log"}


def test_evaluated_again_it_is_the_same_and_by_another_judge_it_is_told(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mode=eval", "run=first", "output=again"]) == 0
    assert Run(Path("again")).results()["metrics"] == Run(Path("first")).results()["metrics"]
    assert main(["mode=eval", "run=first", "task.judge=none"]) == 0
    assert "fid" not in capsys.readouterr().out.splitlines()[-1]
    assert main(CLASSIFIER) == 0
    assert main(["mode=eval", "run=first", "task.judge=mlp", "output=other_judge"]) == 0
    assert "do not compare with the run's, whose judge was another: judge lenet5" in capsys.readouterr().err
    assert Run(Path("other_judge")).results()["metrics"]["val/fid"] > 0


def test_a_run_goes_on_with_its_judge_and_with_no_other(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    longer = ["resume=first", "trainer.steps=4"]
    path = Path("first/environment.json")
    recorded = path.read_text()
    environment = json.loads(recorded)
    environment["judge"]["weights_sha256"] = "0" * 64
    path.write_text(json.dumps(environment))
    before = files_of("first")
    assert main(longer) == 1
    assert files_of("first") == before
    said = capsys.readouterr().err
    assert "the judge is not the one that first was measured by so far: judge lenet5" in said
    assert "weights sha256 000000000000" in said
    assert json.loads(path.read_text())["judge"]["weights_sha256"] == "0" * 64  # still
    path.write_text(recorded)
    assert main(longer) == 0
    assert Run(Path("first")).results()["steps"] == 4


def test_a_judge_that_is_gone_is_to_be_put_back_and_no_other_is_offered(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(CLASSIFIER) == 0
    assert main([*TINY, "task.judge=mlp", "output=by_mlp"]) == 0
    Path("mlp").rename("moved")
    for words in (["resume=by_mlp", "trainer.steps=4"], ["mode=reproduce", "run=by_mlp"]):
        capsys.readouterr()
        before = files_of("by_mlp")
        assert main(words) == 2
        said = capsys.readouterr().err
        assert f"the judge that the run was measured by, put back at {here / 'mlp'}" in said
        assert "task.judge=auto" not in said
        assert files_of("by_mlp") == before
    Path("moved").rename("mlp")
    assert main(["resume=by_mlp", "trainer.steps=4"]) == 0


def test_runs_without_a_judge_compare_with_a_word_on_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1):
        assert main([*TINY, "task.judge=none", f"seed={seed}", f"output=runs/{seed}"]) == 0
    capsys.readouterr()
    assert main(["mode=compare", "runs=[runs]"]) == 0
    said = capsys.readouterr().out
    assert "nothing was measured that says which of these runs is better" in said
    assert "minus" not in said


def test_a_judge_that_was_lost_comes_out_the_same_again(here: Path) -> None:
    shutil.rmtree(cache_folder())
    assert main(["resume=first", "trainer.steps=4"]) == 0
    assert judge_of("first")["weights_sha256"] == judge_of("second")["weights_sha256"]


def test_mistakes_about_the_judge_are_answered_before_torch_is_needed(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for word, expected in (
        ("task.judge=inceptoin", "task.judge=inception"),
        ("task.judge=digit", "task.judge=digits"),
        ("task.judge=nowhere/run", "is not there"),
        ("task.judge=first", "task=adversarial, and a judge tells classes"),
    ):
        assert main([*TINY, word, "output=never"]) == 2
        assert expected in capsys.readouterr().err
    assert not Path("never").exists()


def test_a_judges_checkpoint_runs_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(CLASSIFIER) == 0
    canary = here / CANARY
    content = {"format": 1, "sha256": "0" * 64, "state": {"task": {"w": Opens(canary)}, "step": 1}}
    torch.save(content, "mlp/checkpoints/best.pt")
    assert main([*TINY, "task.judge=mlp", "output=never"]) == 2
    assert "is refused: it names" in capsys.readouterr().err
    assert not canary.exists()
    assert not Path("never").exists()


def test_images_without_classes_are_learned_and_fid_is_not_measured_unless_asked(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    Path("photos").mkdir()
    for i in range(40):
        Image.fromarray(rng.integers(0, 256, (30, 36, 3), dtype=np.uint8)).save(f"photos/{i}.png")
    words = [*TINY, "data=images", "data.root=photos", "data.size=28"]
    assert main([*words, "output=unjudged"]) == 0
    said = capsys.readouterr().out
    assert said.count("FID is not measured: images has no classes to train a judge on, and ") == 1
    assert "Inception-v3" in said
    record = Run(Path("unjudged"))
    assert record.environment()["judge"] is None
    assert record.results()["best"]["step"] == record.results()["steps"] == 3
    assert "val/copies" in record.results()["metrics"]
    assert "val/fid" not in record.results()["metrics"]
    assert main([*words, "task.judge=digits", "output=judged"]) == 0  # colours are seen in grey
    assert Run(Path("judged")).results()["metrics"]["val/fid"] > 0
    assert Run(Path("judged")).results()["best"]["metric"] == "-val/fid"


def test_a_dry_run_trains_a_judge_of_one_step_and_keeps_none(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(cache_folder())
    assert main([*TINY, "trainer.dry_run=true"]) == 0
    assert "dry run: everything works" in capsys.readouterr().out
    assert not (cache_folder() / "judges").exists()
