"""A sweep's tables: one row a job, then means over seeds; and the rows of `sweep.csv`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dltrain.report.table import columns, csv_text, mean_and_spread, metric, seconds, spoken
from dltrain.report.terminal import safe, width


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
        if best is None:
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
    keys, scores = list(rows[0].differs), _score_names(rows)
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


def seeds_table(rows: Sequence[Row]) -> list[str]:
    """Mean ± sample standard deviation of jobs that differ in their seed alone; empty if no two completed."""
    if not rows or "seed" not in rows[0].differs:
        return []
    keys, scores = [key for key in rows[0].differs if key != "seed"], _score_names(rows)
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.differs[key] for key in keys), []).append(row)
    body, largest = [], 0
    for values, members in groups.items():
        done = [row.scores for row in members if row.status == "completed"]
        largest = max(largest, len(done))
        counted = str(len(done)) if len(done) == len(members) else f"{len(done)} of {len(members)}"
        cells = [[one[name] for one in done if name in one] for name in scores]
        body.append(
            [
                *values,
                counted,
                *(mean_and_spread(name, cell) if cell else "" for name, cell in zip(scores, cells, strict=True)),
            ]
        )
    if largest < 2:
        return []
    head = [*keys, "seeds", *(spoken(name) for name in scores)]
    right = range(len(keys), len(head))
    return ["mean ± standard deviation over the seeds", *columns(head, body, right=list(right))]


def sweep_csv(rows: Sequence[Row]) -> str:
    """`sweep.csv`: every job with its settings, status, whole results and the command that trains it alone."""
    keys = list(rows[0].differs)
    metrics = list(dict.fromkeys(name for row in rows for name in row.results.get("metrics", {})))
    plain = ("weights_sha256", "steps", "epochs", "seconds", "images_per_second")
    best = ("metric", "value", "epoch", "step")
    head = ["job", *keys, "status", *metrics, *(f"best/{name}" for name in best), *plain, "folder", "command"]
    body = []
    for row in rows:
        kept = row.results.get("best") or {}
        body.append(
            [
                str(row.number),
                *(row.differs[key] for key in keys),
                row.status,
                *(_cell(row.results.get("metrics", {}).get(name)) for name in metrics),
                *(_cell(kept.get(name)) for name in best),
                *(_cell(row.results.get(name)) for name in plain),
                "" if row.folder is None else str(row.folder),
                row.command,
            ]
        )
    return csv_text(head, body)


def _score_names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.scores))


def _cell(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else repr(value)
