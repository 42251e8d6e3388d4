"""mode=compare: runs side by side. Prints, and with output= also writes tables and one plot. Needs no torch."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from dltrain import atomic
from dltrain.config.lists import runs_word
from dltrain.config.messages import Failure, Mistake, command
from dltrain.config.mode import Compare
from dltrain.modes.compare_find import find_runs
from dltrain.modes.compare_read import Opened, apart, open_runs, twins, why_not_comparable
from dltrain.report.comparing import (
    Difference,
    curves_of,
    difference,
    differences_csv,
    differences_text,
    main_metric,
    reference_of,
    runs_table,
    settings_csv,
    settings_table,
    smaller_is_better,
    value,
)
from dltrain.report.sweeps import Row, Setting, runs_csv, settings_of
from dltrain.report.table import count, folded, near
from dltrain.report.terminal import Screen
from dltrain.run import Run


def run(cfg: Compare, screen: Screen) -> int:
    """Compare `cfg.runs`. Returns 0. Raises Mistake where there are not two runs to compare."""
    paths, notes = find_runs(cfg.runs)
    opened, unreadable = open_runs(paths)
    rows, repeated = twins(opened)
    notes += [*unreadable, *repeated, *apart(rows)]
    settings = settings_of(rows)
    name, reference = main_metric(settings), reference_of(settings)
    found = []
    if reference and name:
        found = [difference(one, reference, name, _why) for one in settings if one is not reference]
    elif reference:
        notes.append("nothing was measured that says which of these runs is better")
    _show(settings, found, notes + _unfinished(rows, name), screen)
    if cfg.output is not None:
        _write(Path(cfg.output).expanduser(), settings, name, reference, screen)
    else:
        again = command(["mode=compare", runs_word([Path(one) for one in cfg.runs]), "output=compared"])
        screen.line(f"next     {again}")
    return 0


def _why(one: Row, other: Row) -> str:
    assert isinstance(one, Opened)
    assert isinstance(other, Opened)
    return why_not_comparable(one, other)


def _unfinished(rows: Iterable[Row], name: str) -> list[str]:
    """A line for each run that takes no part in means and differences."""
    lines = []
    for row in rows:
        assert row.folder is not None
        if row.status != "completed":
            go_on = "" if row.status == "running" else f": {command([f'resume={near(row.folder)}'])}"
            lines.append(f"{near(row.folder)} is {row.status}, and takes no part in means{go_on}")
        elif value(row, name) is None:
            lines.append(f"{near(row.folder)} has no {name or 'metric that tells which is better'}")
    return lines


def _show(settings: Sequence[Setting], found: Sequence[Difference], notes: Sequence[str], screen: Screen) -> None:
    room = screen.room
    rows = [row for setting in settings for row in setting.rows]
    parts = [
        folded(f"{count(len(rows), 'run')}, {count(len(settings), 'setting')}{_data(rows)}", room),
        settings_table(settings, room),
        differences_text(found, smaller_is_better(rows, found[0].name) if found else False, room),
        runs_table(settings, room),
        [line for note in notes for line in folded(f"note     {note}", room)],
    ]
    for part in parts:
        for line in part:
            screen.line(line)
        if part:
            screen.line()


def _data(rows: Sequence[Row]) -> str:
    """The data, where all runs have the same."""
    specs = [row.spec for row in rows if isinstance(row, Opened) and row.spec is not None]
    same = {(spec.name, spec.counts.get("test", 0)) for spec in specs}
    if len(same) != 1:
        return ""
    name, images = same.pop()
    return f"   {name}, {count(images, 'test image')}"


# ---- files


def _write(output: Path, settings: Sequence[Setting], name: str, reference: Setting | None, screen: Screen) -> None:
    """`runs.csv`, `settings.csv`, `differences.csv`, `compare.png`."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        atomic.write_text(output / "runs.csv", runs_csv(settings))
        atomic.write_text(output / "settings.csv", settings_csv(settings))
        if reference is not None:
            atomic.write_text(output / "differences.csv", differences_csv(settings, reference, _why))
        _draw(settings, name, output / "compare.png", screen)
    except (OSError, Failure) as error:
        raise Mistake(
            f"output={output} cannot be written: {getattr(error, 'strerror', None) or error}",
            allowed="a folder that you may write to",
            type_this="output=FOLDER",
        ) from error
    screen.line(f"written  {near(output)}   compare.png, runs.csv, settings.csv, differences.csv")


def _metrics(row: Row, screen: Screen) -> list[dict[str, float]]:
    assert row.folder is not None
    try:
        return Run(row.folder).read_metrics()
    except Mistake as mistake:
        screen.warn(f"no curve is drawn: {mistake.what}")
        return []


def _brief(key: str, keys: Iterable[str]) -> str:
    """A key by its last name, where no other has that."""
    last = key.rpartition(".")[2]
    return last if [one.rpartition(".")[2] for one in keys].count(last) == 1 else key


def _draw(settings: Sequence[Setting], name: str, path: Path, screen: Screen) -> None:
    import io

    from dltrain.report.spread import Drawn, spread

    curve = next((key for one in settings for row in one.done for key in row.scores if key.startswith("val/")), name)
    drawn = []
    for setting in settings:
        words = " ".join(f"{_brief(key, setting.values)}={text}" for key, text in setting.values.items() if text)
        values = [found for row in setting.done if (found := value(row, name)) is not None]
        curves = [curves_of(_metrics(row, screen), curve) for row in setting.rows]
        drawn.append(Drawn(f"{setting.label}  {words}", values, curves))
    picture = io.BytesIO()
    rows = [row for setting in settings for row in setting.rows]
    spread(drawn, name, curve, count(len(rows), "run") + _data(rows)).save(picture, "PNG")
    atomic.write_bytes(path, picture.getvalue())
