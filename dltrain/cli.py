"""The command `dltrain`: check the words, compose, run, and tell mistakes in one shape. Imports no torch itself."""

import os
import sys

from dltrain import __version__, signals
from dltrain.config import trust
from dltrain.config.messages import Mistake, ready_to_paste
from dltrain.report.terminal import Screen

_HELP = {"-h", "--help"}
_SWEEP = {"-m", "--multirun"}
_CFG = {"-c", "--cfg"}


def entry() -> None:
    """The console script."""
    code = main()
    try:
        sys.stdout.flush()
    except (OSError, ValueError):  # nobody reads any more: `dltrain --help | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def main(argv: list[str] | None = None) -> int:
    """Run one command line. Returns the exit code: 0 done, 1 failed, 2 a mistake, 130 or 75 asked to stop."""
    words = list(sys.argv[1:] if argv is None else argv)
    screen = Screen()
    with signals.install():
        try:
            return _dispatch(words, screen)
        except Mistake as mistake:
            mistake.type_this = ready_to_paste(mistake.type_this, words)
            screen.error(str(mistake))
            return 2
        except KeyboardInterrupt:
            screen.error("stopped")
            return 130 if signals.requested() in (None, "SIGINT") else 75
        finally:
            screen.detach()


def _dispatch(words: list[str], screen: Screen) -> int:
    if words[:1] == ["--complete"]:  # what the script of --completion calls
        from dltrain.config.complete import complete

        for offer in complete(words[1:]):
            screen.line(offer)
        return 0
    trust.apply(words)
    flags = {word for word in words if word.startswith("-")}
    if flags & _HELP:
        return _help(words, screen)
    if "--version" in flags:
        screen.line(f"dltrain {__version__}")
        return 0
    from dltrain.config.precheck import precheck

    checked = precheck(words)
    if "--completion" in flags:
        from dltrain.config.complete import script

        screen.line(script(words[words.index("--completion") + 1]))
        return 0
    if flags & _CFG:
        return _print_config(checked, screen)
    screen.typed = [word for word in words if word not in _SWEEP]
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it once, and is exact with it
    screen.line(f"dltrain {__version__}  loading …")
    if flags & _SWEEP:
        from dltrain.sweep import sweep

        return sweep(words, screen)
    return _run(checked, screen)


def _run(words: list[str], screen: Screen) -> int:
    from dltrain.job import prepare, start
    from dltrain.report.recipe import recipe

    job = prepare(words, screen)
    screen.notes = recipe(dict(job.composed.hydra.runtime.choices), words)
    return start(job, screen)


def _help(words: list[str], screen: Screen) -> int:
    from dltrain.config.help import show

    place = next(i for i, word in enumerate(words) if word in _HELP)
    following = words[place + 1] if place + 1 < len(words) else ""
    is_topic = following and not following.startswith(("-", "trust="))
    screen.line(show(following if is_topic else None))
    return 0


def _print_config(words: list[str], screen: Screen) -> int:
    """`--cfg job|hydra|all [--resolve]`: the config that a command line gives, as YAML."""
    from omegaconf import OmegaConf

    from dltrain.config.check import check
    from dltrain.config.compose import compose

    place = next(i for i, word in enumerate(words) if word in _CFG)
    part = words[place + 1]
    rest = [word for word in words[:place] + words[place + 2 :] if not word.startswith("-")]
    cfg, composed = compose(rest)
    check(cfg)
    keys = [str(key) for key in composed if part == "all" or (key == "hydra") == (part == "hydra")]
    whole = OmegaConf.masked_copy(composed, keys)
    screen.line(OmegaConf.to_yaml(whole, resolve="--resolve" in words and part == "job").rstrip())
    return 0
