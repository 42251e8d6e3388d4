"""Settings side by side as text: what differs, what came out, and paired differences with their intervals."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dltrain.report.student import Mean
from dltrain.report.sweeps import REPLICATES, Row, Setting, over_what, score_names
from dltrain.report.table import Cell, columns, csv_text, folded, is_share, metric, near, seconds, spoken
from dltrain.report.terminal import width

LEVEL = 0.95
MOST_TURNED = 3  # settings that stand better beside than below each other

Why = Callable[[Row, Row], str]  # why two runs cannot be compared; empty if they can


@dataclass(frozen=True)
class Difference:
    """A setting less another one, in the runs that both have of the same seed and fold."""

    setting: Setting
    reference: Setting
    name: str  # of the metric
    pairs: tuple[tuple[float, float], ...]  # (setting, reference)
    reason: str  # why runs were not paired, if some were not

    @property
    def mean(self) -> Mean:
        return Mean.of([a - b for a, b in self.pairs])


def difference(setting: Setting, reference: Setting, name: str, why: Why) -> Difference:
    """Pair the completed runs of two settings by seed and fold. `name` is a metric of `results.json` or a score."""
    others = {_replicate(row): row for row in reference.done}
    pairs, reason = [], ""
    for row in setting.done:
        other = others.get(_replicate(row))
        values = [] if other is None else [value(one, name) for one in (row, other)]
        if other is None:
            reason = reason or _unpaired(row, setting, reference, why)
        elif refused := why(row, other):
            reason = refused
        elif None in values:
            reason = f"no {spoken(name)}"
        else:
            pairs.append((values[0] or 0.0, values[1] or 0.0))
    return Difference(setting, reference, name, tuple(pairs), reason or ("" if pairs else "no run has completed"))


def _unpaired(row: Row, setting: Setting, reference: Setting, why: Why) -> str:
    """Why a run has no partner: they could not be compared anyway, or there is none of its seed and fold."""
    refused = next((text for other in reference.done if (text := why(row, other))), "")
    return refused or f"no run of the same {_paired_by([*setting.rows, *reference.rows])}"


def value(row: Row, name: str) -> float | None:
    """A metric of a run, or the best value of what was monitored."""
    found = row.results.get("metrics", {}).get(name, row.scores.get(name))
    return None if found is None else float(found)


def _replicate(row: Row) -> tuple[str, ...]:
    return tuple(row.differs.get(key, "") for key in REPLICATES)


def main_metric(settings: Sequence[Setting]) -> str:
    """What the settings are judged by: the test of what was monitored, else its validation; empty if nothing is."""
    names = score_names([row for setting in settings for row in setting.done])
    return next((name for name in names if name.startswith("test/")), names[0] if names else "")


def reference_of(settings: Sequence[Setting]) -> Setting | None:
    """What the others are compared with: the first that has a completed run, and not the best.

    The best of many is the luckiest too, so that differences to it are too large; the first is chosen before.
    """
    return next((setting for setting in settings if setting.done), None)


# ---- tables


def settings_table(settings: Sequence[Setting], room: int | None) -> list[str]:
    """What differs, then the scores with their spread: a column a setting for up to three, else a row."""
    rows = [row for setting in settings for row in setting.rows]
    keys, scores = list(settings[0].values), score_names(rows)
    single = all(len(setting.rows) == 1 for setting in settings)
    head = ["", *keys, *([] if single else [over_what(rows) or "runs"]), *(spoken(name) for name in scores)]
    body = [
        [
            setting.label,
            *setting.values.values(),
            *([] if single else [setting.counted]),
            *(setting.mean(name) for name in scores),
        ]
        for setting in settings
    ]
    lines = laid_out(head, body, range(len(keys) + 1, len(head)), room)
    if any(len(setting.done) > 1 for setting in settings):
        lines += folded(f"mean ± sample standard deviation over the {over_what(rows)}", room)
    return lines


def runs_table(settings: Sequence[Setting], room: int | None) -> list[str]:
    """Every run with its setting's label, seed, status, scores and folder; two lines a run where it is narrow."""
    pairs = [(setting.label, row) for setting in settings for row in setting.rows]
    keys = [key for key in REPLICATES if any(row.differs.get(key) for _, row in pairs)]
    single = all(len(setting.rows) == 1 for setting in settings)  # then the scores stand with the settings
    scores = [] if single else score_names([row for _, row in pairs])
    head = ["", *(key.removeprefix("data.") for key in keys), "status", *(spoken(name) for name in scores), "time"]
    body, folders = [], []
    for label, row in pairs:
        took = row.results.get("seconds")
        cells = [metric(name, row.scores[name]) if name in row.scores else "" for name in scores]
        seed = [row.differs.get(key, "") for key in keys]
        body.append([label, *seed, row.status, *cells, "" if took is None else seconds(took)])
        folders.append("" if row.folder is None else near(row.folder))
    right = [*range(1, len(keys) + 1), *range(len(keys) + 2, len(head))]
    whole = columns([*head, "run"], [[*row, folder] for row, folder in zip(body, folders, strict=True)], right)
    if room is None or max(map(width, whole)) <= room:
        return whole
    lines = columns(head, body, right)
    if max(map(width, lines)) <= room:
        return [
            lines[0],
            *(part for pair in zip(lines[1:], folders, strict=True) for part in (pair[0], f"   {pair[1]}")),
        ]
    lines = []
    for cells, folder in zip(body, folders, strict=True):
        words = [f"{name} {cell}" for name, cell in zip(head[1:], cells[1:], strict=True) if cell]
        parts = ["  ".join([cells[0], *words[: len(keys) + 1]]), *(f"   {word}" for word in words[len(keys) + 1 :])]
        lines += [*(line for part in parts for line in folded(part, room)), f"   {folder}"]
    return lines


def laid_out(
    head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int], room: int | None, may_turn: bool = True
) -> list[str]:
    """A table whose first column names the rows, within `room` columns.

    Turned where there are few rows; below each other, `name  key value`, where neither way fits.
    """
    straight = columns(head, rows, right=right)
    ways = [straight]
    if may_turn and len(rows) <= MOST_TURNED:
        turned = columns(["", *(row[0] for row in rows)], list(zip(head[1:], *(row[1:] for row in rows), strict=True)))
        ways = [turned, straight]
    for lines in ways:
        if room is None or max(map(width, lines)) <= room:
            return lines
    lines = []
    for row in rows:
        lines.append(row[0])
        cells = [f"{name}  {cell}".strip() for name, cell in zip(head[1:], row[1:], strict=True) if cell]
        lines += [part for cell in cells for part in folded(f"  {cell}", room)]
    return lines


# ---- differences


def differences_text(found: Sequence[Difference], smaller_is_better: bool, room: int | None) -> list[str]:
    """The differences to one reference in one metric, with intervals that hold together however many there are."""
    if not found:
        return []
    name, reference, together = found[0].name, found[0].reference, len([one for one in found if len(one.pairs) > 1])
    level, rows = each_level(together), [row for one in found for row in [*one.setting.rows, *reference.rows]]
    lines = folded(f"{spoken(name)} minus {reference.label}'s, paired by {_paired_by(rows)}", room)
    body = []
    for one in found:
        if not one.pairs:
            body.append([one.setting.label, "", "", "0", one.reason])
            continue
        mean = one.mean
        between = mean.interval(level)
        words = verdict(mean.value, between, smaller_is_better) + (
            f"; not all paired: {one.reason}" if one.reason else ""
        )
        body.append([one.setting.label, *_written(name, mean.value, between), str(mean.n), words])
    percent = f"{100 * LEVEL:g} %"
    lines += laid_out(["", "difference", f"{percent} interval", "n", ""], body, [1, 2, 3], room, may_turn=False)
    if together > 1:
        lines += folded(
            f"the {together} intervals hold together with {percent}, each with {100 * level:.4g} % (Bonferroni): of "
            f"many comparisons some look large by chance",
            room,
        )
    if together:
        lines += folded("intervals by Student's t; they are about other seeds, not about other test images", room)
    if together and "fold" in _paired_by(rows):  # Bengio and Grandvalet 2004: no unbiased estimate exists
        lines += folded("folds share most of their training images: these intervals are narrower than is true", room)
    return lines


def _paired_by(rows: Sequence[Row]) -> str:
    """`seed`, `fold`, or both: what differs, and `seed` if nothing does."""
    over = over_what(rows).replace("seeds", "seed").replace("folds", "fold")
    return over or "seed"


def each_level(comparisons: int) -> float:
    """The confidence of each interval, so that all of them together have LEVEL (Bonferroni)."""
    return 1 - (1 - LEVEL) / max(1, comparisons)


def verdict(mean: float, between: tuple[float, float] | None, smaller_is_better: bool) -> str:
    """What an interval says."""
    if between is None:
        return "one seed: no spread can be told"
    if between[0] == between[1] == 0:
        return "the same in every seed"
    if between[0] <= 0 <= between[1]:
        return "not told apart"
    return "better" if (mean < 0) == smaller_is_better else "worse"


def _written(name: str, mean: float, between: tuple[float, float] | None) -> tuple[str, str]:
    """A difference and its interval, with as many decimals: of shares in points, of others three digits in all."""
    numbers = [mean, *(between or ())]
    if is_share(name):
        numbers, decimals, unit = [100 * number for number in numbers], 2, " points"
    else:
        largest = max(map(abs, numbers))
        decimals, unit = min(9, max(0, 2 - math.floor(math.log10(largest)))) if largest > 0 else 0, ""
    words = [f"{number:+.{decimals}f}" for number in numbers]
    return f"{words[0]}{unit}", " to ".join(words[1:])


# ---- files


def settings_csv(settings: Sequence[Setting]) -> str:
    """A row a setting and metric: mean, sample standard deviation, and the interval of the mean (95 %)."""
    head = ["setting", *settings[0].values, "runs", "metric", "n", "mean", "standard deviation", "low", "high"]
    body: list[list[Cell]] = []
    for name in metric_names(settings):
        for setting in settings:
            values = [found for row in setting.done if (found := value(row, name)) is not None]
            numbers: list[float | None] = [None] * 4
            if values:
                mean = Mean.of(values)
                numbers = [mean.value, mean.deviation if mean.n > 1 else None, *(mean.interval(LEVEL) or (None, None))]
            start: list[Cell] = [
                setting.label,
                *setting.values.values(),
                len(setting.rows),
                name,
                len(values),
            ]
            body.append([*start, *numbers])
    return csv_text(head, body)


def differences_csv(settings: Sequence[Setting], reference: Setting, why: Why) -> str:
    """Every metric's paired differences to the reference; each interval alone, and as one of all for that metric."""
    head = ["setting", "reference", "metric", "n", "difference", "standard deviation", "low", "high"]
    head += ["comparisons", "low of all together", "high of all together", "not paired"]
    body: list[list[Cell]] = []
    for name in metric_names(settings):
        found = [difference(one, reference, name, why) for one in settings if one is not reference]
        together = len([one for one in found if len(one.pairs) > 1])
        for one in found:
            start: list[Cell] = [one.setting.label, reference.label, name, len(one.pairs)]
            if not one.pairs:
                body.append([*start, *[None] * 7, one.reason])
                continue
            mean = one.mean
            numbers: list[float | None] = [mean.value, mean.deviation if mean.n > 1 else None]
            numbers += mean.interval(LEVEL) or (None, None)
            last = mean.interval(each_level(together)) or (None, None)
            body.append([*start, *numbers, together, *last, one.reason])
    return csv_text(head, body)


def metric_names(settings: Sequence[Setting]) -> list[str]:
    """Every metric of the completed runs, scores first."""
    rows = [row for setting in settings for row in setting.done]
    return list(dict.fromkeys([*score_names(rows), *(name for row in rows for name in row.results.get("metrics", {}))]))


def smaller_is_better(rows: Sequence[Row], name: str) -> bool:
    """Whether the runs monitored this metric with a minus before it."""
    monitored = [str(row.results["best"]["metric"]) for row in rows if row.results.get("best")]
    return any(one.startswith("-") and one.rpartition("/")[2] == name.rpartition("/")[2] for one in monitored)


def curves_of(rows: Sequence[Mapping[str, float]], name: str) -> tuple[list[float], list[float]]:
    """(epochs, values) of a metric in the rows of a `metrics.csv`, what is no number left out."""
    pairs = [(row["epoch"], row[name]) for row in rows if {"epoch", name} <= row.keys()]
    kept = [(epoch, number) for epoch, number in pairs if abs(epoch) < 1e9 and abs(number) < 1e100]  # NaN is not
    return [epoch for epoch, _ in kept], [number for _, number in kept]
