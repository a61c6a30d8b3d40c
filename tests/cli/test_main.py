"""``python -m tracecore``, as a user types it."""

import contextlib
import io
import json
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import tempfile

import pytest
from helpers import slices, tables
from helpers.folders import write_task
from helpers.slices import LIMITS_S, ROOT, descendants, wait_until

from tracecore.__main__ import main
from tracecore.perf.host import provenance

PROG = "python -m tracecore: "
TOY = ("--agent", "agents/toy_agent.py", "--task", "filesystem_hidden_config@1")
OWN = ("--tasks-dir", "tasks")
ACTIONS = """\
import time

def fine(text="x"):
    return {"ok": True, "text": text}

def refuse():
    return {"ok": False, "error": "not today\\x1b[2J\\n"}

def number():
    return 7

def fail():
    raise ValueError("boom\\x1b[31m\\nsecond line")

def loop():
    while True:
        time.sleep(0.01)
"""
AGENT = """\
ACTIONS = {actions!r}

class Agent:
    def reset(self, task_spec):
        print("noise on stdout")

    def observe(self, observation):
        self.step = observation["step"]

    def act(self):
        action = ACTIONS[self.step - 1]
        if action == "raise":
            raise RuntimeError("no idea\\x1b[2J")
        return {{"type": action}} if isinstance(action, str) else action
"""


@pytest.fixture(autouse=True)
def bench(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The working directory of every command: a task in which things go wrong lies in it."""
    files = {"actions.py": ACTIONS, "validate.py": "def validate(env):\n    return {'ok': False}\n"}
    write_task(tmp_path / "tasks" / "odd", files)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    # A commit may be made between two runs that a test compares.
    monkeypatch.setattr(provenance, "git_state", lambda: {"git_sha": "0" * 40, "dirty": False})
    return tmp_path


def call(*words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of ``python -m tracecore`` with ``words``, without a process for
    the command itself.
    """
    with (
        contextlib.redirect_stdout(io.StringIO()) as stdout,
        contextlib.redirect_stderr(io.StringIO()) as stderr,
    ):
        code = main(words)
    return code, stdout.getvalue(), stderr.getvalue()


def start(*words: str, **environment: str) -> "subprocess.Popen[str]":
    """The command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tracecore", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_odd(bench: pathlib.Path, *actions: object, options: tuple[str, ...] = ()) -> tuple:
    (bench / "agent.py").write_text(AGENT.format(actions=actions))
    return call("run", "--agent", "agent.py", "--task", "odd", *OWN, *options)


def only_artifact(bench: pathlib.Path, folder: str = ".agent_bench/runs") -> pathlib.Path:
    (path,) = (bench / folder).iterdir()
    return path.relative_to(bench)


def artifact_of(bench: pathlib.Path, *actions: object) -> pathlib.Path:
    """That of the odd task with these actions."""
    run_odd(bench, *actions)
    return only_artifact(bench)


def replay(path: pathlib.Path, *options: str) -> tuple[int, str, str]:
    return call("replay", str(path), *OWN, *options)


def replace_in(path: pathlib.Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def rewrite(bench: pathlib.Path, path: pathlib.Path, **fields: object) -> pathlib.Path:
    """Another artifact beside ``path`` with some fields changed, and the hashes that
    belong to it.
    """
    from tracecore.runtime.artifact import artifact_hash, trace_hash

    artifact = {**json.loads((bench / path).read_text()), **fields}
    artifact |= {"trace_hash": trace_hash(artifact), "artifact_hash": artifact_hash(artifact)}
    other = path.with_name("other.json")
    (bench / other).write_text(json.dumps(artifact))
    return other


# --- run -----------------------------------------------------------------------------------------


TALKER = """\
class Agent:
    def reset(self, task_spec): pass
    def observe(self, observation): pass
    def act(self): return {"type": "fine", "args": {"text": "x" * 100_000}}
"""


def test_the_command_of_a_failure_carries_the_limits_that_it_came_from(bench: pathlib.Path) -> None:
    (bench / "talker.py").write_text(TALKER)
    row = {"agent": "talker.py", "task_ref": "odd@1", "seed": 3}
    (bench / "scenario.json").write_text(json.dumps([row]))
    limits = ["--message-limit", "64KiB", "--memory-limit", "512MiB"]
    limits += ["--timeout", "300", "--strict-spec"]
    shape = ["--episodes", "1", "--workers", "1", "--scenario", "scenario.json"]
    done = slices.call(*shape, *OWN, *limits)
    summary = json.loads(pathlib.Path(done.document["artifacts"]["summary"]).read_bytes())
    (failure,) = summary["failures"]
    assert f"again: {failure['repro']}" in done.stderr
    command = shlex.split(failure["repro"])
    assert command[1:3] == [str(ROOT / "tracecore"), "run"]
    code, said, _ = call(*command[2:], "--json")
    assert code == 1
    assert json.loads(said)["episode"]["error"] == failure["error"]
    code, said, _ = call("run", "--agent", "talker.py", "--task", "odd@1", *OWN, "--json")
    assert json.loads(said)["episode"]["error"] != failure["error"]


def test_an_episode_that_succeeds_is_told_step_by_step(bench: pathlib.Path) -> None:
    code, stdout, stderr = call("run", *TOY, "--seed", "42")
    artifact = json.loads((bench / only_artifact(bench)).read_text())
    assert (code, stderr) == (0, "")
    lines = stdout.splitlines()
    assert lines[0] == "success"
    assert "  task        filesystem_hidden_config@1, seed 42" in lines
    assert f"  hash        {artifact['artifact_hash']}" in lines
    assert lines[-1] == f"  artifact    {only_artifact(bench)}"
    steps = [line for line in lines if re.match(r" +\d+  [\d.]+ ms ", line)]
    taken = [entry["step"] for entry in artifact["action_trace"]]
    assert [int(line.split()[0]) for line in steps] == taken
    first = r' +1  [\d.]+ ms +list_dir path="/app" +ok     \{"files":\["/app/.+…'
    assert re.fullmatch(first, steps[0])
    assert f"{artifact['steps_used']} of {artifact['budgets']['steps']} steps" in stdout


def test_an_episode_that_fails_says_why_and_leaves_with_1(bench: pathlib.Path) -> None:
    code, stdout, stderr = run_odd(bench, "fine", "refuse", "number", "fail")
    assert (code, stderr) == (1, "")
    lines = stdout.splitlines()
    assert lines[:2] == [
        "failed: action_exception (invalid_action)",
        r"  because     action fail raised ValueError: boom\x1b[31m\nsecond line",
    ]
    assert "  used        4 of 5 steps, 4 of 4 tool calls, " in stdout
    results = [
        re.split(r"(?<=ms) +", line, maxsplit=1)[1] for line in lines if re.match(r" +\d+  ", line)
    ]
    assert [" ".join(result.split()) for result in results] == [
        'fine ok {"text":"x"}',
        r"refuse error not today\x1b[2J\n",
        "number ok 7",
        r"fail error action fail raised ValueError: boom\x1b[31m\nsecond …",
    ]


@pytest.mark.parametrize(
    ("actions", "headline", "words"),
    [
        (
            ["raise"],
            "failed: agent_exception (logic_failure)",
            r"act (step 1) raised RuntimeError: no idea\x1b[2J",
        ),
        ([["\x1b[2J"]], "failed: invalid_action", r"no action: ['\x1b[2J']"),
        (
            [{"type": "nope\x1b[2J"}],
            "failed: invalid_action",
            r"unknown_action: there is no action nope\x1b[2J",
        ),
        ([{"type": "fine", "args": 1}], "failed: invalid_action", "fine 1"),
        (["fine"] * 5, "failed: tool_calls_exhausted (budget_exhausted)", "4 of 4 tool calls"),
    ],
)
def test_whatever_goes_wrong_is_told_in_lines_that_move_no_cursor(
    bench: pathlib.Path, actions, headline, words
) -> None:
    code, stdout, stderr = run_odd(bench, *actions)
    assert (code, stderr) == (1, "")
    assert stdout.splitlines()[0] == headline
    assert words in stdout
    assert all(line.isprintable() for line in stdout.splitlines())
    assert "agent said  noise on stdout" in stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import nothing_of_that_name\n", "ModuleNotFoundError"),
        (
            "def (:",
            "raised AgentError: agent.py: line 1: found 'invalid syntax', expected Python that",
        ),
    ],
)
def test_an_agent_that_cannot_be_loaded_takes_no_step(
    bench: pathlib.Path, text: str, words: str
) -> None:
    (bench / "agent.py").write_text(text)
    code, stdout, _ = call("run", "--agent", "agent.py", "--task", "odd", *OWN)
    assert code == 1
    assert words in stdout
    assert "  no step was taken" in stdout.splitlines()


def test_the_time_limit_ends_an_episode(bench: pathlib.Path) -> None:
    for limit in LIMITS_S:
        code, stdout, _ = run_odd(bench, "loop", options=("--timeout", str(limit)))
        assert code == 1
        reason = f"action loop had not finished within the time limit of {limit:g} s"
        if stdout.startswith(f"failed: timeout\n  because     {reason}\n"):
            return
    raise AssertionError(stdout)


def test_as_json_it_is_one_object_with_the_row_and_the_path(bench: pathlib.Path) -> None:
    code, stdout, stderr = run_odd(bench, "raise", options=("--json", "--runs-dir", "here"))
    document = json.loads(stdout)
    assert (code, stderr) == (1, "")
    assert (document["ok"], document["artifact"]) == (False, str(only_artifact(bench, "here")))
    artifact = json.loads((bench / document["artifact"]).read_text())
    names = {"run_id", "seed", "success", "termination_reason", "steps_used"}
    names |= {"artifact_hash", "trace_hash"}
    assert {name: document["episode"][name] for name in names} == {
        name: artifact[name] for name in names
    }


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "found no command, expected one of run, show, check, check-task, replay, list, doct"),
        (("run", *TOY, "--seed", "9" * 5000), "--seed: found '999"),
        *tables.commands(r"""
rnu | 'rnu': found no such command (did you mean run?); try --help
run --task odd | the following arguments are required: --agent; try --help
run --agent agents/toy.py --task odd | agent reference: found 'agents/toy.py', expected one
run --agent agents/toy_agent.py --task odd | task reference: found 'odd', expected one that
check | the following arguments are required: FILE; try --help
replay nope.json | nope.json: found 'No such file or directory', expected a regular file
"""),
        *(
            (("run", *TOY, *words), complaint)
            for words, complaint in tables.commands(r"""
--seed 1_0 | --seed: found '1_0', expected a whole number from -9223372036854775808
--seed 9223372036854775808 | --seed: found '9223372036854775808', expected a whole number from
--tim 3 | '--tim': found no such option (did you mean --timeout?)
\e[2J | '\x1b[2J': found a word too many
--seed=-- | --seed: found '--', expected a value
--timeout 0 | --timeout: found '0', expected a number of seconds, more than 0
--timeout nan | --timeout: found 'nan', expected a number of seconds
--runs-dir '' | --runs-dir: found '', expected a path
--runs-dir tasks/odd/task.toml/x | tasks/odd/task.toml/x: found 'Not a directory'
--tasks-dir nope | --tasks-dir: found 'nope', expected a folder that exists; try --help
--start-method x | --start-method: found 'x', expected auto, fork or spawn; try --help
--memory-limit 63MiB | --memory-limit: found '63MiB', expected bytes, or a size such as 512MiB
--memory-limit 2TB | --memory-limit: found '2TB', expected bytes, or a size such as 512MiB or 2GiB,
--message-limit 1_0KiB | --message-limit: found '1_0KiB', expected bytes, or a size such as 64KiB
--confinement on | --confinement: found 'on', expected auto, require or off; try --help
--allow-read nope | --allow-read: found 'nope', expected a file or folder that exists
--allow-network a.org | --allow-network: found 'a.org', expected a host and a port
""")
        ),
    ],
)
def test_bad_input_is_one_line_exit_code_2_and_nothing_has_run(
    bench: pathlib.Path, words: tuple[str, ...], complaint: str
) -> None:
    code, stdout, stderr = call(*words)
    assert (code, stdout) == (2, "")
    assert stderr.startswith(PROG + complaint)
    assert len(stderr.splitlines()) == 1
    assert not (bench / ".agent_bench").exists()


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("actions.py", "def (:", "line 1: found 'invalid syntax', expected Python that compiles"),
        (
            "validate.py",
            "def judge(env): pass",
            "validate: found nothing, expected a function of that name",
        ),
    ],
)
def test_a_task_that_cannot_be_loaded_is_bad_input(
    bench: pathlib.Path, file: str, text: str, complaint: str
) -> None:
    (bench / "tasks" / "odd" / file).write_text(text)
    assert run_odd(bench, "fine") == (2, "", f"{PROG}{bench}/tasks/odd/{file}: {complaint}\n")
    assert not (bench / ".agent_bench").exists()


def test_a_negative_seed_is_no_option() -> None:
    assert "seed -7" in call("run", *TOY, "--seed", "-7")[1]


def test_a_redaction_that_is_none_is_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACECORE_LLM_TRACE_REDACTION", "some")
    code, _, stderr = call("run", *TOY)
    assert code == 2
    assert "TRACECORE_LLM_TRACE_REDACTION: found 'some', expected off or partial or full" in stderr


def test_model_calls_are_counted() -> None:
    code, stdout, _ = call("run", "--agent", "agents/scripted_llm_agent.py", *TOY[2:])
    assert code == 0
    counted = r"^  model calls \d+, \d+ bytes out, \d+ in, \d+ tokens$"
    assert re.search(counted, stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("command", "number"), [("run", signal.SIGINT), ("replay", signal.SIGTERM)]
)
def test_interrupted_it_leaves_with_130_and_no_folder_behind(
    bench: pathlib.Path, command: str, number: int
) -> None:
    (bench / "agent.py").write_text(AGENT.format(actions=("loop",)))
    words = ("--agent", "agent.py", "--task", "odd", *OWN)
    if command == "replay":
        call("run", *words, "--timeout", "0.3")
        words = (str(only_artifact(bench)), "--timeout", "600", *OWN)
    process = start(command, *words, TMPDIR=str(bench))
    wait_until(lambda: descendants(process.pid))  # the episode is under way
    process.send_signal(number)
    stdout, stderr = process.communicate()
    assert (process.returncode, stdout) == (130, "")
    assert stderr.endswith(PROG + "interrupted\n")
    assert not list(bench.glob("tracecore-replay-*"))


def test_nobody_has_to_read_what_it_says(bench: pathlib.Path) -> None:
    process = start("run", *TOY)
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 0
    closed = f"exec '{sys.executable}' -m tracecore run {' '.join(TOY)} <&- >&- 2>&-"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(["sh", "-c", closed], env=environment, check=False).returncode == 0
    assert len(list((bench / ".agent_bench/runs").iterdir())) == 2


def test_a_terminal_without_unicode_gets_escapes() -> None:
    process = start("run", *TOY, PYTHONIOENCODING="ascii")
    stdout, stderr = process.communicate()
    assert (process.returncode, stderr) == (0, "")
    assert stdout.isascii()


@pytest.mark.parametrize(
    ("command", "expected"),
    [("run", "0 1 2 4 130"), ("check", "0 1 2"), ("replay", "0 1 2 4 130")],
)
def test_help_explains_the_exit_codes(command: str, expected: str) -> None:
    code, stdout, stderr = call(command, "--help")
    assert (code, stderr) == (0, "")
    codes = re.findall(r"^  (\d+) +\w", stdout.partition("exit codes:")[2], re.MULTILINE)
    assert codes == expected.split()


def test_help_and_version_need_no_command() -> None:
    assert call("--help")[0] == 0
    assert call("--version")[1].startswith("tracecore ")


def test_importing_it_costs_next_to_nothing() -> None:
    code = "import sys, tracecore.__main__; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = {name for name in done.stdout.split() if name.startswith("tracecore")}
    assert loaded == {"tracecore", "tracecore.__main__"}


# --- check ---------------------------------------------------------------------------------------


def test_valid_files_are_called_so_and_of_a_folder_only_counted(bench: pathlib.Path) -> None:
    run_odd(bench, "raise")
    run_odd(bench, "fine", "fail")
    paths = sorted(str(path.relative_to(bench)) for path in (bench / ".agent_bench/runs").iterdir())
    expected = "".join(f"{path}: valid\n" for path in paths) + "2 files: 2 valid\n"
    assert call("check", *paths) == (0, expected, "")
    assert call("check", ".agent_bench/runs") == (0, "2 files: 2 valid\n", "")
    (bench / "empty").mkdir()
    assert call("check", "empty") == (0, "0 files\n", "")


def test_each_problem_of_an_invalid_one_has_a_line(bench: pathlib.Path) -> None:
    path = artifact_of(bench, "raise")
    artifact = json.loads((bench / path).read_text())
    (bench / "a.json").write_text(json.dumps({**artifact, "seed": "\x1b[2J", "steps_used": -1}))
    (bench / "b.json").write_text(json.dumps({**artifact, "failure_reason": "something else"}))
    (bench / "c.json").write_text('{"a": NaN}')
    code, stdout, stderr = call("check", "a.json", str(path), "b.json", "c.json")
    assert (code, stderr) == (1, "")
    lines = stdout.splitlines()
    assert lines[:3] == [
        r"a.json: $.seed: found '\x1b[2J', expected an integer",
        "a.json: $.steps_used: found -1, expected an integer of at least 0",
        f"{path}: valid",
    ]
    assert lines.pop() == "4 files: 1 valid, 3 not valid"
    assert [line.partition(": found")[0] for line in lines[3:]] == [
        "b.json: $.artifact_hash",
        "b.json: $.trace_hash",
        "c.json",
    ]


def test_a_file_that_cannot_be_read_does_not_keep_it_from_the_others(bench: pathlib.Path) -> None:
    path = str(artifact_of(bench, "raise"))
    (bench / "bad.json").write_text("{}")
    code, stdout, stderr = call("check", "nope.json", path, "bad.json", "odd.json/x")
    assert code == 2
    assert f"{path}: valid" in stdout.splitlines()
    assert "bad.json: $.spec_version: found nothing" in stdout
    assert [line.split(": ")[1] for line in stderr.splitlines()] == ["nope.json", "odd.json/x"]


# --- list ------------------------------------------------------------------------------------


def test_what_there_is_to_run_and_what_was_run_is_listed(bench: pathlib.Path) -> None:
    slices.call("--episodes", "1", "--workers", "1", "--output-dir", "out")
    (bench / "out" / ".perf-journal-20260101T000000Z.jsonl").write_text("begun")
    (bench / "tasks" / "broken").mkdir()
    (bench / "tasks" / "broken" / "task.toml").write_text("")
    code, stdout, _ = call("list", *OWN, "--output-dir", "out", "--json")
    found = json.loads(stdout)
    assert code == 0
    names = {kind: {one.get("name") for one in found[kind]} for kind in found}
    assert {"odd@1", "filesystem_hidden_config@1", "broken"} <= names["tasks"]
    assert "agents/toy_agent.py" in names["agents"]
    assert names["scenarios"] == {"agents/scripted_llm_scenario.toml"}
    unfinished, finished = found["slices"]
    assert (unfinished["name"], unfinished["about"]) == ("20260101T000000Z", "unfinished")
    assert (finished["episodes"], finished["exit_code"]) == (1, 0)
    code, stdout, _ = call("list", *OWN, "--output-dir", "out")
    assert code == 0
    assert "  odd@1" in stdout
    assert stdout.endswith("baselines\n  none\n")


# --- replay --------------------------------------------------------------------------------------


def test_the_same_episode_agrees_and_leaves_nothing_behind(bench: pathlib.Path) -> None:
    call("run", *TOY, "--seed", "42")
    path, before = only_artifact(bench), sorted(bench.rglob("*"))
    code, stdout, stderr = call("replay", str(path))
    assert (code, stderr) == (0, "")
    expected = json.loads((bench / path).read_text())["artifact_hash"]
    assert stdout == f"{path}: agrees\n  hash        {expected}\n"
    assert sorted(bench.rglob("*")) == before


def test_a_failed_episode_of_a_task_of_ones_own_agrees_as_well(bench: pathlib.Path) -> None:
    code, stdout, _ = replay(artifact_of(bench, "fine", "refuse", "fail"), "--runs-dir", "again")
    assert code == 0
    assert stdout.splitlines()[-1] == f"  artifact    {only_artifact(bench, 'again')}"


def test_the_time_limit_is_the_one_of_then(bench: pathlib.Path) -> None:
    for limit in (1, 10, 100):  # whole seconds, as an artifact has them
        folder = f"runs-{limit}"
        run_odd(bench, "loop", options=("--timeout", str(limit), "--runs-dir", folder))
        path = only_artifact(bench, folder)
        if replay(path)[0] == 0:  # both got as far as the loop
            break
    assert json.loads((bench / path).read_text())["action_trace"]
    code, stdout, _ = replay(path, "--timeout", str(limit / 2))
    assert code == 1
    assert "depends on the machine" in stdout


@pytest.mark.parametrize(
    ("actions", "file", "old", "new", "expected"),
    [
        (
            ("fine", "number", "fail"),
            "tasks/odd/actions.py",
            "return 7",
            "return 8",
            [
                "  step 2 result",
                "  then        7",
                "  now         8",
                "  note        the task's folder has changed since",
            ],
        ),
        (
            ({"type": "fine", "args": {"text": "x" * 5000 + "then"}}, "raise"),
            "agent.py",
            "xthen",
            "xnow",
            [
                "  step 1 action.args.text",
                f'  then        …{"x" * 30}then"',
                f'  now         …{"x" * 30}now"',
                "  note        the agent's file has changed since",
            ],
        ),
        (
            ("fine", "number", "raise"),
            "agent.py",
            "'number'",
            "'raise'",
            [
                "  step 2",
                "  then        number",
                "  now         no such step",
                "  note        the agent's file has changed since",
            ],
        ),
    ],
    ids=["another result", "long texts around the place where they part", "an earlier end"],
)
def test_another_behaviour_is_shown_where_it_begins(
    bench: pathlib.Path, actions, file, old, new, expected
) -> None:
    path = artifact_of(bench, *actions)
    replace_in(bench / file, old, new)
    code, stdout, stderr = replay(path)
    assert (code, stderr) == (1, "")
    assert stdout.splitlines() == [f"{path}: differs", *expected]


def test_an_agent_that_changed_without_another_behaviour_differs_all_the_same(
    bench: pathlib.Path,
) -> None:
    path = artifact_of(bench, "raise")
    with (bench / "agent.py").open("a") as file:
        file.write("# a comment\n")
    code, stdout, _ = replay(path)
    lines = stdout.splitlines()
    assert code == 1
    assert lines[:2] == [f"{path}: differs (trace_hash agrees)", "  agent_hash"]
    assert lines[-1] == "  note        the agent's file has changed since"


def test_under_another_runtime_the_behaviour_decides(bench: pathlib.Path) -> None:
    runtime = {"name": "tracecore", "version": "0.0.1", "git_sha": None}
    other = rewrite(bench, artifact_of(bench, "fine", "raise"), runtime_identity=runtime)
    code, stdout, _ = replay(other)
    assert code == 0
    assert stdout.splitlines()[0] == f"{other}: same behaviour under another runtime"
    assert "the runtime was tracecore 0.0.1 at no commit, and is tracecore " in stdout
    artifact = json.loads((bench / other).read_text())
    assert f"  trace hash  {artifact['trace_hash']}" in stdout.splitlines()
    replace_in(bench / "tasks/odd/actions.py", '"text": text', '"text": 0')
    code, stdout, _ = replay(other)
    assert code == 1
    assert "  step 1 result.text" in stdout.splitlines()


def test_what_is_not_found_where_it_was_is_asked_for(bench: pathlib.Path) -> None:
    path = artifact_of(bench, "raise")
    code, stdout, stderr = call("replay", str(path))
    assert (code, stdout) == (2, "")
    assert "task reference: found 'odd@1'" in stderr
    assert stderr.endswith("; --tasks-dir names its place\n")
    (bench / "agent.py").rename(bench / "moved.py")
    code, _, stderr = replay(path)
    assert code == 2
    assert stderr.startswith(f"{PROG}{path}: agent reference: found 'agent.py'")
    assert stderr.endswith("; --agent names its place\n")
    assert replay(path, "--agent", "moved.py")[0] == 0


def test_an_invalid_artifact_is_not_run(bench: pathlib.Path) -> None:
    path = artifact_of(bench, "raise")
    artifact = json.loads((bench / path).read_text())
    (bench / path).write_text(json.dumps({**artifact, "seed": 1}))
    code, stdout, stderr = replay(path)
    assert (code, stdout) == (2, "")
    assert f"{path}: $.artifact_hash: found " in stderr
    assert len(stderr.splitlines()) == 1
