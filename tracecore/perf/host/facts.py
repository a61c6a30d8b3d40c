"""What the machine was and did: psutil samples, or nulls; and facts of the host. Nothing here ever
raises.
"""

import contextlib
import hashlib
import json
import math
import os
import sys
from typing import Any, Final

from tracecore.records import JsonObject

# What the machine class is made of: what a figure depends on, and what stays as it is from one run
# on a machine to the next. Not the load, the frequency of the moment, or the runner image's weekly
# version.
STABLE_FACTS: Final = (
    "cpu_model",
    "machine",
    "cpus_usable",
    "cpu_quota",
    "memory_gib",
    "governor",
    "os",
    "kernel_series",
    "python_implementation",
    "python_version",
    "start_method",
    "runner_image",
)
FIGURES: Final = (
    "cpu_percent",  # of the whole machine, all processes, since the sampler was started
    "process_rss_bytes",  # of this process alone
    "system_memory_total_bytes",
    "system_memory_available_bytes",
)
# No RUNNER_NAME: it names a person's machine.
RUNNER_VARIABLES: Final = (
    "ImageOS",
    "ImageVersion",
    "RUNNER_OS",
    "RUNNER_ARCH",
    "RUNNER_ENVIRONMENT",
)


class SystemSampler:
    """The ``system_samples`` of a slice: made before it, sampled after it."""

    def __init__(self) -> None:
        self._psutil: Any = None
        # psutil's first figure is always 0.0, and the second covers the time since the first
        with contextlib.suppress(Exception):  # missing, too old, or unable to read this system
            import psutil  # noqa: PLC0415  # optional: everything but these figures works without it

            psutil.cpu_percent()
            self._psutil = psutil

    def sample(self) -> JsonObject:
        """``available``, ``provider`` and the figures; all null if there is no psutil, or it cannot
        tell one of them.
        """
        try:
            memory = self._psutil.virtual_memory()
            figures = {
                "cpu_percent": float(self._psutil.cpu_percent()),
                "process_rss_bytes": int(self._psutil.Process().memory_info().rss),
                "system_memory_total_bytes": int(memory.total),
                "system_memory_available_bytes": int(memory.available),
            }
            json.dumps(figures, allow_nan=False)  # raises: what no file could hold is no figure
        except Exception:  # whatever psutil does, a finished slice is worth more than its samples
            return {"available": False, "provider": None, **dict.fromkeys(FIGURES)}
        return {"available": True, "provider": "psutil", **figures}


def host_facts(root: str = "/") -> JsonObject:
    """What a figure depends on besides the code; null where it is not known. No host or user name.

    Args:
        root: Where ``proc`` and ``sys`` lie.
    """
    digits, _, unit = (_field(root, "proc/meminfo", "MemTotal") or "").partition(" ")
    runner = {name: os.environ[name][:200] for name in RUNNER_VARIABLES if os.environ.get(name)}
    return {
        "cpu_model": _field(root, "proc/cpuinfo", "model name"),
        "cpus_total": os.cpu_count(),
        "cpus_usable": len(os.sched_getaffinity(0)),
        # CPUs' worth of time that the cgroup grants; null: no quota known
        "cpu_quota": _cpu_quota(root),
        "governor": read_text(root, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or None,
        "memory_total_bytes": int(digits) * 1024 if unit == "kB" and digits.isdecimal() else None,
        "load_averages": load_averages(),  # over 1, 5 and 15 minutes
        "os": sys.platform,
        "kernel": os.uname().release,
        "machine": os.uname().machine,
        "python_version": ".".join(map(str, sys.version_info[:3])),
        "python_implementation": sys.implementation.name,
        "runner": runner or None,  # what a CI runner says of its image
    }


def host_block(start_method: str, git_state: JsonObject, root: str = "/") -> JsonObject:
    """The ``host`` of a manifest: the facts, how processes are started, and which commit stands
    there.

    Args:
        start_method: fork or spawn.
        git_state: ``git_sha`` and ``dirty`` of the runtime.
        root: Where ``proc`` and ``sys`` lie.
    """
    return {**host_facts(root), "start_method": start_method, **git_state}


def stable_facts(host: JsonObject) -> JsonObject:
    """Those facts of a host block that the machine class is made of; null where one is
    not known.
    """
    runner, size_bytes = host.get("runner"), host.get("memory_total_bytes")
    derived = {
        # Rounded up: what a kernel keeps for itself varies, and is always a little less than one.
        "memory_gib": math.ceil(size_bytes / (1 << 30)) if isinstance(size_bytes, int) else None,
        # 6.8.0-1021-azure and 6.8.0-1024-azure are one: a class must outlive the weekly update.
        "kernel_series": (
            ".".join(host["kernel"].split(".")[:2]) if isinstance(host.get("kernel"), str) else None
        ),
        "runner_image": runner.get("ImageOS") if isinstance(runner, dict) else None,
    }
    return {name: derived[name] if name in derived else host.get(name) for name in STABLE_FACTS}


def machine_class(host: JsonObject) -> str:
    """A short name for all machines on which figures mean the same, such as
    ``x86_64-2cpu-16gib-py3.11-0a1b2c3d``.

    The hexadecimal digits stand for all stable facts; what precedes them is for people.
    """
    facts = stable_facts(host)
    digits = hashlib.sha256(json.dumps(facts, sort_keys=True).encode("ascii")).hexdigest()[:8]
    python = ".".join(str(facts["python_version"]).split(".")[:2])
    words = [
        facts["machine"] or "unknown",
        f"{facts['cpus_usable']}cpu",
        f"{facts['memory_gib']}gib",
        f"py{python}",
        digits,
    ]
    return "-".join(
        "".join(c if c.isascii() and (c.isalnum() or c in "._") else "_" for c in str(word))
        for word in words
    )


def _field(root: str, path: str, wanted: str) -> str | None:
    """What stands behind a name, in a file of lines ``name: value``."""
    for line in read_text(root, path).splitlines():
        name, _, value = line.partition(":")
        if name.strip() == wanted:
            return value.strip()
    return None


def _cpu_quota(root: str) -> float | None:
    """The tightest quota on the way from the root cgroup to this process's own; both cgroup
    versions.
    """
    quotas = []
    for line in read_text(root, "proc/self/cgroup").splitlines():
        _, _, controllers_and_path = line.partition(":")
        controllers, _, path = controllers_and_path.partition(":")
        for folder in _with_parents(path):
            if controllers == "":
                words = read_text(root, f"sys/fs/cgroup{folder}/cpu.max").split()
            elif "cpu" in controllers.split(","):
                base = f"sys/fs/cgroup/cpu{folder}/cpu.cfs_"
                words = [read_text(root, f"{base}{word}_us") for word in ("quota", "period")]
            else:
                continue
            quotas += _quota(words)
    return min(quotas, default=None)


def _with_parents(path: str) -> list[str]:
    parts = [part for part in path.split("/") if part]
    return ["".join(f"/{part}" for part in parts[:depth]) for depth in range(len(parts) + 1)]


def _quota(words: list[str]) -> list[float]:
    try:
        quota, period = map(int, words)
    except ValueError:  # "max", or no such file
        return []
    return [quota / period] if quota > 0 and period > 0 else []  # version 1 writes -1 for no quota


def load_averages() -> list[float] | None:
    """Processes that wanted to run, over the last 1, 5 and 15 minutes."""
    try:
        return list(os.getloadavg())
    except OSError:
        return None


def read_text(root: str, path: str) -> str:
    """A file of the kernel's; "" where it is not there."""
    try:
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20).strip()
    except OSError:
        return ""
