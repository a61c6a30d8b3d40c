import json
import math
import os
import subprocess
import sys

import pytest

from tracecore.perf.host.machine import Machine
from tracecore.perf.host.samples import Samples, samples_name

FIELDS = {
    *("offset_s", "cpu_percent", "cpu_percent_per_core", "steal_percent", "iowait_percent"),
    *("memory_available_bytes", "pressure", "load_averages", "tree_rss_bytes", "tree_cpu_s"),
    *("processes", "episodes_in_flight", "episodes_finished", "episodes_failed"),
    *("rate_eps", "run_artifact_bytes"),
}


class Clock:
    now_s = 50.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


def written(samples, tmp_path):
    path = tmp_path / samples_name("20260131T120000Z")
    samples.write(str(path))
    samples.close()
    assert os.listdir(tmp_path) == [path.name]
    return json.loads(path.read_bytes())


def test_a_sample_is_taken_at_each_tick_and_tells_the_slice_and_the_machine(
    tmp_path, clock, make_row
):
    samples = Samples(str(tmp_path), 0.5, monotonic_s=clock)
    for index in range(20):
        clock.now_s += 0.1
        samples.add(
            make_row(
                index, error="no" if index == 3 else None, artifact=None if index == 5 else "a.json"
            )
        )
        samples.look(in_flight=4)
    samples.finish()
    document = written(samples, tmp_path)
    assert document["interval_s"] == 0.5
    assert document["available"] is True
    taken = document["samples"]
    assert [sample["offset_s"] for sample in taken] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert set(taken[0]) == FIELDS
    assert [sample["episodes_finished"] for sample in taken] == [5, 10, 15, 20]
    assert [sample["episodes_failed"] for sample in taken] == [1, 1, 1, 1]
    assert [sample["run_artifact_bytes"] for sample in taken] == [5000, 9000, 14000, 19000]
    assert [sample["rate_eps"] for sample in taken] == pytest.approx([10.0] * 4)
    assert taken[0]["episodes_in_flight"] == 4
    assert taken[0]["tree_rss_bytes"] > 1_000_000


def test_missed_ticks_are_skipped_and_counted_never_queued(tmp_path, clock):
    samples = Samples(str(tmp_path), 0.5, monotonic_s=clock)
    clock.now_s += 2.7
    for _ in range(5):
        samples.look(in_flight=1)
    clock.now_s += 0.2
    samples.look(in_flight=1)
    clock.now_s += 0.2
    samples.look(in_flight=1)
    document = written(samples, tmp_path)
    assert [sample["offset_s"] for sample in document["samples"]] == pytest.approx([2.7, 3.1])
    assert document["skipped_ticks"] == 4


@pytest.mark.parametrize(("ran_s", "rate"), [(0.0, None), (0.01, 0.0)])
def test_the_shortest_slice_has_a_sample_that_divides_by_nothing(tmp_path, clock, ran_s, rate):
    samples = Samples(str(tmp_path), 0.5, monotonic_s=clock)
    clock.now_s += ran_s
    samples.finish()
    assert [sample["rate_eps"] for sample in written(samples, tmp_path)["samples"]] == [rate]


def test_without_psutil_the_file_says_so_and_holds_what_needs_none(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    samples = Samples(str(tmp_path), 0.5)
    samples.finish()
    document = written(samples, tmp_path)
    assert (document["available"], document["provider"], document["trouble"]) == (
        False,
        None,
        "psutil is not installed",
    )
    assert document["samples"][0]["cpu_percent"] is None
    assert document["samples"][0]["memory_available_bytes"] is None
    assert document["samples"][0]["episodes_finished"] == 0
    assert set(document["samples"][0]) == FIELDS


@pytest.mark.parametrize(
    ("name", "does", "trouble"),
    [
        ("virtual_memory", lambda: 1 / 0, "psutil: ZeroDivisionError"),
        ("cpu_percent", lambda **_: [math.nan], "psutil: ValueError"),
        ("cpu_percent", lambda **_: object(), "psutil: TypeError"),
    ],
)
def test_a_psutil_that_breaks_ends_its_figures_alone(tmp_path, monkeypatch, name, does, trouble):
    import psutil

    samples = Samples(str(tmp_path), 0.5)
    monkeypatch.setattr(psutil, name, does)
    samples.finish()
    document = written(samples, tmp_path)
    assert document["available"] is False
    assert document["trouble"].startswith(trouble)
    assert document["samples"][0]["cpu_percent"] is None


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a disk that is full")
def test_a_full_disk_ends_the_samples_and_not_the_slice(tmp_path, clock, make_row):
    def on_a_full_disk():
        samples = Samples(str(tmp_path), 0.5, monotonic_s=clock)
        samples.close()
        samples._spool = open("/dev/full", "w+b")  # noqa: SIM115 - the samples close it
        return samples

    samples = on_a_full_disk()
    samples.finish()  # is held, and not yet written
    samples.close()  # what is refused at the very end is let go
    samples = on_a_full_disk()
    for _ in range(200):  # more than a buffer holds
        clock.now_s += 1
        samples.look(1)
    samples.add(make_row(0))
    samples.finish()
    document = written(samples, tmp_path)
    assert document["available"] is False
    assert document["trouble"] == "samples could not be kept: No space left on device"
    assert document["samples"] == []


def test_percentages_lie_between_0_and_100_and_the_first_one_is_no_constant():
    machine = Machine()
    end = os.times().user + 0.3
    while os.times().user < end:
        pass
    figures = machine.read()
    assert 0 < figures["cpu_percent"] <= 100
    assert all(0 <= value <= 100 for value in figures["cpu_percent_per_core"])
    if figures["pressure"] is not None:
        assert all(
            value is None or (math.isfinite(value) and value >= 0)
            for value in figures["pressure"].values()
        )


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_tree_counts_processes_below_and_the_time_of_those_that_have_ended():
    machine = Machine()
    before = machine.read()
    burn = "import os\nwhile os.times().user < 0.2: pass"
    subprocess.run([sys.executable, "-S", "-c", burn], check=True)
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    try:
        after = machine.read()
    finally:
        child.communicate(b"\n")
    assert after["processes"] == before["processes"] + 1
    assert after["tree_cpu_s"] >= before["tree_cpu_s"] + 0.15
