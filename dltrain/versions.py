"""What computes: programs, libraries, processor, variables of the environment."""

import os
import platform
import re
from importlib import metadata
from pathlib import Path

import torch

import dltrain

# Variables that change which kernels compute, and so the bits.
VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "CUBLAS_WORKSPACE_CONFIG",
    "NVIDIA_TF32_OVERRIDE",
)


def versions(device: torch.device) -> dict[str, str]:
    """What computes: programs, libraries, processor, variables. torchvision is asked about, not imported."""
    built = torch.__config__.show()
    found = {"dltrain": dltrain.__version__, "python": platform.python_version(), "torch": torch.__version__}
    found |= {name: _installed(name) for name in ("torchvision", "numpy", "pillow")}
    found |= {
        "mkl": _match(r"Math Kernel Library Version (\S+)", built),
        "onednn": _match(r"MKL-DNN (v\S+)", built),
        "machine": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_model(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "interop_threads": str(torch.get_num_interop_threads()),
    }
    found |= {name: os.environ.get(name, "") for name in VARIABLES}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {
            "gpu": properties.name,
            "gpu_multiprocessors": str(properties.multi_processor_count),
            "gpu_capability": f"{properties.major}.{properties.minor}",
            "cuda": str(torch.version.cuda),
            "cudnn": str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]
        }
    return found


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _match(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found.group(1) if found else ""


def _cpu_model() -> str:
    try:
        return _match(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return platform.processor()
