"""What an agent can open of all that there is, held against the list in docs/security.md."""

import contextlib
import json
import os
import pathlib
import re
import site
import sys
from collections.abc import Iterator

import pytest
from arena import Arena, artifact_of, let_loose, open_arena
from hostile import Hostile

import tracecore
from tracecore.confinement.readable import loader_folders
from tracecore.records import Limits

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the layers are Linux's"),
    pytest.mark.timeout(400),
]
PAGE = pathlib.Path(__file__).parent.parent.parent / "docs" / "security.md"
PACKAGE = os.path.dirname(os.path.abspath(tracecore.__file__))
OPENS = Hostile(
    "opens all that there is",
    """
    import json
    def attempt():
        found = []
        with open(T.AGENTS + "/paths.txt", "rb") as paths:
            for path in paths.read().split(b"\\0"):
                try:
                    os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY))
                except OSError:
                    continue
                found.append(os.fsdecode(path))
        known = tuple(json.load(open(T.AGENTS + "/known.json")))
        return json.dumps([
            [path for path in found if not path.startswith(known)][:50],
            [sum(path.startswith(prefix) for path in found) for prefix in known],
        ])
    """,
)


def allowed_by_the_page(agents: pathlib.Path) -> tuple[list[str], set[str]]:
    """Folders that may be read with all below them, and single files, as the page lists them."""
    block = PAGE.read_text().split("### What may be read")[1].split("```")[1]
    patterns = re.findall(r"^(?:\{\w+\})?[/\w.*-]+", block, re.MULTILINE)[1:]
    library = [os.path.dirname(os.__file__), *site.getsitepackages(), PACKAGE]
    meanings = {
        "{library}": library,
        "{loader}": loader_folders(),
        "{agent}": [str(agents)],
        "{allowed}": [],
        "{prefix}": [sys.prefix, sys.base_prefix],
    }
    folders: list[str] = []
    files: set[str] = set()
    for pattern in patterns:
        word = pattern[: pattern.find("}") + 1]
        for place in meanings.get(word, [""]):
            path = pattern.replace(word, place) if word else pattern
            if path.endswith("/**"):
                folders.append(os.path.realpath(path[:-3]) + "/")
            elif "*" in path:
                folder = pathlib.Path(os.path.dirname(path))
                files |= {os.path.realpath(found) for found in folder.glob(path.rpartition("/")[2])}
            else:
                files.add(os.path.realpath(path))
    assert len(patterns) == 14
    return sorted(set(folders)), files


def everything(most_depth: int) -> Iterator[str]:
    """Regular files and folders of the disk by their one name; what tells about processes; devices
    that may be opened without harm.
    """
    folders, shows_the_kernel = ["/"], {"/dev"}
    with open("/proc/self/mounts") as mounts:
        for _device, place, kind, *_ in map(str.split, mounts):
            shows_the_kernel |= {place} if kind in {"proc", "sysfs", "devtmpfs"} else set()
    while folders:
        yield (folder := folders.pop())
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    yield entry.path
                elif (
                    entry.is_dir(follow_symlinks=False)
                    and folder.rstrip("/").count("/") < most_depth
                    and entry.path not in shows_the_kernel
                ):
                    folders.append(entry.path)
    for pid in ("self", "1", str(os.getpid())):
        for name in ("environ", "maps", "mem", "cmdline", "status"):
            yield from (f"/proc/{pid}/{name}", os.path.realpath(f"/proc/{pid}/{name}"))
    for name in os.listdir("/proc"):
        if not name.isdigit():
            yield from (f"/proc/{name}", os.path.realpath(f"/proc/{name}"))
    yield from ("/dev", *(f"/dev/{name}" for name in ("null", "urandom", "zero", "mem", "vda")))
    yield from ("/dev/kmsg", "/sys", "/sys/devices/system/cpu/online", "/sys/kernel/notes")
    yield "/sys/fs/cgroup"


def opened(arena: Arena, layers_off: str, number: int) -> tuple[set[str], dict[str, int]]:
    """What an agent could open beyond the folders of the page, and how much of each of these."""
    folders, _files = allowed_by_the_page(arena.agents)
    limits = Limits(layers_off=layers_off)
    rows = let_loose(arena, (OPENS,), limits=limits, timeout_s=300.0, round_number=number)
    (entry,) = artifact_of(arena, rows[OPENS.name])["action_trace"]
    beyond, counts = json.loads(entry["action"]["args"]["text"])
    return set(beyond), dict(zip(folders, counts, strict=True))


@pytest.mark.parametrize("depth", [3, pytest.param(99, marks=pytest.mark.slow)])
def test_an_agent_can_open_what_the_page_lists_and_nothing_else(
    depth: int, tmp_path: pathlib.Path
) -> None:
    with open_arena(tmp_path / "x", (OPENS,)) as arena:
        folders, files = allowed_by_the_page(arena.agents)
        paths = {*everything(depth), *(str(path) for path in arena.root.rglob("*"))}
        (arena.agents / "known.json").write_text(json.dumps(folders))
        (arena.agents / "paths.txt").write_bytes(b"\0".join(map(os.fsencode, sorted(paths))))
        on_the_way = {folder.rstrip("/") for folder in folders}
        own = str(arena.agents.resolve()) + "/"
        filled = [folder for folder in folders if depth > 90 and holds_files(folder)]
        for number, layers_off in enumerate(("audit_hook", "audit_hook,mount_namespace")):
            beyond, counts = opened(arena, layers_off, number)
            assert beyond - files - on_the_way == set()
            assert "/dev/null" in beyond
            assert counts[own] >= 3
            assert [folder for folder in filled if not counts[folder]] == []


def holds_files(folder: str) -> bool:
    """Whether there is something in it, and it is no second name of another folder."""
    is_itself = os.path.realpath(folder) == folder.rstrip("/")
    return is_itself and any(
        not os.path.islink(os.path.join(path, name))
        for path, _folders, names in os.walk(folder)
        for name in names
    )


def test_what_lies_in_a_readable_folder_and_is_secret_cannot_be_opened(
    tmp_path: pathlib.Path,
) -> None:
    with open_arena(tmp_path / "x", (OPENS,)) as arena:
        secrets = [str(path) for path in pathlib.Path(PACKAGE, "tasks").rglob("*.py")]
        secrets += [str(arena.agents / "second.py"), str(arena.agents / "link.py")]
        assert len(secrets) > 10
        for layers_off in ("audit_hook", "audit_hook,mount_namespace", "audit_hook,landlock"):
            (arena.agents / "known.json").write_text('["?"]')
            (arena.agents / "paths.txt").write_bytes(b"\0".join(map(os.fsencode, secrets)))
            rows = let_loose(arena, (OPENS,), limits=Limits(layers_off=layers_off))
            (entry,) = artifact_of(arena, rows[OPENS.name])["action_trace"]
            beyond = json.loads(entry["action"]["args"]["text"])[0]
            # without Landlock an empty file lies in the place of a second name
            assert set(beyond) <= {secrets[-2]} if "landlock" in layers_off else beyond == []
