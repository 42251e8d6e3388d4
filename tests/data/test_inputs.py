"""What `input=` means: files, folders, patterns; what is left out; mistakes."""

import os
import socket
from pathlib import Path

import pytest

from dltrain.config.messages import Mistake
from dltrain.data.inputs import find_inputs

TREE = """
    a.png b.JPG notes.txt .hidden.png Thumbs.db
    cat/2.png cat/10.png cat/deep/er/x.webp
    cat-dog/1.png
    dog/y.gif dog/readme
    .git/z.png __MACOSX/z.png
"""


@pytest.fixture(autouse=True)
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in [*TREE.split(), "[odd] *?/in.png"]:
        Path("photos", name).parent.mkdir(parents=True, exist_ok=True)
        Path("photos", name).touch()
    return tmp_path


ALL = ["[odd] *?/in.png", "a.png", "b.JPG", "cat/10.png", "cat/2.png", "cat/deep/er/x.webp", "cat-dog/1.png"]
ALL += ["dog/y.gif"]


@pytest.mark.parametrize(
    ("text", "root", "files"),
    [
        ("photos", "photos", ALL),
        ("photos/", "photos", ALL),
        ("./photos/../photos", "photos", ALL),
        ("photos/a.png", "photos", ["a.png"]),
        ("photos/notes.txt", "photos", ["notes.txt"]),  # a file that is named is read, whatever its name
        ("photos/.hidden.png", "photos", [".hidden.png"]),
        ("photos/[odd] *?", "photos/[odd] *?", ["in.png"]),
        ("photos/[odd] *?/*.png", "photos/[odd] *?", ["in.png"]),
        ("photos/[odd] *?/in.png", "photos/[odd] *?", ["in.png"]),
        ("photos/*", "photos", ["a.png", "b.JPG"]),
        ("photos/*.png", "photos", ["a.png"]),
        ("photos/?.*", "photos", ["a.png", "b.JPG"]),
        ("photos/[b-z].*", "photos", ["b.JPG"]),
        ("photos/.*.png", "photos", [".hidden.png"]),
        ("photos/cat*/*.png", "photos", ["cat/10.png", "cat/2.png", "cat-dog/1.png"]),
        ("photos/**", "photos", ALL),
        ("photos/**/*", "photos", ALL),
        ("photos/**/**/*", "photos", ALL),
        ("photos/**/*.png", "photos", [name for name in ALL if name.endswith(".png")]),
        ("photos/**/er/**/*.webp", "photos", ["cat/deep/er/x.webp"]),
        ("photos/cat/**/*.png", "photos/cat", ["10.png", "2.png"]),
        ("**/y.gif", "", ["photos/dog/y.gif"]),
        ("*/dog/y.gif", "", ["photos/dog/y.gif"]),
    ],
)
def test_files_sorted_folder_by_folder_and_relative_to_what_was_typed(text: str, root: str, files: list[str]) -> None:
    found = find_inputs(text)
    assert (found.files, found.root.resolve()) == (files, Path(root).resolve())
    assert all((found.root / name).is_file() for name in found.files)


def test_the_home_folder_and_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_inputs("~/photos").files == ALL
    assert find_inputs("~/photos/*.png").files == ["a.png"]
    assert find_inputs(f"{tmp_path}/photos/dog/*").files == ["y.gif"]


def test_what_is_no_regular_file_is_skipped_and_named(tmp_path: Path) -> None:
    photos = Path("photos")
    (photos / "link.png").symlink_to("a.png")
    (photos / "loop").symlink_to(".")
    (photos / "dangling.png").symlink_to("nowhere")
    os.mkfifo(photos / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("photos/talk.png")
        found = find_inputs("photos")
    expected = [("dangling.png", "link"), ("link.png", "link"), ("loop", "link"), ("pipe.png", "named pipe")]
    assert found.skipped == [*expected, ("talk.png", "socket")]
    assert found.files == ALL
    assert found.others == ["dog/readme", "notes.txt"]
    assert find_inputs("photos/*.png").skipped == [entry for entry in found.skipped if entry[0] != "loop"]
    # what is typed itself may be a link
    assert find_inputs("photos/link.png").files == ["link.png"]
    assert find_inputs("photos/loop/*.png").files == ["a.png"]
    assert len(find_inputs("photos/loop").files) == len(ALL)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_named() -> None:
    Path("photos/dog").chmod(0)
    assert find_inputs("photos").skipped == [("dog", "Permission denied")]
    Path("photos/dog").chmod(0o755)


def test_a_folder_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def scandir(path: Path) -> object:
        if Path(path).name == "dog":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = find_inputs("photos")
    assert found.skipped == [("dog", "Permission denied")]
    assert found.files == ALL[:-1]


def test_names_that_are_no_text() -> None:
    odd = os.fsdecode(b"photos/\xff\xfe.png")
    Path(odd).touch()
    assert Path(odd).name in find_inputs("photos").files
    assert find_inputs(odd).files == [Path(odd).name]


@pytest.mark.parametrize(
    ("text", "said", "typed"),
    [
        ("photoz", "is not there", "input=photos"),
        ("photos/ab.png", "no ab.png in photos", "input=photos/a.png"),
        ("photoz/a.png", "is not there", "input=photos/a.png"),
        ("photoz/*.png", "is not there", "input=photos/*.png"),
        ("photos/a.png/b", "is not there", ""),
        ("photos/*.jpg", "fits no image", "input=photos"),
        ("photos/*.txt", "what it fits: notes.txt", "input=photos"),
        ("photos/.git/*.jpg", "fits no image", "input=photos/.git"),
        ("/dev/null", "is a device", ""),
        ("x\0y", "is not there", ""),
        ("x" * 5000, "is not there", ""),
        ("", "x", ""),
    ],
)
def test_mistakes_name_what_is_near(text: str, said: str, typed: str) -> None:
    if text == "":
        assert find_inputs(text).files  # the working directory
        return
    with pytest.raises(Mistake) as caught:
        find_inputs(text)
    assert said in caught.value.what
    assert typed.removeprefix("input=") in caught.value.type_this
    assert bool(caught.value.type_this) == bool(typed)
    assert caught.value.allowed


def test_an_empty_folder_and_one_without_images_say_what_they_hold() -> None:
    Path("empty").mkdir()
    with pytest.raises(Mistake, match=r"input=empty holds no image\n"):
        find_inputs("empty")
    Path("texts").mkdir()
    for number in range(9):
        Path(f"texts/{number}.txt").touch()
    with pytest.raises(Mistake, match=r"holds no image; what it holds: 0.txt, 1.txt, .* and 4 more"):
        find_inputs("texts")
    with pytest.raises(Mistake) as caught:
        find_inputs("photos/zzz\x1b[31m")
    assert "\x1b" not in str(caught.value)


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    deep = Path("/".join(["deep"] + ["d"] * 40))
    deep.mkdir(parents=True)
    (deep / "x.png").touch()
    assert len(find_inputs("deep/" + "**/d/" * 12 + "**/*.png").files) == 1
