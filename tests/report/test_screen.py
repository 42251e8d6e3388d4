"""The screen: what is printed where, on terminals of every kind and on none."""

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dltrain.report.terminal import ERASE, Screen, cut, encodable, safe, width


class Terminal(io.TextIOWrapper):
    """A stream that says it is a terminal."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding=encoding, write_through=True)

    def isatty(self) -> bool:
        return True

    @property
    def text(self) -> str:
        return self.buffer.getvalue().decode(self.encoding)  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)


def parts() -> list[str]:
    return ["loss 0.081", "0:04 left", "val accuracy 98.3 %", "12,400 img/s"]


def test_markup_and_control_characters_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().line("[red]cat[/red] \x1b[31m\x07\u202edog\udcff")
    assert capsys.readouterr().out == "[red]cat[/red] \\x1b[31m\\x07\\u202edog\\udcff\n"


def test_a_line_end_in_a_name_is_escaped_by_safe() -> None:
    assert safe("a\nb\rc\x9b") == "a\\nb\\rc\\x9b"


def test_warnings_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().warn("smallest class has 3 images")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "warning  smallest class has 3 images\n"


def test_without_a_terminal_no_live_line_is_drawn() -> None:
    out = io.StringIO()
    screen = Screen(out, io.StringIO())
    screen.progress("epoch 1/2", 1, 2, parts)
    screen.line("epoch 1/2  loss 0.081")
    assert out.getvalue() == "epoch 1/2  loss 0.081\n"


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    out = Terminal()
    Screen(out, io.StringIO()).progress("epoch 1/2", 1, 2, parts)
    assert out.text == ""


def test_the_live_line_is_erased_before_the_next_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    screen = Screen(out, io.StringIO())
    screen.progress("epoch  7/20", 7, 20, parts)
    screen.line("done")
    drawn, after = out.text.removeprefix(ERASE).split(ERASE)
    assert drawn == f"epoch  7/20  {'━' * 10}{'─' * 18}  loss 0.081  0:04 left  val accuracy 98.3 %  12,400 img/s"
    assert after == "done\n"


def test_redraws_at_most_five_times_a_second_and_formats_nothing_in_between() -> None:
    out = Terminal()
    screen = Screen(out, io.StringIO())
    calls = []
    for i in range(10_000):
        screen.progress("x", i, 10_000, lambda: calls.append(1) or [])  # type: ignore[func-returns-value]
    assert 1 <= len(calls) <= 5
    assert out.text.count(ERASE) == len(calls)


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_the_live_line_fits_the_terminal(columns: int, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    out = Terminal(encoding)
    Screen(out, io.StringIO()).progress("epoch  7/20", 7, 20, parts)
    line = re.sub(r"\x1b\[\d*m", "", out.text.removeprefix(ERASE))
    assert 0 < width(line) < columns
    assert line.startswith("epoch  7/20")
    if columns >= 40:
        assert "loss 0.081  0:04 left" in line


def test_no_color_draws_without_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, coloured in (("", True), ("1", False)):
        monkeypatch.setenv("NO_COLOR", value)
        out = Terminal()
        Screen(out, Terminal()).progress("epoch 1/2", 1, 2, parts)
        assert bool(re.search(r"\x1b\[\d+m", out.text)) is coloured


def test_streams_without_utf8_get_stand_ins() -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    Screen(out, io.StringIO()).line("98.1 % ± 0.4 кот…")
    assert out.buffer.getvalue() == b"98.1 % +/- 0.4 \\u043a\\u043e\\u0442...\n"  # type: ignore[attr-defined]
    assert encodable("±", None) == "±"


def test_width_counts_columns_not_characters() -> None:
    assert width("猫") == 2
    assert width("e\u0301") == 1
    assert cut("猫猫猫", 5) == "猫猫"


def test_run_log_mirrors_lines_with_their_time_and_appends(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_text("earlier\n")
    out, err = io.StringIO(), io.StringIO()
    screen = Screen(out, err)
    screen.line("before")
    screen.attach(log)
    screen.line("one\ntwo \x1b")
    screen.warn("three")
    screen.log_only("Traceback\n  File\n")
    screen.progress("x", 1, 2)
    screen.detach()
    screen.line("after")
    lines = log.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "earlier"
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ", line) for line in lines[1:])
    assert [line[21:] for line in lines[1:]] == ["one", "two \\x1b", "warning  three", "Traceback", "  File"]
    assert "Traceback" not in out.getvalue() + err.getvalue()


SCRIPT = """
import sys
from pathlib import Path
from dltrain.report.terminal import Screen
screen = Screen()
screen.attach(Path(sys.argv[1]))
for i in range(20_000):
    screen.line(f"line {i}")
assert "rich" not in sys.modules and "hydra" not in sys.modules
"""


def test_a_reader_that_goes_away_does_not_end_the_run(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(log)], stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    assert os.read(reader, 10).startswith(b"line 0")
    os.close(reader)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert log.read_text().splitlines()[-1].endswith("line 19999")


def test_a_full_disk_behind_standard_output_does_not_end_the_run(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path / "run.log")], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_run_log_that_cannot_be_written_is_told_once() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    out, err = io.StringIO(), io.StringIO()
    screen = Screen(out, err)
    screen.attach(Path("/dev/full"))
    screen.line("one")
    screen.line("two")
    screen.detach()
    assert out.getvalue() == "one\ntwo\n"
    assert err.getvalue().count("cannot write /dev/full any more") == 1


def test_a_process_without_standard_streams_runs(tmp_path: Path) -> None:
    code = SCRIPT.replace("20_000", "3").replace("import sys\n", "import sys\nsys.stdout = sys.stderr = None\n", 1)
    subprocess.run([sys.executable, "-c", code + "screen.warn('x')", str(tmp_path / "run.log")], check=True)
    assert len((tmp_path / "run.log").read_text().splitlines()) == 4


def test_a_real_terminal_is_seen_as_one(tmp_path: Path) -> None:
    main, side = pty.openpty()
    code = "from dltrain.report.terminal import Screen; s = Screen(); s.progress('epoch 1/2', 1, 2); s.line('end')"
    environment = {**os.environ, "COLUMNS": "40", "PYTHONIOENCODING": "utf-8"}
    subprocess.run([sys.executable, "-c", code], stdout=side, check=True, env=environment)
    os.close(side)
    text = os.read(main, 4096).decode()
    os.close(main)
    assert text.startswith(ERASE + "epoch 1/2  ")
    assert text.endswith(ERASE + "end\r\n")
