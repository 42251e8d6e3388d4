"""`task.judge`: a word, or the run of a classifier. Needs no torch."""

from pathlib import Path

from dltrain.config.adversarial import Adversarial
from dltrain.config.messages import Mistake, command
from dltrain.config.nearest import is_near, nearest
from dltrain.config.spec import Target
from dltrain.text import safe_text

WORDS = ("auto", "digits", "inception", "none")
ALLOWED = f"{', '.join(WORDS)}, or the run of a classifier"


def check_judge(task: Adversarial, *, settled: bool) -> None:
    """Put the folder that is meant in place of what names a run. Raises Mistake if there is no such judge.

    `settled`: a run has it already, and goes on or is done again, so that there is no other to be had.
    """
    if task.judge in WORDS:
        return
    from dltrain import run  # it reads configs itself

    word = nearest(task.judge, WORDS)
    if is_near(task.judge, word) and not Path(task.judge).expanduser().exists():
        raise Mistake(
            f"task.judge={safe_text(task.judge)} is no judge",
            allowed=ALLOWED,
            nearest=word,
            type_this=f"task.judge={word}",
        )
    try:
        record = run.Run(run.find(task.judge, "task.judge"))
    except Mistake as mistake:
        if settled:
            mistake.allowed = f"the judge that the run was measured by, put back at {safe_text(task.judge)}"
            mistake.nearest = mistake.type_this = ""
        elif not mistake.type_this:
            mistake.allowed, mistake.type_this = ALLOWED, "task.judge=auto"
        raise
    config, spec = record.read_config(), record.spec()
    classes = () if spec is None or spec.target is not Target.classes else spec.class_names
    if config.task.name != "classification" or (spec is not None and len(classes) < 2):
        raise Mistake(
            f"task.judge={safe_text(task.judge)} is a run of task={config.task.name}, and a judge tells classes",
            allowed=ALLOWED,
            type_this="task.judge=auto",
        )
    if not record.has_checkpoint:
        raise Mistake(
            f"task.judge={safe_text(task.judge)} has no checkpoint yet",
            allowed=ALLOWED,
            type_this=command([f"resume={record.path}"]),
        )
    task.judge = str(record.path.absolute())  # `last` is looked up once, and a run that goes on may do so elsewhere
