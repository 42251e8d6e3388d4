"""What mode=data tells of a data set, as lines for the screen and as suggestions."""

from collections.abc import Sequence

from dltrain.config.messages import command
from dltrain.config.spec import DataSpec
from dltrain.data.files import not_read
from dltrain.data.imageset import LeftOut
from dltrain.data.layout import beside_notes
from dltrain.data.problems import FREQUENT, NEAR_EMPTY, Common, Equal, Facts, Member
from dltrain.report.table import count, labelled, percent
from dltrain.report.terminal import cut, encodable, safe, width
from dltrain.text import safe_text

LABEL = 13  # columns of the labels
BAR = 32  # columns of a bar at most
ALL = 20  # classes that are all listed
ENDS = 8  # of more, so many of the largest and of the smallest are
NAMED = 5  # files of a kind that are named; data.json has them all
BLOCKS, PLAIN_BLOCKS = " ▁▂▃▄▅▆▇█", " .:-=+*#%@"
UNEVEN = 3.0  # largest class to smallest, from which something may be done about it


def lines(
    facts: Facts, spec: DataSpec, left_out: Sequence[LeftOut], seen_by: str, columns: int, encoding: str | None
) -> list[str]:
    """All of it, for a screen so many columns wide. `seen_by` says whose size the images have."""
    rows = [("seen as", f"{'x'.join(map(str, spec.shape))} {seen_by}")]
    found = head(facts, spec, left_out, rows, columns)
    if facts.classes:
        found += ["", *_balance(facts, columns)]
    if facts.outputs:
        found += ["", *_outputs(facts, columns, encoding)]
    return [*found, "", *_problems(facts, left_out, columns)]


def head(
    facts: Common, spec: DataSpec, left_out: Sequence[LeftOut], more: Sequence[tuple[str, str]], columns: int
) -> list[str]:
    """What every set begins with: its name, counts, sizes, `more` (label, text), and its notes."""
    total = sum(facts.counts.values())
    rows = [
        ("data", f"{safe(spec.name)}{f'  {spec.where}' if spec.where else ''}"),
        ("images", f"{total:,}: " + ", ".join(f"{number:,} {split}" for split, number in facts.counts.items())),
        ("sizes", _sizes(facts)),
        *more,
        *(("", note) for note in spec.notes if note not in _told_below(left_out)),
    ]
    return [text for label, rest in rows for text in labelled(label, safe(rest), columns, LABEL)]


def _told_below(left_out: Sequence[LeftOut]) -> tuple[str, ...]:
    """Notes on what the problems name."""
    files = {kind: [one.file for one in left_out if one.kind == kind] for kind in ("unreadable", "link", "other")}
    return (*not_read(files["unreadable"]), *beside_notes(files["link"], files["other"]))


def suggestions(facts: Facts, typed: Sequence[str], task: str, instead: Sequence[str]) -> list[str]:
    """Commands worth typing next, each of which runs.

    `instead`: words that choose a network which can learn from the set, in place of what was typed.
    """
    replaced = {"mode", "output", *(word.partition("=")[0] for word in instead)}
    of_another = "model." if instead else "mode="
    words = [word for word in typed if word.partition("=")[0] not in replaced and not word.startswith(of_another)]
    words += instead
    keys = {word.partition("=")[0] for word in words}
    found = [["trainer.dry_run=true"], []]
    if facts.imbalance > UNEVEN:
        found += [["data.sampling=balanced"], *([["task.balanced=true"]] if task == "classification" else [])]
    return [command([*words, *more]) for more in found if not more or more[0].partition("=")[0] not in keys]


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _sizes(facts: Common) -> str:
    if len(facts.sizes) == 1:
        return f"all {_size(facts.smallest)}"
    often = [f"{_size(size)} ({number:,})" for size, number in facts.sizes[:FREQUENT] if number > 1]
    others = len(facts.sizes) - len(often)
    span = f"{_size(facts.smallest)} to {_size(facts.largest)} (height x width)"
    if not often:
        return f"{span}, no two alike"
    return f"{span}, most often {', '.join(often)}" + (f" and {others:,} others" if others else "")


# ---- what is learned


def _balance(facts: Facts, columns: int) -> list[str]:
    """A bar a class, as long as its share of the largest."""
    classes = sorted(facts.classes, key=lambda one: -one.train)
    few = len(classes) <= ALL
    shown = facts.classes if few else [*classes[:ENDS], None, *classes[-ENDS:]]
    train = facts.counts["train"]
    fewest, most = classes[-1].train, classes[0].train
    span = f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"
    head = f"{count(len(classes), 'class')} in {count(train, 'training image')}, {span} each"
    longest = max(width(safe(one.name)) for one in shown if one is not None)
    name_room = min(longest, max(8, columns // 3))
    number_room = len(f"{classes[0].train:,}")
    bar_room = max(4, min(BAR, columns - name_room - number_room - 15))
    found = labelled("classes", head, columns, LABEL)
    for one in shown:
        if one is None:
            found.append(f"  … {len(classes) - 2 * ENDS:,} classes between")
            continue
        name = cut(safe(one.name), name_room)
        length = max(1 if one.train else 0, round(one.train / max(1, classes[0].train) * bar_room))
        gap = " " * (name_room - width(name))
        share = percent(one.train / max(1, train))
        bar = "━" * length + " " * (bar_room - length)
        found.append(f"  {name}{gap}  {bar}  {one.train:>{number_room},}  {share:>7}".rstrip())
    return found


def _outputs(facts: Facts, columns: int, encoding: str | None) -> list[str]:
    """The range of each real output, and how its values lie in it."""
    blocks = BLOCKS if encodable("▁█", encoding) == "▁█" else PLAIN_BLOCKS
    head = f"{count(len(facts.outputs), 'output')} over {count(facts.counts['train'], 'training image')}"
    found = labelled("values", head, columns, LABEL)
    for one in facts.outputs[:ALL]:
        highest = max(one.histogram)
        drawn = "".join(
            blocks[0 if not number else max(1, round(number / highest * (len(blocks) - 1)))] for number in one.histogram
        )
        unit = f" ({safe(one.unit)})" if one.unit else ""
        found.append(f"  {cut(safe(one.name), columns - 2 - width(unit))}{unit}")
        found.append(f"    {one.smallest:.4g} |{drawn}| {one.largest:.4g}")
        found.append(f"    mean {one.mean:.4g}  std {one.std:.4g}")
    if len(facts.outputs) > ALL:
        found.append(f"  and {len(facts.outputs) - ALL:,} more")
    return found


# ---- what may be wrong


def _problems(facts: Facts, left_out: Sequence[LeftOut], columns: int) -> list[str]:
    near_empty = [f"{safe(one.name)} ({one.train})" for one in facts.near_empty]
    absent = [f"{safe(name)} in {split}" for name, split in facts.absent]
    constant = [safe(one.name) for one in facts.outputs if one.std == 0]
    return problems(
        [
            *unused(left_out),
            (f"fewer than {NEAR_EMPTY} training images of {count(len(near_empty), 'class')}", near_empty),
            (f"no images of {count(len(absent), 'class')}", absent),
            (f"{count(len(constant), 'output')} with one and the same value in all training images", constant),
            *alike(facts, "values" if facts.outputs else "classes", tells=bool(facts.classes or facts.outputs)),
        ],
        columns,
    )


Problem = tuple[str, Sequence[str]]  # what is wrong, and the names of what it is; without any it is not said


def problems(found: Sequence[Problem], columns: int) -> list[str]:
    """Lines that say all of them, each with its first names below it."""
    said: list[str] = []
    for what, names in found:
        if names:
            said += labelled("problems" if not said else "", safe(what), columns, LABEL)
            for name in names[:NAMED] if list(names) != [what] else []:
                said += [f"  {text}" for text in labelled("", safe(name), columns - 2, LABEL)]
            if len(names) > NAMED:
                said += [f"  {text}" for text in labelled("", f"and {len(names) - NAMED:,} more", columns - 2, LABEL)]
    return said or labelled("problems", "none found", columns, LABEL)


def unused(left_out: Sequence[LeftOut]) -> list[Problem]:
    """What lies beside the images that are used."""
    unreadable = [f"{safe_text(one.file)} {one.reason}" for one in left_out if one.kind == "unreadable"]
    links = [safe_text(one.file) for one in left_out if one.kind == "link"]
    others = [safe_text(one.file) for one in left_out if one.kind == "other"]
    return [
        (f"{_files(unreadable)} cannot be read, and {_are(unreadable)} left out", unreadable),
        (f"{_files(links, 'link')} {_are(links)} left out: only files themselves are read", links),
        (f"{_files(others)} {_are(others)} by name no image", others),
    ]


def alike(facts: Common, targets: str, *, tells: bool) -> list[Problem]:
    """Equal images, those with different targets first. `tells` whether the targets can be said."""
    kinds = [one for one in facts.equal if one.differ_in_target]
    across = [one for one in facts.equal if one.across_splits and not one.differ_in_target]
    within = [one for one in facts.equal if not one.across_splits and not one.differ_in_target]
    return [
        (f"{_sets(kinds)} with different {targets}", _equal(kinds, tells)),
        (f"{_sets(across)} in two splits or more", _equal(across, tells)),
        (f"{_sets(within)} in one split", _equal(within, tells)),
        (facts.changed, [facts.changed] if facts.changed else []),
    ]


def _files(names: Sequence[str], what: str = "file") -> str:
    return count(len(names), what)


def _are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _sets(found: Sequence[Equal]) -> str:
    return f"{count(len(found), 'set')} of equal images"


def _equal(found: Sequence[Equal], tells: bool) -> list[str]:
    """`train/a.png (cat) = test/b.png (dog)`"""

    def said(member: Member) -> str:
        target = f" ({safe_text(member.target, 40)})" if tells else ""
        return f"{member.split}: {safe_text(member.name)}{target}"

    return [" = ".join(said(member) for member in one.members[:NAMED]) for one in found]
