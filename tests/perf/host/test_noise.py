import pathlib

from tracecore.perf.host.facts import host_facts
from tracecore.perf.host.noise import PAGE_BYTES, HostNoise, HostWatch

HOST = {"load_averages": [0.25, 1.0, 2.0], "cpus_total": 4, "cpus_usable": 2}


def write(root: pathlib.Path, ticks: str, pages: int) -> None:
    (root / "proc" / "self").mkdir(parents=True, exist_ok=True)
    (root / "proc" / "stat").write_text(f"cpu  {ticks} 0 0\ncpu0 {ticks} 0 0\n")
    (root / "proc" / "loadavg").write_text("0.25 1.00 2.00 4/345 6789\n")
    (root / "proc" / "self" / "statm").write_text(f"9000 {pages} 30 1 0 500 0\n")


def test_stolen_time_and_own_growth_are_those_of_the_slice(tmp_path: pathlib.Path):
    write(tmp_path, "100 0 50 800 0 0 0 50", 1000)
    watch = HostWatch(HOST, str(tmp_path))
    write(tmp_path, "150 0 60 835 0 0 0 55", 1500)
    figures = watch.figures()
    assert figures.steal_share == 0.05
    assert figures.harness_growth_bytes == 500 * PAGE_BYTES
    assert (
        figures.load1_before,
        figures.running_before,
        figures.cpus_total,
        figures.cpus_usable,
    ) == (0.25, 3, 4, 2)


def test_where_nothing_is_told_nothing_is_known(tmp_path: pathlib.Path):
    figures = HostWatch({**HOST, "load_averages": None}, str(tmp_path)).figures()
    assert figures.steal_share is figures.harness_growth_bytes is figures.load1_before is None


def test_this_machine_can_be_watched():
    figures = HostWatch(host_facts()).figures()
    assert isinstance(figures, HostNoise)
    assert figures.cpus_usable is None or figures.cpus_usable >= 1
