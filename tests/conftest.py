"""Every test: one thread, a home and caches of its own, no network, no writes outside, torch afterwards as before."""

import signal
import sys
from collections.abc import Iterator
from typing import Any

import hypothesis
import hypothesis.configuration
import pytest

from tests import hermetic

hypothesis.settings.register_profile("dltrain", database=None, derandomize=True)
hypothesis.settings.load_profile("dltrain")


@pytest.fixture(scope="session", autouse=True)
def _no_signal_ignored() -> None:
    """Under `nohup` and in the background of a script some signals are ignored, here and in all that tests start.

    One that is caught and passed over stops these tests no more than before, and what they start has its own action.
    """
    for name in ("SIGHUP", "SIGINT"):
        number = getattr(signal, name)
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@pytest.fixture(scope="session", autouse=True)
def _a_home_of_its_own(_no_signal_ignored: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the user has set or stored neither helps nor hurts a test."""
    place = tmp_path_factory.mktemp("home")
    hypothesis.configuration.set_hypothesis_home_dir(place / "hypothesis")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(place))
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(place / "inductor"))
        patch.setenv("PYTHONPATH", hermetic.ROOT)  # for the processes that tests start
        for name in ("DLTRAIN_DATA", "DLTRAIN_TRUST", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
            patch.delenv(name, raising=False)
        hermetic.watch()
        yield
        hermetic.watching = False


@pytest.fixture(autouse=True)
def _nothing_forbidden() -> Iterator[None]:
    hermetic.violations.clear()
    yield
    assert hermetic.violations == []


@pytest.fixture(autouse=True)
def _torch_as_before() -> Iterator[None]:
    """What a run sets in torch ends with its test; torch is not imported for this."""
    _reset_torch()
    yield
    _reset_torch()


def _reset_torch() -> None:
    torch: Any = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "use_deterministic_algorithms"):  # half imported, when a test was stopped
        return
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.backends.cudnn.deterministic = torch.backends.cudnn.benchmark = False
    torch.set_default_dtype(torch.float32)
