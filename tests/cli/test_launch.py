"""One small job, however it is started: the same hashes and the same words, or one line that says
why it cannot run.
"""

import contextlib
import json
import os
import pathlib
import resource
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from helpers.faults import PLAIN_TASK
from helpers.slices import PATIENCE_S, ROOT, commit_all, git

NOSY = """\
import os

class Agent:
    def reset(self, task_spec):
        self.depth = 0

    def observe(self, observation):
        self.step = observation["step"]

    def sink(self):
        self.depth += 1
        self.sink()

    def act(self):
        if self.step == 1:
            try:
                self.sink()
            except RecursionError:
                text = [self.depth, "\\u00e4", os.getcwd() != "/"]
                return {"type": "say", "args": {"text": text}}
        open(os.path.join(os.path.dirname(__file__), "missing.txt"))
"""
GOOD = """\
class Agent:
    def reset(self, task_spec): pass
    def observe(self, observation): pass
    def act(self): return {"type": "finish"}
"""
JOB = ("--scenario", "scenario.json", "--tasks-dir", "tasks", "--episodes", "2", "--workers", "1")
JOB += ("--strict-spec", "--progress", "never", "--output-dir", "out", "--runs-dir", "runs")
# In the place of modules that the harness needs: whoever loads one of these ends there.
SHADOWS = ("signal", "socket", "select", "struct", "pickle", "selectors", "subprocess", "threading")
SIGNALS = [
    signal.Signals(number)
    for number in range(1, 32)
    if number not in {signal.SIGKILL, signal.SIGSTOP}
]


@dataclass(frozen=True)
class Launch:
    """A way to start it: what is different from the plain one."""

    name: str
    flags: tuple[str, ...] = ()  # of the interpreter
    environment: dict[str, str | None] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()  # a command that starts the interpreter
    before: Callable[[], object] | None = None  # in the process, before the interpreter starts
    options: tuple[str, ...] = ()
    needs: str = ""  # a program without which this cannot be tried
    alone: bool = False  # it hides what others do, so that it cannot be tried together with them


def limited(what: int, soft: int) -> Callable[[], None]:
    def limit() -> None:
        _, hard = resource.getrlimit(what)
        resource.setrlimit(what, (soft, hard))

    return limit


def ignoring(*numbers: int) -> Callable[[], None]:
    def ignore() -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)

    return ignore


def blocking(*numbers: int) -> Callable[[], None]:
    return lambda: signal.pthread_sigmask(signal.SIG_BLOCK, numbers)


def holding_descriptors() -> None:
    for number in range(3, 40):
        os.dup2(0, number, inheritable=True)


def without_standard_input() -> None:
    os.close(0)


QUICK = (
    Launch("under -I", flags=("-I",), alone=True),
    Launch("under -OO", flags=("-OO",)),
    Launch("with other words and times", environment={"LC_ALL": "C", "TZ": "Asia/Tokyo"}),
    Launch("with the repository of another named", environment={"GIT_DIR": "elsewhere/.git"}),
    Launch("with an empty environment", prefix=("env", "-i"), alone=True),
    Launch("with every signal ignored", before=ignoring(*SIGNALS)),
    Launch("with every signal blocked", before=blocking(*SIGNALS)),
    Launch("with few descriptors", before=limited(resource.RLIMIT_NOFILE, 64)),
    Launch("without standard input", before=without_standard_input),
)
SLOW = (
    Launch("under -E", flags=("-E",), alone=True),
    *(Launch(f"under {flag}", flags=(flag,)) for flag in ("-B", "-P", "-s", "-b", "-O", "-u")),
    *(
        Launch(f"under -X {option}", flags=("-X", option))
        for option in ("dev", "utf8=0", "utf8=1", "faulthandler", "no_debug_ranges", "tracemalloc")
    ),
    Launch("under -W error", flags=("-W", "error")),
    *(
        Launch(f"with {name}={value}", environment={name: value})
        for name, value in (
            ("PYTHONHASHSEED", "0"),
            ("PYTHONOPTIMIZE", "2"),
            ("PYTHONUTF8", "0"),
            ("PYTHONIOENCODING", "ascii"),
            ("PYTHONMALLOC", "debug"),
            ("PYTHONDEVMODE", "1"),
            ("PYTHONWARNINGS", "error"),
            ("PYTHONSTARTUP", "shadows/signal.py"),
            ("PYTHONSAFEPATH", "1"),
            ("PYTHONNOUSERSITE", "1"),
            ("PYTHONDONTWRITEBYTECODE", "1"),
            ("PYTHONINTMAXSTRDIGITS", "640"),
            ("PYTHONUSERBASE", "shadows"),
            ("LD_LIBRARY_PATH", "shadows"),
            ("LD_BIND_NOW", "1"),
            ("GIT_WORK_TREE", "elsewhere"),
            ("GIT_INDEX_FILE", "elsewhere/index"),
            ("GIT_CEILING_DIRECTORIES", "/"),
            ("GIT_OBJECT_DIRECTORY", "elsewhere"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("LC_ALL", "tr_TR.UTF-8"),
            ("LC_ALL", "no_such_locale"),
            ("LC_NUMERIC", "de_DE.UTF-8"),
            ("LANG", ""),
            ("TZ", ":/no/such/zone"),
            ("HOME", "/no/such/folder"),
            ("TMPDIR", "/no/such/folder"),
            ("TERM", "dumb"),
            ("COLUMNS", "1"),
        )
    ),
    Launch("without a home", environment={"HOME": None, "USER": None, "LOGNAME": None}),
    Launch("with a tight umask", before=lambda: os.umask(0o077)),
    Launch("with a loose umask", before=lambda: os.umask(0)),
    Launch("as the nicest of all", before=lambda: os.nice(19)),
    Launch("with a small stack", before=limited(resource.RLIMIT_STACK, 1 << 20)),
    Launch("with a large stack", before=limited(resource.RLIMIT_STACK, 512 << 20)),
    Launch("without core files", before=limited(resource.RLIMIT_CORE, 0)),
    Launch("with locked memory at 0", before=limited(resource.RLIMIT_MEMLOCK, 0)),
    Launch("with many descriptors held", before=holding_descriptors),
    Launch("in a session of its own", before=os.setsid),
    Launch(
        "on one core", before=lambda: os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])
    ),
    Launch("below nohup", prefix=("nohup",), needs="nohup"),
    Launch("below setsid", prefix=("setsid", "--wait"), needs="setsid"),
    Launch("below timeout", prefix=("timeout", "600"), needs="timeout"),
    Launch("below stdbuf", prefix=("stdbuf", "-o0"), needs="stdbuf"),
    Launch("spawned", options=("--start-method", "spawn")),
    Launch("with two workers", options=("--workers", "2")),
    Launch("with everything synced", options=("--fsync", "full")),
    Launch("with an archive", options=("--compress",)),
    *(Launch(f"with {one.name} ignored", before=ignoring(one)) for one in SIGNALS),
    *(Launch(f"with {one.name} blocked", before=blocking(one)) for one in SIGNALS),
)


def write_job(folder: pathlib.Path) -> pathlib.Path:
    """The job, and beside it what may not matter to it."""
    folder.mkdir(parents=True)
    (folder / "nosy.py").write_text(NOSY)
    (folder / "good.py").write_text(GOOD)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PLAIN_TASK, folder / "tasks" / "plain", ignore=ignore)
    rows = [{"agent": name, "task_ref": "plain@1", "seed": 5} for name in ("nosy.py", "good.py")]
    (folder / "scenario.json").write_text(json.dumps(rows))
    for place in (folder / "shadows", folder):
        place.mkdir(exist_ok=True)
        for name in SHADOWS:
            (place / f"{name}.py").write_text("import os\nos.write(1, b'shadow'); os._exit(99)\n")
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "file").touch()
    commit_all(folder / "elsewhere", "Another")
    return folder


@pytest.fixture(scope="module")
def plain(harness_clone: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the job gives when it is started plainly."""
    job = write_job(tmp_path_factory.mktemp("plain") / "job")
    found = launch([sys.executable, script_of(harness_clone)], job)
    assert [end["reason"] for end in found["ends"]] == ["agent_exception", "success"]
    assert "missing.txt" in found["ends"][0]["words"]
    return found


def script_of(clone: pathlib.Path) -> str:
    return str(clone / "scripts" / "perf_harness.py")


def launch(
    command: list[str], job: pathlib.Path, *, options: tuple[str, ...] = (), **more: Any
) -> dict[str, Any]:
    """Start it, and tell how the slice ended and each episode of it."""
    more.setdefault("stdin", subprocess.DEVNULL)
    done = subprocess.run(
        [*command, *JOB, *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
        **{"cwd": job, **more},
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stdout.count("\n") == 1, (done.stdout, done.stderr)
    document = json.loads(done.stdout)
    assert done.returncode == document["exit_code"] == 1, (done.stdout, done.stderr)
    artifacts = [json.loads(path.read_bytes()) for path in (job / "runs").glob("*.json")]
    ends = [
        {
            "agent": artifact["agent"],
            "reason": artifact["termination_reason"],
            "words": artifact["failure_reason"],
            "commit": artifact["runtime_identity"]["git_sha"],
            "artifact_hash": artifact["artifact_hash"],
            "trace_hash": artifact["trace_hash"],
        }
        for artifact in sorted(artifacts, key=lambda artifact: -artifact["seed"])
    ]
    return {
        "ends": sorted(ends, key=lambda end: str(end["agent"]), reverse=True),
        "reasons": document["reasons"],
        "files": sorted(document["artifacts"]),
    }


def packs(ways: tuple[Launch, ...], count: int) -> list[list[Launch]]:
    """The ways in so many packs, and one more of those that hide what others do."""
    together = [how for how in ways if not how.alone]
    dealt = [together[place::count] for place in range(count)]
    return [*dealt, [how for how in ways if how.alone]]


@pytest.mark.parametrize(
    "pack",
    [
        *packs(QUICK, 2),
        *(pytest.param(pack, marks=pytest.mark.slow) for pack in packs(SLOW, 12)),
    ],
    ids=lambda pack: pack[0].name,
)
def test_it_ends_the_same(
    pack: list[Launch], harness_clone: pathlib.Path, plain: dict[str, Any], tmp_path: pathlib.Path
) -> None:
    """Several ways at once, and each by itself where they do not end the same."""
    if ends_otherwise(pack, harness_clone, plain, tmp_path / "all"):
        one_by_one = [
            ends_otherwise([how], harness_clone, plain, tmp_path / str(place))
            for place, how in enumerate(pack)
        ]
        raise AssertionError("\n".join(filter(None, one_by_one)) or "only together")


def ends_otherwise(
    pack: list[Launch], clone: pathlib.Path, plain: dict[str, Any], folder: pathlib.Path
) -> str:
    """What is different, in words."""
    there = [how for how in pack if not how.needs or shutil.which(how.needs)]
    environment: dict[str, str | None] = dict(os.environ)
    for how in there:
        environment |= how.environment
    flags = [flag for how in there for flag in how.flags]
    prefix = [word for how in there for word in how.prefix]

    def before() -> None:
        for how in there:
            if how.before:
                how.before()

    try:
        found = launch(
            [*prefix, sys.executable, *flags, script_of(clone)],
            write_job(folder),
            options=tuple(word for how in there for word in how.options),
            env={name: value for name, value in environment.items() if value is not None},
            preexec_fn=before,
        )
        found["files"] = [name for name in found["files"] if name != "bundle"]
        assert found == plain
    except AssertionError as error:
        return f"{', '.join(how.name for how in there)}: {error}"
    return ""


def test_what_python_is_told_reaches_the_harness_alone(
    harness_clone: pathlib.Path, plain: dict[str, Any], tmp_path: pathlib.Path
) -> None:
    job, seen = write_job(tmp_path / "job"), tmp_path / "seen"
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text(
        f"import os, sys\nprint('noise', file=sys.stderr)\n"
        f"with open({str(seen)!r}, 'a') as file: file.write(f'{{os.getpid()}}\\n')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "path")}
    assert launch([sys.executable, script_of(harness_clone)], job, env=environment) == plain
    assert len(seen.read_text().splitlines()) == 1


def test_it_ends_the_same_from_a_linked_worktree_of_any_name_by_a_link_and_a_relative_path(
    harness_clone: pathlib.Path, plain: dict[str, Any], tmp_path: pathlib.Path
) -> None:
    folder = tmp_path / "with space/Straße-日本-🚀" / ("quo'te\"s/%s{0}$HOME/" + "x" * 120)
    worktree = folder / "worktree"
    git(harness_clone, "worktree", "add", "-q", "--detach", str(worktree))
    try:
        job = write_job(folder / "job")
        (tmp_path / "linked.py").symlink_to(script_of(worktree))
        command = [sys.executable, os.path.relpath(tmp_path / "linked.py", job)]
        assert launch(command, job) == plain
    finally:
        git(harness_clone, "worktree", "remove", "--force", str(worktree))


def test_an_episode_by_hand_ends_as_in_a_slice(
    harness_clone: pathlib.Path, plain: dict[str, Any], tmp_path: pathlib.Path
) -> None:
    job = write_job(tmp_path / "job")
    for name in SHADOWS:  # python -m puts the folder that it is started in on its path
        (job / f"{name}.py").unlink()
    words = ("--agent", "nosy.py", "--task", "plain@1", "--tasks-dir", "tasks", "--json")
    done = subprocess.run(
        [sys.executable, "-m", "tracecore", "run", *words, "--seed", "5", "--strict-spec"],
        cwd=job,
        env={**os.environ, "PYTHONPATH": str(harness_clone)},
        capture_output=True,
        text=True,
        check=False,
    )
    episode = json.loads(done.stdout)["episode"]
    assert episode["artifact_hash"] == plain["ends"][0]["artifact_hash"], done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "words"),
    [
        (["-m"], "umount -l /proc"),
        (["-Ur"], "echo 0 >/proc/sys/user/max_user_namespaces"),
    ],
    ids=["without /proc", "where no namespace can be made"],
)
def test_it_ends_the_same_where_the_kernel_gives_less(
    how: list[str],
    words: str,
    harness_clone: pathlib.Path,
    plain: dict[str, Any],
    tmp_path: pathlib.Path,
) -> None:
    away = ["unshare", *how, "sh", "-c", f'{words} && exec "$@"', "sh"]
    if subprocess.run([*away, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this cannot be taken away here")
    command = [*away, sys.executable, script_of(harness_clone)]
    assert launch(command, write_job(tmp_path / "job")) == plain


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
@pytest.mark.slow
def test_it_ends_the_same_for_another_user(
    harness_clone: pathlib.Path, plain: dict[str, Any]
) -> None:
    another = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    command = [*in_reach_of_all({sys.base_prefix, sys.prefix}), *another, sys.executable]
    asked = [*command, "-c", "import os; print(os.getuid())"]
    there = subprocess.run(asked, capture_output=True, text=True, check=False)
    if there.stdout != "65534\n":
        pytest.skip(f"no other user can start this interpreter: {there.stderr}")
    with tempfile.TemporaryDirectory() as folder:  # the tests' own folders are root's alone
        os.chmod(folder, 0o777)
        shutil.copytree(harness_clone, f"{folder}/clone", symlinks=True)
        job = write_job(pathlib.Path(folder) / "job")
        for path in (pathlib.Path(folder), *pathlib.Path(folder).rglob("*")):
            os.chown(path, 65534, 65534, follow_symlinks=False)
        assert launch([*command, script_of(pathlib.Path(folder) / "clone")], job) == plain


def in_reach_of_all(paths: set[str]) -> list[str]:
    """The beginning of a command that finds ``paths`` where they are, also where a folder above
    them is closed to all but its owner: it sees an open folder there, with these alone in it.
    """
    above = {parent for path in paths for parent in pathlib.Path(path).resolve().parents}
    closed = [parent for parent in above if not parent.stat().st_mode & stat.S_IXOTH]
    if not closed:
        return []
    top = min(closed)
    words = ["kept=$(mktemp -d)"]
    inside = sorted(path for path in paths if pathlib.Path(path).resolve().is_relative_to(top))
    for place, path in enumerate(inside):
        words += [f'mkdir "$kept/{place}"', f'mount --bind {shlex.quote(path)} "$kept/{place}"']
    words.append(f"mount -t tmpfs -o mode=755 none {shlex.quote(str(top))}")
    for place, path in enumerate(inside):
        words += [
            f"mkdir -p {shlex.quote(path)}",
            f'mount --bind "$kept/{place}" {shlex.quote(path)}',
        ]
    return ["unshare", "-m", "sh", "-c", " && ".join([*words, 'exec "$@"']), "sh"]


def test_without_git_it_says_that_the_commit_is_unknown(
    harness_clone: pathlib.Path, plain: dict[str, Any], tmp_path: pathlib.Path
) -> None:
    job = write_job(tmp_path / "job")
    done = subprocess.run(
        [sys.executable, script_of(harness_clone), *JOB],
        cwd=job,
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    (path, _) = (job / "runs").iterdir()
    if json.loads(path.read_bytes())["runtime_identity"]["git_sha"] is None:
        assert "commit" in done.stderr
    assert plain["ends"][0]["commit"]


@pytest.mark.slow
def test_it_ends_the_same_from_a_wheel(
    harness_clone: pathlib.Path, plain: dict[str, Any], tmp_path: pathlib.Path
) -> None:
    built = tmp_path / "built"
    shutil.copytree(harness_clone, built, symlinks=True)
    for name in ("pyproject.toml", "setup.py", "README.md"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(ROOT / name, built / name)
    target = str(tmp_path / "installed")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    pip += ["--no-compile", "--target", target]
    subprocess.run([*pip, str(built)], check=True)
    script = shutil.copy(script_of(harness_clone), tmp_path / "perf_harness.py")
    environment = {**os.environ, "PYTHONPATH": target}
    job = write_job(tmp_path / "job")
    found = launch([sys.executable, script], job, env=environment)
    if found["ends"][0]["commit"] is None:  # a wheel that was built without knowing its commit
        for end, expected in zip(found["ends"], plain["ends"], strict=True):
            end |= {name: expected[name] for name in ("commit", "artifact_hash")}
    assert found == plain
