"""The judge that is trained once and kept: never half, never damaged, by one process at a time."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import pytest
import torch

from dltrain import checkpoint, environment
from dltrain.config.data import Digits
from dltrain.config.messages import Failure
from dltrain.data.fetch import cache_folder
from dltrain.measuring.classifier import open_run
from dltrain.modes import judge_run, train
from dltrain.report.terminal import Screen
from dltrain.run import Run


@pytest.fixture(scope="module")
def short() -> Iterator[None]:
    """A judge of one epoch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge_run, "EPOCHS", 1)
        yield


@pytest.fixture(autouse=True)
def empty_cache(short: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_folder() / "judges"


def screen() -> tuple[Screen, StringIO]:
    out = StringIO()
    return Screen(out, out), out


@contextmanager
def judged(pixels: str = "") -> Iterator[tuple[Path, str]]:
    """The folder of the digits' judge, and what was said."""
    cfg, spec = judge_run.described(judge_run.config_for(Digits()))
    env = environment.resolve(cfg, spec, None)
    on, said = screen()
    with judge_run.trained(cfg, spec, pixels, env, on) as folder:
        yield folder, said.getvalue()


def sha256(folder: Path) -> str:
    return open_run(folder, (1, 28, 28), (28, 28), torch.device("cpu"), print).weights_sha256


@pytest.fixture(scope="module")
def kept(short: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the digits' judge in it, to be copied."""
    place = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(place))
        with judged():
            pass
    return place


@pytest.fixture
def in_cache(kept: Path, empty_cache: Path) -> Path:
    """The judge's folder in this test's cache."""
    shutil.copytree(kept, empty_cache.parents[1], dirs_exist_ok=True)
    (folder,) = (path for path in empty_cache.iterdir() if path.is_dir())
    return folder


def test_it_is_trained_once_by_lenets_own_recipe_and_found_again(empty_cache: Path, in_cache: Path) -> None:
    shutil.rmtree(empty_cache)
    with judged() as (folder, said):
        first = sha256(folder)
        assert folder.parent == empty_cache
        assert "trains a judge: lenet5 on the classes of digits, 3,500 images, 1 epoch" in said
        assert "the judge tells " in said
    assert Run(folder).status == "completed"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"config.json", "environment.json", "results.json", "best.sha256", "checkpoints/best.pt"}
    with judged() as (again, said):
        assert (again, said) == (folder, "")
        assert sha256(again) == first


def test_other_images_of_the_same_names_have_another_judge(in_cache: Path) -> None:
    names = []
    for pixels in ("", "1" * 64):
        cfg, spec = judge_run.described(judge_run.config_for(Digits()))
        names.append(judge_run.name_of(cfg, spec, pixels))
    assert names[0] == in_cache.name != names[1]


def test_what_changes_no_bit_changes_no_name(in_cache: Path) -> None:
    settings = Digits(size="64", mean=[0.5], std=[0.5], workers=2, train_per_class=5, folds=5, fold=2)
    cfg, spec = judge_run.described(judge_run.config_for(settings))
    assert judge_run.name_of(cfg, spec, "") == in_cache.name


def damage_by_swapping(folder: Path) -> None:
    """Another judge's checkpoint, whole."""
    state = checkpoint.read(folder / "checkpoints/best.pt")
    next(iter(state["task"].values())).add_(1)
    shutil.rmtree(folder / "checkpoints")
    checkpoint.save(folder, state, best=True)


def damage_by_cutting(folder: Path) -> None:
    path = folder / "checkpoints/best.pt"
    path.write_bytes(path.read_bytes()[:-1000])


def damage_by_flipping(folder: Path) -> None:
    path = folder / "checkpoints/best.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def damage_by_other_settings(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"activation": "relu"', '"activation": "tanh"'))


def damage_by_stopping(folder: Path) -> None:
    Run(folder).write_results(status="interrupted")


def damage_by_losing(folder: Path) -> None:
    (folder / "checkpoints/best.pt").unlink()


def damage_by_emptying(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


DAMAGES = [damage_by_swapping, damage_by_cutting, damage_by_flipping, damage_by_other_settings]
DAMAGES += [damage_by_stopping, damage_by_losing, damage_by_emptying]


@pytest.fixture
def copied(in_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training takes no time: what would come out is copied."""
    shutil.copytree(in_cache, tmp_path / "copy")

    def copy(folder: Path, *_: object) -> None:
        shutil.copytree(tmp_path / "copy", folder, dirs_exist_ok=True)

    monkeypatch.setattr(judge_run, "_train", copy)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_one_is_not_trusted_but_trained_again(damage, in_cache: Path, copied: None) -> None:  # type: ignore[no-untyped-def]
    first = sha256(in_cache)
    damage(in_cache)
    with judged() as (folder, said):
        assert folder == in_cache
        assert "the judge in the cache is not to be trusted, and is trained again" in said
        assert sha256(folder) == first


@pytest.mark.parametrize("kind", ["link", "broken link", "file"])
def test_what_is_no_folder_in_its_place_makes_room(kind: str, in_cache: Path, copied: None, tmp_path: Path) -> None:
    shutil.rmtree(in_cache)
    if kind == "file":
        in_cache.write_text("no judge")
    else:
        in_cache.symlink_to(tmp_path / "elsewhere")
    if kind == "link":
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere/mine").write_text("kept")
    with judged() as (folder, said):
        assert folder == in_cache
        assert "cannot be kept" not in said
    assert in_cache.is_dir()
    assert not in_cache.is_symlink()
    assert kind != "link" or (tmp_path / "elsewhere/mine").read_text() == "kept"


def test_what_a_killed_training_left_is_cleared_away(empty_cache: Path, in_cache: Path, copied: None) -> None:
    shutil.rmtree(in_cache)
    left = empty_cache / f".{in_cache.name}.0123456789abcdef.tmp"
    (left / "checkpoints").mkdir(parents=True)
    (left / "checkpoints/last.pt").write_bytes(b"half")
    other = empty_cache / f".{'0' * 32}.0123456789abcdef.tmp"  # of a judge that somebody may be training now
    other.mkdir()
    with judged() as (folder, _):
        assert folder == in_cache
    assert not left.exists()
    assert other.exists()


@pytest.mark.parametrize("how", ["code", "exception"])
def test_training_that_is_broken_off_leaves_nothing(
    how: str, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> int:
        if how == "exception":
            raise KeyboardInterrupt
        return 75

    monkeypatch.setattr(train, "run", stopped)
    with pytest.raises(KeyboardInterrupt), judged():
        pass
    assert [path for path in empty_cache.iterdir() if not path.name.endswith(".lock")] == []


def test_on_a_full_disk_it_is_trained_for_this_run_alone(
    empty_cache: Path, in_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = sha256(in_cache)
    shutil.rmtree(in_cache)
    save = checkpoint.save

    def full(folder: Path, *args: object, **kwargs: object) -> None:
        if folder.is_relative_to(empty_cache):
            raise Failure(f"no space left on the file system: {folder} needs 1 byte\n  free some space")
        save(folder, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(checkpoint, "save", full)
    with judged() as (folder, said):
        assert not folder.is_relative_to(empty_cache)
        assert "the judge cannot be kept in" in said
        assert "no space left" in said
        assert sha256(folder) == expected
    assert not folder.exists()
    assert [path for path in empty_cache.iterdir() if not path.name.endswith(".lock")] == []


def test_where_the_cache_cannot_be_written_too(copied: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with judged() as (folder, said):
        assert folder.exists()
        assert "the judge cannot be kept in" in said
    assert not folder.exists()


def test_torch_is_afterwards_as_the_run_wants_it(empty_cache: Path) -> None:
    cfg, spec = judge_run.described(judge_run.config_for(Digits()))
    env = environment.resolve(cfg, spec, None)
    env.threads, env.determinism = 1, "fast"  # type: ignore[assignment]
    on, _ = screen()
    with judge_run.trained(cfg, spec, "", env, on):
        assert not torch.are_deterministic_algorithms_enabled()
        assert torch.get_num_threads() == 1


TRAINS = """
from tests.measuring import test_judge_run as ours
ours.judge_run.EPOCHS = 1
with ours.judged() as (folder, said):
    print(ours.sha256(folder), "trains" in said, "waits" in said)
"""


@pytest.mark.slow
def test_two_processes_at_once_train_one_judge(empty_cache: Path) -> None:
    both = [subprocess.Popen([sys.executable, "-c", TRAINS], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate(timeout=600)[0].split() for process in both]
    assert answers[0][0] == answers[1][0]
    assert sorted(answer[1] for answer in answers) == ["False", "True"]
    assert len([path for path in empty_cache.iterdir() if path.is_dir()]) == 1


WAITS = """
from tests.measuring import test_judge_run as ours
ours.judge_run.EPOCHS = 12
class Told(ours.StringIO):
    def write(self, text):
        print(text, end="", flush=True)
        return super().write(text)
ours.StringIO = Told
with ours.judged() as (folder, said):
    print("done", ours.sha256(folder))
"""


@pytest.mark.slow
def test_one_that_waits_goes_on_when_the_other_is_killed(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start() -> "subprocess.Popen[str]":
        return subprocess.Popen([sys.executable, "-c", WAITS], stdout=subprocess.PIPE, text=True)

    first = start()
    while not list(empty_cache.glob(".*/checkpoints/last.pt")):
        assert first.poll() is None
        time.sleep(0.1)
    second = start()
    assert second.stdout is not None
    said: list[str] = []
    while "waits for the judge" not in "".join(said):
        said.append(second.stdout.readline())
        assert said[-1], said
    assert "trains a judge" not in "".join(said)
    first.kill()
    first.communicate()
    rest, _ = second.communicate(timeout=600)
    assert second.returncode == 0
    assert "trains a judge" in rest
    assert list(empty_cache.glob(".*.tmp")) == []
    monkeypatch.setattr(judge_run, "EPOCHS", 12)
    with judged() as (folder, found):
        assert "trains" not in found
        assert rest.split()[-1] == sha256(folder)
