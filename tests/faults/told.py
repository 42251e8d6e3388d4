"""What TensorBoard's own reader finds in a run's event files, and ways to write them wrongly."""

import hashlib
import itertools
import time
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

KINDS = ("scalars", "images", "histograms", "tensors")
Told = dict[str, list[tuple[int, Any]]]


def told(run: Path) -> Told:
    """(step, value) of each "split tag", in the order of the files; without what differs between equal runs."""
    found: Told = {}
    for split in ("train", "val", "test", "best"):
        folder = run / "tensorboard" / ("" if split == "train" else split)
        if not folder.exists():
            continue
        reader = EventAccumulator(str(folder), size_guidance=dict.fromkeys([*KINDS, "compressedHistograms"], 0))
        reader.Reload()
        tags: Any = reader.Tags()
        for kind in KINDS:
            for tag in tags[kind]:
                if not tag.startswith(("time/", "environment")):  # speeds, and how much memory was free
                    events = getattr(reader, kind.capitalize())(tag)
                    found[f"{split} {tag}"] = [(event.step, _value(kind, event)) for event in events]
    return found


def out_of_order(found: Told) -> list[str]:
    """The series whose steps do not rise from one event to the next."""
    return [name for name, events in found.items() if any(b[0] <= a[0] for a, b in itertools.pairwise(events))]


def _value(kind: str, event: Any) -> Any:
    if kind == "images":
        return hashlib.sha256(event.encoded_image_string).hexdigest()
    if kind == "histograms":
        histogram = event.histogram_value
        return (histogram.num, histogram.sum, tuple(histogram.bucket), tuple(histogram.bucket_limit))
    if kind == "tensors":
        return event.tensor_proto.string_val[0]
    return event.value


def clock_back() -> None:
    """Set the clock of this process back by two hours."""
    real = time.time
    time.time = lambda: real() - 7200


def keep_all() -> None:
    """The negative control: a run goes on without cutting its event files."""
    from dltrain.report import events

    events.cut = events.remove = lambda *args: None  # type: ignore[assignment]


def forget_window() -> None:
    """The negative control: a resumed run begins the next point of the curves at its checkpoint."""
    from dltrain.engine.state import State

    load = State.load_state_dict

    def forgetful(self: State, saved: dict[str, Any], device: Any) -> None:
        load(self, saved | {"window": {}}, device)

    State.load_state_dict = forgetful  # type: ignore[method-assign]
