import json
import os
import sys
import types

import psutil
import pytest

from tracecore.perf.host.facts import (
    FIGURES,
    STABLE_FACTS,
    SystemSampler,
    host_block,
    host_facts,
    machine_class,
    stable_facts,
)

UNKNOWN = {"available": False, "provider": None, **dict.fromkeys(FIGURES)}


def raise_error(*_):
    raise psutil.AccessDenied(1)


def sample():
    return SystemSampler().sample()


def test_a_sample_holds_the_figures_of_the_contract():
    found = sample()
    assert list(found) == ["available", "provider", *FIGURES]
    assert (found["available"], found["provider"]) == (True, "psutil")
    assert found["cpu_percent"] >= 0
    assert 1 << 20 < found["process_rss_bytes"] < found["system_memory_total_bytes"]
    assert 0 < found["system_memory_available_bytes"] <= found["system_memory_total_bytes"]


def test_the_first_and_meaningless_cpu_figure_is_thrown_away(monkeypatch):
    figures = iter([0.0, 87.5])
    monkeypatch.setattr(psutil, "cpu_percent", lambda: next(figures))
    assert sample()["cpu_percent"] == 87.5


@pytest.mark.parametrize("module", [None, types.ModuleType("psutil")])
def test_a_psutil_that_is_missing_or_too_old_leaves_the_figures_null(monkeypatch, module):
    monkeypatch.setitem(sys.modules, "psutil", module)
    assert sample() == UNKNOWN


@pytest.mark.parametrize(
    ("name", "does"),
    [
        ("cpu_percent", raise_error),
        ("cpu_percent", lambda: float("nan")),  # which JSON cannot hold
        ("virtual_memory", raise_error),
        ("Process", raise_error),
    ],
)
def test_a_psutil_that_breaks_counts_as_missing(monkeypatch, name, does):
    monkeypatch.setattr(psutil, name, does)
    assert sample() == UNKNOWN


def test_facts_of_this_host_are_json_and_name_nobody():
    facts = host_facts()
    text = json.dumps(facts, allow_nan=False)
    assert os.uname().nodename not in text.replace(os.uname().release, "")
    assert facts["cpus_usable"] == len(os.sched_getaffinity(0))
    assert facts["python_version"] == ".".join(map(str, sys.version_info[:3]))


def write(root, path, text):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_facts_are_read_from_proc_and_sys(tmp_path):
    write(tmp_path, "proc/cpuinfo", "processor\t: 0\nmodel name\t: Fast CPU: the second\n")
    write(tmp_path, "proc/meminfo", "MemFree: 3 kB\nMemTotal:       2048 kB\n")
    write(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n")
    facts = host_facts(str(tmp_path))
    assert facts["cpu_model"] == "Fast CPU: the second"
    assert facts["memory_total_bytes"] == 2048 * 1024
    assert facts["governor"] == "powersave"
    assert facts["cpu_quota"] is None


def test_the_tightest_quota_of_all_parents_holds(tmp_path):
    write(tmp_path, "proc/self/cgroup", "0::/a/b\n")
    write(tmp_path, "sys/fs/cgroup/cpu.max", "max 100000\n")
    write(tmp_path, "sys/fs/cgroup/a/cpu.max", "150000 100000\n")
    write(tmp_path, "sys/fs/cgroup/a/b/cpu.max", "400000 100000\n")
    assert host_facts(str(tmp_path))["cpu_quota"] == 1.5


def test_quotas_of_the_older_cgroups_are_read_too(tmp_path):
    write(tmp_path, "proc/self/cgroup", "5:memory:/x\n4:cpu,cpuacct:/job\n0::/\n")
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    write(tmp_path, "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "50000\n")
    write(tmp_path, "sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n")
    assert host_facts(str(tmp_path))["cpu_quota"] == 0.5


@pytest.mark.parametrize("text", [None, "", "\0\n::\n", "nonsense", "0::", ":" * 50])
def test_what_makes_no_sense_or_is_not_there_is_null(tmp_path, text):
    for path in ("proc/cpuinfo", "proc/meminfo", "proc/self/cgroup", "sys/fs/cgroup/cpu.max"):
        if text is not None:
            write(tmp_path, path, text)
    facts = host_facts(str(tmp_path))
    assert facts["cpu_model"] is facts["memory_total_bytes"] is None
    assert facts["cpu_quota"] is facts["governor"] is None


KNOWN = {
    "cpu_model": "Fast CPU",
    "machine": "x86_64",
    "cpus_usable": 2,
    "cpu_quota": None,
    "memory_total_bytes": 16_700_000_000,
    "governor": None,
    "os": "linux",
    "kernel": "6.8.0-1021-azure",
    "python_implementation": "cpython",
    "python_version": "3.11.7",
    "start_method": "fork",
    "runner": {"ImageOS": "ubuntu24", "ImageVersion": "20260101.1"},
}


def block(**changes):
    return {**KNOWN, **changes}


def test_the_host_block_tells_how_processes_start_and_which_commit_stands_there():
    found = host_block("fork", {"git_sha": "a" * 40, "dirty": True})
    assert (found["start_method"], found["git_sha"], found["dirty"]) == ("fork", "a" * 40, True)
    assert set(host_facts()) < set(found)
    assert len(found["load_averages"]) == 3


def test_the_machine_class_reads_as_what_it_is():
    assert machine_class(block()).rpartition("-")[0] == "x86_64-2cpu-16gib-py3.11"
    assert machine_class(host_block("fork", {})) == machine_class(host_block("fork", {}))


@pytest.mark.parametrize(
    "changes",
    [
        {"load_averages": [9.0, 9.0, 9.0]},
        {"git_sha": "b" * 40, "dirty": True},
        {"kernel": "6.8.0-1024-azure"},
        {"memory_total_bytes": 16_650_000_000},
        {"runner": {"ImageOS": "ubuntu24", "ImageVersion": "20260108.1"}},
    ],
)
def test_what_changes_from_run_to_run_leaves_the_class_alone(changes):
    assert machine_class(block(**changes)) == machine_class(block())


@pytest.mark.parametrize(
    "changes",
    [
        *({"cpu_model": "Slow CPU"}, {"cpus_usable": 4}, {"cpu_quota": 1.5}, {"os": "darwin"}),
        *({"memory_total_bytes": 8 << 30}, {"governor": "powersave"}, {"kernel": "6.11.0"}),
        *({"python_version": "3.11.8"}, {"python_implementation": "pypy"}),
        *({"start_method": "spawn"}, {"machine": "aarch64"}, {"runner": {"ImageOS": "ubuntu22"}}),
    ],
)
def test_what_a_figure_depends_on_makes_another_class(changes):
    assert machine_class(block(**changes)) != machine_class(block())
    old, new = stable_facts(block()), stable_facts(block(**changes))
    assert len([name for name in STABLE_FACTS if old[name] != new[name]]) == 1


@pytest.mark.parametrize(
    "host", [{}, {"kernel": 5, "memory_total_bytes": "much", "runner": []}, {"machine": "a b/../c"}]
)
def test_an_unknown_host_has_a_class_too(host):
    name = machine_class(host)
    assert name.replace("-", "").replace(".", "").replace("_", "").isalnum()


def test_the_runner_image_is_told_where_there_is_one(monkeypatch):
    for name in ("ImageOS", "ImageVersion", "RUNNER_OS", "RUNNER_ARCH", "RUNNER_ENVIRONMENT"):
        monkeypatch.delenv(name, raising=False)
    assert host_facts()["runner"] is None
    monkeypatch.setenv("ImageOS", "ubuntu24")
    monkeypatch.setenv("RUNNER_NAME", "somebody's laptop")
    assert host_facts()["runner"] == {"ImageOS": "ubuntu24"}
