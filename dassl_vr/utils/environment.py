"""What the run ran on."""

import contextlib
import functools
import os
import platform
import re
import resource
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import torch

from . import devices

LIBRARIES = (
    "dassl_vr",
    "torch",
    "torchvision",
    "timm",
    "open_clip_torch",
    "numpy",
    "numba",
    "pillow",
    "scikit-learn",
    "tensorboard",
)


def library_versions() -> dict[str, str | None]:
    """{library: version} of Python and of the libraries that can change a result (None = not installed)."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    if versions["dassl_vr"] is None:  # run from a checkout that was not installed
        from .. import __version__

        versions["dassl_vr"] = __version__
    return versions


def device_name(device: torch.device) -> str:
    """The name of a torch device: the accelerator's, or the processor's."""
    if label := devices.device_label(device):
        return label
    with contextlib.suppress(OSError):  # on Linux the platform knows the architecture only
        if model := re.search(r"^model name\s*:\s*(\S.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE):
            return model.group(1).strip()
    return platform.processor() or platform.machine()


@functools.cache
def source_commit() -> str | None:
    """The git commit of the checkout that this code lies in, with `-dirty` where files differ from it.

    None for an installed package, and where git does not say.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, env=environment, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return found.stdout.strip() or None


def collect_env_info() -> str:
    """Platform, devices and library versions as lines of text.

    Every run prints it, so it is not `torch.utils.collect_env.get_pretty_env_info()`: that starts a dozen programs, `pip list` and
    `nvidia-smi` among them, and takes 1.8 seconds (this: 20 ms), longer than a short run trains.
    """
    lines = [
        f"Platform: {platform.platform()}",
        f"CPU cores: {os.cpu_count()}, torch threads: {torch.get_num_threads()}",
    ]
    lines += devices.accelerator_lines()
    lines += [f"{name}: {version}" for name, version in library_versions().items()]
    return "\n".join(lines)


def peak_memory_bytes(device: torch.device) -> int:
    """Peak memory in bytes: of the accelerator's allocator where torch counts it, else of the process (resident set)."""
    if (peak := devices.peak_bytes(device)) is not None:
        return peak
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB
