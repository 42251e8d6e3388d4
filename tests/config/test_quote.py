"""Free text: what is typed is what the config holds, through Hydra's own grammar."""

from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from dltrain.config.compose import compose
from dltrain.config.precheck import precheck
from dltrain.config.quote import free_text, is_quoted, quote, split, unquote

NASTY = [
    "фото/кошки и собаки",
    "日本語.png",
    "a b",
    " leading and trailing ",
    "#1",
    "a=b=c",
    "=x",
    "a(1).png",
    "[a, b]",
    "[a",
    "{a: 1}",
    "a,b",
    "it's",
    'say "hi"',
    "'",
    '"',
    "''half",
    "\\",
    "a\\",
    "a\\\\",
    "\\'",
    "a\\'b",
    "C:\\Users\\x",
    "${seed}",
    "\\${seed}",
    "\\\\${seed}",
    "${",
    "}${x",
    "$HOME",
    "'${a}",
    "~/runs",
    "-m",
    "+x",
    "NULL",
    "Null",
    "true",
    "3",
    "1e3",
    "0x10",
    "nan",
    "1:30",
    "a\tb",
    "a\nb",
    "*?|<>&;`!",
    "%(x)s %d",
    "?",
    "????",
    "@",
    ":",
    "~",
    "",
    "last",
    "outputs/2026-11-24/21-10-27-lenet5-digits",
]

PLAIN = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=40)
SPIKY = st.text(st.sampled_from("ab \\'\"${}[](),=#:;?/ж\t"), max_size=14)
TEXT = (PLAIN | SPIKY).filter(lambda text: text not in ("???", "null") and not is_quoted(text))


def through_hydra(override: str) -> Any:
    """The value of one override as a config gives it."""
    parsed = OverridesParser.create().parse_override(override)
    assert not parsed.is_sweep_override()
    return OmegaConf.create({"k": parsed.value(), "seed": 7}).k


@pytest.mark.parametrize("text", NASTY)
def test_typed_text_is_composed_as_it_is(text: str) -> None:
    cfg, _ = compose(precheck([f"output={text}"]))
    assert cfg.output == text


def test_each_free_text_key_is_quoted() -> None:
    nasty = "фото №1 #=[(${x}'\\"
    for key, before in (("data.root", ["data=folder"]), ("init.source", ["init=run"]), ("output", [])):
        cfg, _ = compose(precheck([*before, f"{key}={nasty}"]))
        owner: Any = cfg
        for name in key.split("."):
            owner = getattr(owner, name)
        assert owner == nasty


@settings(max_examples=200, deadline=None)
@given(TEXT)
@example("a\\'")
@example("\\${'")
def test_any_text_survives(text: str) -> None:
    """Property: value typed == value that OmegaConf gives back, and quoting once more changes nothing."""
    quoted = free_text(text)
    assert through_hydra(f"k={quoted}") == text
    assert free_text(quoted) == quoted
    assert unquote(quoted) == text


@settings(max_examples=80, deadline=None)
@given(st.lists(TEXT.filter(lambda t: "," not in t and t == t.strip() and t[:1] not in "'\""), min_size=2, max_size=4))
def test_sweeps_are_split_at_commas_and_each_part_quoted(parts: list[str]) -> None:
    """As Hydra's basic sweeper hands them to its jobs."""
    parsed = OverridesParser.create().parse_override(f"k={free_text(','.join(parts), sweep=True)}")
    assert parsed.is_sweep_override()
    assert [through_hydra(f"k={text}") for text in parsed.sweep_string_iterator()] == parts


@settings(max_examples=80, deadline=None)
@given(st.lists(TEXT.filter(lambda t: "," not in t and t == t.strip() and t and t[0] not in "'\""), max_size=4))
def test_each_element_of_a_list_is_quoted(parts: list[str]) -> None:
    value = through_hydra(f"k={free_text('[' + ', '.join(parts) + ']', elements=True)}")
    assert list(value) == parts


def test_text_in_quotes_is_hydras_own_and_null_stays_null() -> None:
    assert free_text("'a b'") == "'a b'"
    assert free_text('"${seed}"') == '"${seed}"'
    assert through_hydra('k="${seed}"') == 7
    assert free_text("null") == "null"
    assert free_text("a,'b, c',null", sweep=True) == "'a','b, c',null"
    assert free_text("[a],[b c]", sweep=True, elements=True) == "['a'],['b c']"
    assert free_text("null", elements=True) == "null"
    assert free_text("[]", elements=True) == "[]"


def test_negative_control_unquoted_text_is_refused_or_changed() -> None:
    """Without quotes the same texts do not come through: the tests above would notice."""
    lost = 0
    for text in NASTY:
        try:
            lost += through_hydra(f"k={text}") != text
        except Exception:
            lost += 1
    assert lost > 30


def test_split_honours_quotes_and_brackets() -> None:
    assert split("a,'b,c',[d,e],f(1,2),it's") == ["a", "'b,c'", "[d,e]", "f(1,2)", "it's"]
    assert split("a,(b", brackets=False) == ["a", "(b"]
    assert split("") == [""]
    assert quote("") == "''"
