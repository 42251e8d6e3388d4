"""A sweep's tables: one row a job, then means over seeds; and the rows of `sweep.csv`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dltrain.report.table import columns, csv_text, mean_and_spread, metric, seconds, spoken
from dltrain.report.terminal import safe, width

REPLICATES = ("seed", "data.fold")  # runs that differ in these alone are repetitions of one setting


@dataclass
class Row:
    """One job as people see it. `differs` are the keys that are not the same in every job, with its values."""

    number: int
    differs: dict[str, str]
    command: str
    folder: Path | None = None
    status: str = "waiting"  # then running, completed, failed, interrupted
    results: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> str:
        return " ".join(f"{key}={value}" for key, value in self.differs.items())

    @property
    def scores(self) -> dict[str, float]:
        """The best validation and the test of what was monitored; empty until there is one."""
        best = self.results.get("best")
        if best is None or best["metric"] == "step":  # the last one was kept: nothing says how good it is
            return {}
        name = str(best["metric"]).lstrip("-")
        found = {name: float(best["value"])}
        tested = f"test/{name.partition('/')[2]}"
        metrics = self.results.get("metrics", {})
        return found | ({tested: float(metrics[tested])} if tested in metrics else {})


def result(row: Row) -> str:
    """`val accuracy 98.2 %  test accuracy 97.9 %  9 s`, as far as it is known."""
    words = [f"{spoken(name)} {metric(name, value)}" for name, value in row.scores.items()]
    took = row.results.get("seconds")
    return "  ".join(words + ([seconds(took)] if took is not None else []))


def jobs_table(rows: Sequence[Row], room: int | None = None) -> list[str]:
    """One line a job: its settings that differ, its status, its scores, its time.

    Where the table is wider than `room`, two lines a job.
    """
    keys, scores = list(rows[0].differs), score_names(rows)
    head = ["job", *keys, "status", *(spoken(name) for name in scores), "time"]
    body = []
    for row in rows:
        took = row.results.get("seconds")
        body.append(
            [
                str(row.number),
                *(row.differs[key] for key in keys),
                row.status,
                *(metric(name, row.scores[name]) if name in row.scores else "" for name in scores),
                seconds(took) if took is not None else "",
            ]
        )
    lines = columns(head, body, right=[0, *range(len(keys) + 2, len(head))])
    if room is None or max(map(width, lines)) <= room:
        return lines
    stacked = [(f"{row.number}  {row.settings}", f"   {row.status}  {result(row)}".rstrip()) for row in rows]
    return [safe(line) for pair in stacked for line in pair]


@dataclass
class Setting:
    """Runs that differ in seed and fold alone."""

    label: str
    values: dict[str, str]  # of the other keys that differ
    rows: list[Row]

    @property
    def done(self) -> list[Row]:
        return [row for row in self.rows if row.status == "completed"]

    @property
    def counted(self) -> str:
        """`3`, or `2 of 3` where not all have completed."""
        done, all_ = len(self.done), len(self.rows)
        return str(all_) if done == all_ else f"{done} of {all_}"

    def mean(self, name: str) -> str:
        """Mean ± sample standard deviation of a score over the runs that completed; empty if none has it."""
        values = [row.scores[name] for row in self.done if name in row.scores]
        return mean_and_spread(name, values) if values else ""


def settings_of(rows: Sequence[Row]) -> list[Setting]:
    """The settings that the rows hold, in the order of their first runs, labelled A, B, …, Z, AA, …"""
    groups: dict[tuple[str, ...], list[Row]] = {}
    keys = [key for key in rows[0].differs if key not in REPLICATES] if rows else []
    for row in rows:
        groups.setdefault(tuple(row.differs[key] for key in keys), []).append(row)
    return [
        Setting(_letters(index), dict(zip(keys, values, strict=True)), members)
        for index, (values, members) in enumerate(groups.items())
    ]


def _letters(index: int) -> str:
    return (_letters(index // 26 - 1) if index >= 26 else "") + chr(ord("A") + index % 26)


def over_what(rows: Sequence[Row]) -> str:
    """What the runs of one setting differ in: `seeds`, `folds`, or both."""
    words = {"seed": "seeds", "data.fold": "folds"}
    return " and ".join(words[key] for key in REPLICATES if len({row.differs.get(key, "") for row in rows}) > 1)


def seeds_table(rows: Sequence[Row]) -> list[str]:
    """Mean ± sample standard deviation of jobs that differ in seed and fold alone; empty if no two completed."""
    settings = settings_of(rows)
    if not over_what(rows) or max(len(setting.done) for setting in settings) < 2:
        return []
    keys, scores = list(settings[0].values), score_names(rows)
    over = over_what(rows)
    body = [
        [*setting.values.values(), setting.counted, *(setting.mean(name) for name in scores)] for setting in settings
    ]
    head = [*keys, over, *(spoken(name) for name in scores)]
    return [
        f"mean ± standard deviation over the {over}",
        *columns(head, body, right=list(range(len(keys), len(head)))),
    ]


def sweep_csv(rows: Sequence[Row]) -> str:
    """`sweep.csv`: every job with its settings, status, whole results and the command that trains it alone."""
    return _csv("job", [str(row.number) for row in rows], rows, {"command": [row.command for row in rows]})


def runs_csv(settings: Sequence[Setting]) -> str:
    """As `sweep_csv`, of runs that were looked at together, each with the label of its setting."""
    pairs = [(setting.label, row) for setting in settings for row in setting.rows]
    return _csv("setting", [label for label, _ in pairs], [row for _, row in pairs], {})


def _csv(first: str, names: Sequence[str], rows: Sequence[Row], last: dict[str, list[str]]) -> str:
    keys = list(rows[0].differs)
    metrics = list(dict.fromkeys(name for row in rows for name in row.results.get("metrics", {})))
    plain = ("weights_sha256", "steps", "epochs", "seconds", "images_per_second")
    best = ("metric", "value", "epoch", "step")
    head = [first, *keys, "status", *metrics, *(f"best/{name}" for name in best), *plain, "folder", *last]
    body = []
    for index, row in enumerate(rows):
        kept = row.results.get("best") or {}
        body.append(
            [
                names[index],
                *(row.differs[key] for key in keys),
                row.status,
                *(row.results.get("metrics", {}).get(name) for name in metrics),
                *(kept.get(name) for name in best),
                *(row.results.get(name) for name in plain),
                "" if row.folder is None else str(row.folder),
                *(column[index] for column in last.values()),
            ]
        )
    return csv_text(head, body)


def score_names(rows: Sequence[Row]) -> list[str]:
    """The names of all scores, each once."""
    return list(dict.fromkeys(name for row in rows for name in row.scores))
