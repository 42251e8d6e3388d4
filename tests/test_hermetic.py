"""The guard of the tests sees what it must: the network, and writes outside temporary folders."""

import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests import hermetic

OUTSIDE = Path(hermetic.ROOT) / "dltrain" / "made-by-a-test"


def reach() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as there:
        there.settimeout(0.1)
        there.connect(("192.0.2.1", 80))  # TEST-NET-1: nobody


@pytest.mark.parametrize(
    "forbidden",
    [
        reach,
        lambda: socket.getaddrinfo("dltrain.invalid", 80),
        lambda: OUTSIDE.write_text(""),
        lambda: OUTSIDE.mkdir(),
        lambda: Path(tempfile.mkdtemp()).rename(OUTSIDE),
    ],
    ids=["connect", "look up", "write", "make a folder", "rename"],
)
def test_what_a_test_must_not_do_is_refused(forbidden: Callable[[], object]) -> None:
    with pytest.raises(PermissionError, match="a test "):
        forbidden()
    assert len(hermetic.violations) == 1
    hermetic.violations.clear()
    assert not OUTSIDE.exists()


def test_what_a_test_may_do_passes(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "file").rename(tmp_path / "other")
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
    assert not Path.home().joinpath(".cache").exists()
    assert str(Path.home()).startswith(hermetic.MAY_WRITE)


def test_torch_has_one_thread_and_no_wishes_of_the_test_before() -> None:
    assert torch.get_num_threads() == 1
    assert not torch.are_deterministic_algorithms_enabled()
    assert "tests.hermetic" in sys.modules
