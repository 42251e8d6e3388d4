"""Lists that a shell has cut into several words: `[300, 100]`, and runs that a pattern stands for."""

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

from dltrain.config.line import Line, Slip, Word
from dltrain.config.quote import element, split


def list_in_pieces(line: Line, i: int) -> Slip | None:
    """What to say of the argument at `i`, which is no `key=value`, if it belongs to a list; else None."""
    before = line.words[-1] if line.words and line.words[-1].index == i - 1 else None
    if before and before.value.startswith("[") and "]" not in before.value:
        return _joined(line, before)
    named = before if before and before.key == "runs" else None
    compares = line.argv[i] == "compare" or "mode=compare" in line.argv
    bare = line.argv[i + (line.argv[i] == "compare") :]
    bare = list(itertools.takewhile(os.path.exists, bare))
    if bare and (named or compares):
        return several_runs(line, [named] if named else [], bare)  # files beside the runs are taken by a pattern too
    return None


def _joined(line: Line, start: Word) -> Slip:
    end = next((j for j in range(start.index, len(line.argv)) if "]" in line.argv[j]), len(line.argv) - 1)
    cut = line.argv[start.index : end + 1]
    new = "".join(cut)
    return Slip(
        f"{' '.join(cut)}: no space may stand in a list, unless the whole word is in quotes",
        allowed="key=[a,b]",
        fixed=[*line.argv[: start.index], new, *line.argv[end + 1 :]],
        alone=[new],
    )


def several_runs(line: Line, words: Sequence[Word], bare: Sequence[str] = ()) -> Slip:
    """`runs=a runs=b`, and words without `=` behind `runs=a` or `compare`: what a shell makes of a pattern."""
    inner = [part for word in words for part in split(word.value.removeprefix("[").removesuffix("]"), brackets=False)]
    folders = [text for text in bare if os.path.isdir(text)]  # noqa: PTH112 - Path.is_dir raises for names too long
    texts = [part.strip() for part in inner] + [element(text) for text in folders]
    new = f"runs=[{','.join(text for text in texts if text)}]"
    kept = [arg for arg in line.argv if arg not in (*bare, "compare") and not arg.startswith(("runs=", "mode="))]
    return Slip(
        f"{' '.join([*(word.text for word in words), *bare])}: runs are one list",
        allowed="runs=[a,b]; a folder that holds runs; a pattern in quotes",
        fixed=["mode=compare", new, *kept],
        alone=["mode=compare", new],
    )


def runs_word(paths: Sequence[Path]) -> str:
    """`runs=[a,b]` for these folders, `runs=a` for one."""
    texts = [str(path) for path in paths]
    quoted = [element(text) for text in texts]
    return f"runs=[{','.join(quoted)}]" if len(texts) > 1 or quoted != texts else f"runs={texts[0]}"
