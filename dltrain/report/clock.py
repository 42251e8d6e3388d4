"""Time spent in training steps."""

import time
from dataclasses import dataclass


@dataclass
class Clock:
    """Seconds of training steps, without evaluation and saving, and the images they took."""

    seconds: float = 0.0
    images: int = 0
    since: float = 0.0

    def start(self) -> None:
        self.since = time.monotonic()

    def stop(self) -> None:
        self.seconds += time.monotonic() - self.since

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds if self.seconds > 0 else 0.0
