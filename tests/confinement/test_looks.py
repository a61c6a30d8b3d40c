"""What an agent learns by asking for paths that it may not read; and that what libraries ask for by
themselves still works.
"""

import json
import pathlib
import sys

import pytest
from arena import artifact_of, let_loose, open_arena
from hostile import ASKS, Hostile, does

from tracecore.confinement import doctor
from tracecore.confinement.layers import LAYERS
from tracecore.records import Limits

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the layers are Linux's")
NEEDED_FOR_DISK = {"mount_namespace", "user_namespace", "own_session"}
NOTHING_THERE = {
    "",
    "False",
    "None",
    "[]",
    "failed: FileNotFoundError",
    "failed: NotADirectoryError",  # a descriptor that is none of a folder
}
SAYS_NOTHING = {
    "asks for the real path",  # a path in which no link was followed
    "asks by a name of no folder",  # in the working directory, whatever that is
}

ORDINARY = (
    does("formats the traceback of generated code", "show()", imports="traceback"),
    does("knows time zones, or not", "zones()", imports="zoneinfo"),
    does("guesses a type", "mimetypes.guess_type('x.html')[0]", imports="mimetypes"),
    does(
        "describes its arguments",
        "argparse.ArgumentParser(prog='x').format_usage()",
        imports="argparse",
    ),
    does("logs an exception", "logging.exception('x') or 'logged'", imports="logging"),
    does("warns from nowhere", "warnings.warn('x', stacklevel=99) or 'warned'", imports="warnings"),
    does("trusts certificates", "bool(ssl.create_default_context())", imports="ssl"),
    does("asks how Python was built", "len(sysconfig.get_paths()) > 3", imports="sysconfig"),
    does(
        "reads the source of a module", "len(inspect.getsource(inspect)) > 999", imports="inspect"
    ),
    does(
        "lists its own folder",
        "len(list(pathlib.Path(__file__).resolve().parent.glob('agent_*'))) > 3",
        imports="pathlib",
    ),
    does(
        "asks for a version",
        "importlib.metadata.version('numpy') > '1'",
        imports="importlib.metadata",
    ),
    does(
        "lists modules",
        "len(list(pkgutil.iter_modules([os.path.dirname(os.__file__)]))) > 99",
        imports="pkgutil",
    ),
)
HELP = """
def show():
    try:
        exec(compile("1 / 0", "rules", "exec"))
    except ZeroDivisionError:
        return traceback.format_exc().count("rules")

def zones():
    try:
        return zoneinfo.ZoneInfo("Europe/Berlin").key
    except zoneinfo.ZoneInfoNotFoundError:
        return "no zones"
"""


def answers(table: tuple[Hostile, ...], limits: Limits, folder: pathlib.Path) -> dict[str, str]:
    """What each agent said, or how it ended instead."""
    with open_arena(folder / "x", table) as arena:
        rows = let_loose(arena, table, limits=limits)
        found = {}
        for name, row in rows.items():
            (entry,) = artifact_of(arena, row)["action_trace"] or [{}]
            found[name] = (entry.get("action") or {}).get("args", {}).get("text", row.error)
        return found


def test_on_a_disk_of_its_own_what_may_not_be_read_does_not_exist(tmp_path: pathlib.Path) -> None:
    limits = Limits(layers_off=",".join(set(LAYERS) - NEEDED_FOR_DISK))
    if doctor.probe(limits)["mount_namespace"] is not True:
        pytest.skip("this machine permits no mount namespace")
    found = answers(ASKS, limits, tmp_path)
    assert {
        name: text
        for name, text in found.items()
        if name not in SAYS_NOTHING and text not in NOTHING_THERE
    } == {}


def test_what_libraries_ask_for_by_themselves_is_no_attempt(tmp_path: pathlib.Path) -> None:
    table = tuple(Hostile(agent.name, HELP + agent.code) for agent in ORDINARY)
    found = answers(table, Limits(), tmp_path)
    assert [
        text for text in found.values() if "sandbox_violation" in text or text.startswith("failed")
    ] == []
    # its name, and the line that made it
    assert found["formats the traceback of generated code"] == "2"
    assert found["lists its own folder"] == found["lists modules"] == "True"


TELLS_ITS_DUMPABILITY = """\
import ctypes

def setup(seed, env):
    raise ValueError("dumpable %d" % ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""


def test_the_memory_of_an_episode_is_closed_to_its_own_user(tmp_path: pathlib.Path) -> None:
    table = (does("does nothing", "'nothing'"),)
    with open_arena(tmp_path / "x", table) as arena:
        (arena.task / "setup.py").write_text(TELLS_ITS_DUMPABILITY)
        rows = let_loose(arena, table, limits=Limits())
        assert "dumpable 0" in str(rows["does nothing"].error)


def test_spawned_agents_have_every_layer_that_forked_ones_have(tmp_path: pathlib.Path) -> None:
    assert doctor.missing(doctor.probe(Limits(), "spawn")) == doctor.missing(
        doctor.probe(Limits(), "fork")
    )
    if doctor.probe(Limits(), "spawn", thorough=False)["pid_namespace"] is True:
        table = (does("counts processes", "os.getppid()"),)
        with open_arena(tmp_path / "x", table) as arena:
            rows = let_loose(arena, table, limits=Limits(), method="spawn")
            (entry,) = artifact_of(arena, rows["counts processes"])["action_trace"]
            # the first of its process table
            assert json.loads(entry["action"]["args"]["text"]) == 1
