import json
import os
import sys
import types

import psutil
import pytest

from tracecore.perf.system import FIGURES, SystemSampler, host_facts

UNKNOWN = {"available": False, "provider": None, **dict.fromkeys(FIGURES)}


def raise_error(*_):
    raise psutil.AccessDenied(1)


def sample():
    sampler = SystemSampler()
    sampler.start()
    return sampler.sample()


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


def test_without_psutil_the_figures_are_null(monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert sample() == UNKNOWN


@pytest.mark.parametrize("name", ["cpu_percent", "virtual_memory", "Process"])
def test_a_psutil_that_raises_counts_as_missing(monkeypatch, name):
    monkeypatch.setattr(psutil, name, raise_error)
    assert sample() == UNKNOWN


def test_a_psutil_that_is_too_old_counts_as_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", types.ModuleType("psutil"))
    assert sample() == UNKNOWN


def test_a_figure_that_json_cannot_hold_counts_as_missing(monkeypatch):
    monkeypatch.setattr(psutil, "cpu_percent", lambda: float("nan"))
    assert sample() == UNKNOWN


def test_a_sampler_that_was_never_started_knows_nothing():
    assert SystemSampler().sample() == UNKNOWN


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


@pytest.mark.parametrize("text", ["", "\0\n::\n", "nonsense", "0::", ":" * 50])
def test_what_makes_no_sense_is_null(tmp_path, text):
    for path in ("proc/cpuinfo", "proc/meminfo", "proc/self/cgroup", "sys/fs/cgroup/cpu.max"):
        write(tmp_path, path, text)
    facts = host_facts(str(tmp_path))
    assert (facts["cpu_model"], facts["memory_total_bytes"], facts["cpu_quota"]) == (None, None, None)


def test_no_proc_at_all_is_all_null(tmp_path):
    facts = host_facts(str(tmp_path))
    assert (facts["cpu_model"], facts["memory_total_bytes"], facts["governor"]) == (None, None, None)
