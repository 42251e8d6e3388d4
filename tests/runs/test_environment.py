"""What is `auto` is settled once, with its reason, and taken from the record afterwards."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dltrain import environment, versions
from dltrain.config import data, groups, mode, model
from dltrain.config.messages import Mistake
from dltrain.config.spec import DataSpec, Target

SPEC = DataSpec("digits", (1, 32, 32), Target.classes, tuple("0123456789"), {"train": 3500}, (0.1,), (0.3,))


def config(**changes) -> mode.Train:
    groups_of = {
        "model": model.LeNet5(),
        "data": data.Digits(),
        "task": groups.Classification(),
        "precision": groups.Precision(),
        "trainer": groups.Trainer(),
    }
    return mode.Train(**(groups_of | changes))


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch):
    """A machine with four cores and no wishes; torch afterwards as before."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(environment, "usable_cores", lambda: (4, "cores this process may use"))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def a_gpu(monkeypatch, count=1):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr(environment, "free_bytes", lambda device: 10**10)
    monkeypatch.setattr(environment, "versions", lambda device: {"gpu": "H100"})


def test_every_choice_has_a_reason(monkeypatch):
    no_gpu(monkeypatch)
    env = environment.resolve(config(), SPEC, None)
    assert (env.device, env.precision, env.threads) == (torch.device("cpu"), "fp32", 4)
    assert (env.loader, env.workers, env.memory_format) == ("resident", 0, torch.channels_last)
    assert set(env.reasons) == {"device", "precision", "threads", "memory_format", "loader", "workers"}
    assert all(env.reasons.values())
    assert environment.resolve(config(model=model.MLP()), SPEC, None).memory_format is torch.contiguous_format


def test_gpu_is_taken_with_bf16_where_there_is_one(monkeypatch):
    a_gpu(monkeypatch)
    env = environment.resolve(config(), SPEC, None)
    assert (env.device, env.precision) == (torch.device("cuda", 0), "bf16")


def test_a_gpu_without_a_number_is_the_first(monkeypatch):
    """torch makes none the current device that has no number."""
    a_gpu(monkeypatch)
    for cfg, recorded in ((config(device="cuda"), None), (config(), {"device": "cuda"})):
        assert environment.resolve(cfg, SPEC, recorded).device == torch.device("cuda", 0)


def test_workers_leave_a_core_to_training():
    streaming = data.Digits(loader=data.LoaderKind.streaming)
    env = environment.resolve(config(data=streaming), SPEC, None)
    assert (env.loader, env.workers, env.threads) == ("streaming", 3, 1)
    env = environment.resolve(config(data=replace(streaming, workers=1)), SPEC, None)
    assert (env.workers, env.threads) == (1, 3)


def test_what_is_typed_is_kept():
    trainer = groups.Trainer(threads="3", memory_format=groups.MemoryFormat.contiguous)
    typed = config(
        trainer=trainer, device="cpu", precision=groups.Fp16(), data=data.Digits(loader="streaming", workers=0)
    )
    recorded = {
        "device": "cuda:0",
        "precision": "bf16",
        "threads": 9,
        "loader": "resident",
        "memory_format": "channels_last",
    }
    env = environment.resolve(typed, SPEC, recorded)
    assert (env.device.type, env.precision, env.threads, env.loader, env.workers) == ("cpu", "fp16", 3, "streaming", 0)
    assert env.memory_format is torch.contiguous_format
    assert env.reasons["threads"] == "as configured"


def test_record_is_used_again_even_with_fewer_cores():
    recorded = environment.to_json(environment.resolve(config(), SPEC, None)) | {
        "threads": 64,
        "memory_format": "contiguous",
    }
    env = environment.resolve(config(), SPEC, json.loads(json.dumps(recorded)))
    assert (env.threads, env.memory_format) == (64, torch.contiguous_format)
    assert env.reasons["threads"] == "as recorded"
    environment.apply(env)
    assert torch.get_num_threads() == 64
    assert environment.differences(recorded, environment.to_json(env)) == []


def test_recorded_gpu_that_is_not_here_is_told_and_the_run_goes_on(monkeypatch):
    no_gpu(monkeypatch)
    recorded = environment.to_json(environment.resolve(config(), SPEC, None)) | {
        "device": "cuda:1",
        "precision": "bf16",
    }
    env = environment.resolve(config(), SPEC, recorded)
    assert (env.device, env.precision) == (torch.device("cpu"), "bf16")
    assert "not bit-exact" in env.reasons["device"]
    assert environment.differences(recorded, environment.to_json(env)) == [("device", "cuda:1", "cpu")]
    warning = environment.warning(recorded, environment.to_json(env))
    assert "not bit-exact" in warning
    assert "device: cuda:1 recorded, cpu here" in warning
    a_gpu(monkeypatch, count=2)
    assert environment.resolve(config(), SPEC, recorded).device == torch.device("cuda", 1)
    assert environment.warning({}, {}) == ""


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7"])
def test_device_that_is_not_here_is_a_mistake(monkeypatch, device):
    no_gpu(monkeypatch)
    with pytest.raises(Mistake, match=f"device={device}"):
        environment.resolve(config(device=device), SPEC, None)


def test_threads_that_the_user_set_outside_are_respected(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    env = environment.resolve(config(), SPEC, None)
    assert (env.threads, env.reasons["threads"]) == (3, "OMP_NUM_THREADS=3")
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert environment.resolve(config(), SPEC, None).threads == 4


def test_cores_are_those_of_the_affinity_or_the_quota(monkeypatch):
    monkeypatch.undo()
    assert environment.usable_cores()[0] <= len(os.sched_getaffinity(0))
    real = Path.read_text
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    for text, cores in (("150000 100000", 2), ("max 100000", 16), ("", 16)):
        monkeypatch.setattr(
            Path, "read_text", lambda path, *a, text=text, **k: text if path.name == "cpu.max" else real(path, *a, **k)
        )
        assert environment.usable_cores()[0] == cores


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("device", "meta"),
        ("device", ["cpu"]),
        ("precision", "fp8"),
        ("precision", {}),
        ("threads", 0),
        ("threads", 10**9),
        ("threads", True),
        ("threads", "4"),
        ("memory_format", "preserve"),
        ("loader", None),
        ("workers", -1),
        ("workers", 10**6),
    ],
)
def test_forged_record_is_a_mistake(name, value):
    with pytest.raises(Mistake, match=f"environment.json: {name} is"):
        environment.resolve(config(), SPEC, {name: value})


def test_record_is_json_and_names_what_computes():
    env = environment.resolve(config(), SPEC, None)
    record = json.loads(json.dumps(environment.to_json(env, SPEC)))
    assert record["data_spec"]["class_names"] == list("0123456789")
    found = record["versions"]
    for name in ("dltrain", "python", "torch", "torchvision", "numpy", "pillow", "cpu", "cpu_capability", "onednn"):
        assert found[name], name
    assert set(versions.VARIABLES) <= found.keys()


def test_a_variable_that_changes_kernels_is_a_difference(monkeypatch):
    before = environment.to_json(environment.resolve(config(), SPEC, None))
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    after = environment.to_json(environment.resolve(config(), SPEC, before))
    assert environment.differences(before, after) == [("ONEDNN_MAX_CPU_ISA", "", "AVX2")]
    assert environment.differences(before, before | {"loader": "streaming", "workers": 3, "reasons": {}}) == []


def test_environments_that_a_run_went_through_are_kept(monkeypatch):
    first = environment.to_json(environment.resolve(config(), SPEC, None))
    second = environment.to_json(environment.resolve(config(), SPEC, first), recorded=first)
    assert "earlier" not in second
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    third = environment.to_json(environment.resolve(config(), SPEC, second), recorded=second)
    assert [part["versions"]["MKL_CBWR"] for part in third["earlier"]] == [""]
    fourth = environment.to_json(environment.resolve(config(), SPEC, third), recorded=third)
    assert fourth["earlier"] == third["earlier"]


@pytest.mark.parametrize("forged", [{"versions": 3}, {"versions": []}, {"earlier": 3}, {"device": {}}])
def test_forged_record_does_not_break_the_comparison(forged):
    now = environment.to_json(environment.resolve(config(), SPEC, None))
    assert environment.differences(forged, now)
    assert environment.to_json(environment.resolve(config(), SPEC, None), recorded=forged)["earlier"]


def test_apply_sets_everything_either_way():
    """A job of a sweep inherits nothing from the one before it."""
    exact = environment.resolve(config(), SPEC, None)
    fast = environment.resolve(
        config(determinism=mode.Determinism.fast, trainer=groups.Trainer(threads="2")), SPEC, None
    )
    for env, is_exact in ((exact, True), (fast, False), (exact, True)):
        environment.apply(env)
        assert torch.are_deterministic_algorithms_enabled() is is_exact
        assert torch.get_num_threads() == env.threads
        assert torch.backends.cudnn.deterministic is is_exact
        assert torch.backends.cudnn.benchmark is not is_exact
        assert torch.backends.cuda.matmul.allow_tf32 is not is_exact
        assert torch.backends.cudnn.allow_tf32 is not is_exact
        assert torch.utils.deterministic.fill_uninitialized_memory is False


def test_settling_leaves_no_trace_in_the_generator():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    environment.resolve(config(), SPEC, None)
    assert torch.equal(torch.get_rng_state(), before)


def test_free_memory_is_at_most_what_the_machine_has():
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < environment.free_bytes(torch.device("cpu")) <= whole
