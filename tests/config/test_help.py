"""Help for people: complete, true to the dataclasses, and readable on a narrow screen."""

import itertools
import shlex
import textwrap

import pytest

from dltrain import __version__
from dltrain.cli import main
from dltrain.config import table
from dltrain.config.choices import alone, keys_of
from dltrain.config.compose import compose
from dltrain.config.help import EXAMPLES, GROUP_SUMMARIES, show
from dltrain.config.messages import Mistake
from dltrain.config.mode import GROUPS, Config
from dltrain.config.precheck import precheck
from dltrain.config.value import default_of, written


def squeezed(text: str) -> str:
    return " ".join(text.split())


def test_overview_is_one_screen_and_names_every_group_and_option() -> None:
    text = show(columns=80)
    lines = text.split("\n")
    assert len(lines) <= 55
    assert max(map(len, lines)) <= 80
    assert set(GROUP_SUMMARIES) == set(GROUPS)
    for group in GROUPS:
        at = next(number for number, line in enumerate(lines) if line.startswith(f"  {group} "))
        more = itertools.takewhile(lambda line: line.startswith("     "), lines[at + 1 :])
        row = " ".join([lines[at], *more])
        assert [word.rstrip("*") for word in row.split()[1:]] == table.options(group)
        assert row.count("*") == 1


@pytest.mark.parametrize("columns", [40, 80, 100])
@pytest.mark.parametrize("topic", [None, *GROUPS])
def test_no_line_is_wider_than_the_screen(topic: str | None, columns: int) -> None:
    for line in show(topic, columns).split("\n"):
        assert len(line) <= columns or " " not in line.strip()


def test_narrow_screen_says_the_same() -> None:
    assert set(squeezed(show("trainer", 40)).split()) == set(squeezed(show("trainer", 80)).split())


@pytest.mark.parametrize("group", [group for group in GROUPS if group in table.SCHEMAS])
def test_group_help_has_every_key_with_default_and_meaning(group: str) -> None:
    text = squeezed(show(group, 100))
    for option in table.options(group):
        cls = table.schema(group, option)
        assert option in text
        for key in alone(cls) if group == "mode" else keys_of(cls, f"{group}."):
            assert f"{key.name}={written(default_of(key))}" in text
            assert squeezed(key.field.metadata["help"]) in text


def test_help_of_one_option_leaves_the_others_out() -> None:
    text = show("model=mlp")
    assert "model.widths" in text
    assert "model.pool" not in text
    assert show("mlp") == text


def test_help_of_one_key() -> None:
    assert "a number > 0" in show("optim.lr", 80)
    assert "data.augment.flip" in show("data.augment", 80)
    assert "optim" not in show("seed", 80)


def test_help_of_experiment_shows_the_heads_of_their_files() -> None:
    assert "command dltrain experiment=mnist_mlp" in squeezed(show("experiment"))


@pytest.mark.parametrize("topic", ["modle", "trainer.epoch", "model=resnet", "zzz"])
def test_unknown_topic_is_a_mistake(topic: str) -> None:
    with pytest.raises(Mistake) as caught:
        show(topic)
    words = shlex.split(caught.value.type_this)
    assert main(words[1:]) == 0


def test_examples_run() -> None:
    """Every example passes the check; those that need no run and no files compose."""
    for words, _ in EXAMPLES:
        checked = precheck(words)
        if not {"-m", "resume=last", "run=last"} & set(words):
            compose(checked)


def test_every_mode_has_an_example_and_every_key_that_stands_alone_its_modes() -> None:
    text = show(columns=80)
    shown = {word.removeprefix("mode=") for words, _ in EXAMPLES for word in words if word.startswith("mode=")}
    assert shown | {"train"} == set(table.options("mode"))
    rows = [line.split() for line in text[text.index("keys that stand alone") :].splitlines()]
    every = [key.name for key in alone(Config)]
    assert ["every", "mode", *every] in rows
    for mode in table.options("mode"):
        for key in alone(table.schema("mode", mode)):
            if key.name not in every:
                assert mode in next(row for row in rows if row and row[0] == key.name)


def test_commands(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.split()[:2] == ["dltrain", __version__]
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == show(columns=80) + "\n"
    assert main(["--help", "optim"]) == 0
    assert capsys.readouterr().out == show("optim", 80) + "\n"
    assert main(["--help", "model=mlp"]) == 0
    assert capsys.readouterr().out == show("model=mlp", 80) + "\n"


def test_units_and_sources_are_told() -> None:
    text = textwrap.dedent(show("data", 100))
    assert "degrees" in text
    assert "DeVries and Taylor 2017" in text
