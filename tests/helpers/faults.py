"""What agents and tasks do wrong, how each such episode must end, and the files that do it.

The tests run every row as a real episode; the torture script draws from the same rows.
"""

import pathlib
import re
import shutil
import textwrap
from dataclasses import dataclass

from helpers import crash_table

PLAIN_TASK = pathlib.Path(__file__).parent / "tasks" / "plain"


@dataclass(frozen=True)
class Fault:
    """One row of the crash table."""

    name: str
    # agents: load, init, reset, observe, act, second act; tasks: the file that holds the code
    where: str
    code: str
    reasons: tuple[str, ...]  # the termination reasons that are right
    words: str = ""  # part of the failure in words

    @property
    def waits(self) -> bool:
        """Whether it lasts until the time limit; every other fault must be told at once."""
        return "timeout" in self.reasons


REFUSED = "agent_exception sandbox_violation agent_crashed"
FUNCTIONS = {  # of a task: its file and its head
    "setup": ("setup.py", "setup(seed, env)"),
    "finish": ("actions.py", "finish()"),
    "validate": ("validate.py", "validate(env)"),
}


def faults_of(table: str) -> tuple[Fault, ...]:
    text = re.sub("^#.*\n", "", table, flags=re.MULTILINE).strip("\n")
    return tuple(map(_fault_of, re.split(r"\n(?! )", text)))


def _fault_of(row: str) -> Fault:
    head, _, code = row.partition("\n")
    name, where, reasons, *words = head.split(" | ")
    if where in FUNCTIONS:
        where, signature = FUNCTIONS[where]
        code = f"import os, signal, sys, time\ndef {signature}:\n{code}"
    reasons = reasons.replace("refused", REFUSED)
    return Fault(name, where, textwrap.dedent(code), tuple(reasons.split()), "".join(words))


AGENT_FAULTS = faults_of(crash_table.AGENTS)
TASK_FAULTS = faults_of(crash_table.TASKS)

AGENT_PREFACE = """\
import json, os, re, signal, sys, threading, time

def pipe(kind):
    for fd in range(3, 64):
        try:
            os.write(fd, b"")
            found = "write"
        except OSError as error:
            if error.errno != 9:
                continue
            try:
                os.fstat(fd)
            except OSError:
                continue
            found = "read"
        if found == kind:
            return fd

def frame(data):
    return len(data).to_bytes(4, "big") + data

def send(data):
    os.write(pipe("write"), data)

def detach(seconds=60):
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    for number in range(1, 32):
        if number not in (9, 19):
            signal.signal(number, signal.SIG_IGN)
    time.sleep(seconds)
    os._exit(0)

class Liar(dict):
    def __iter__(self):
        raise KeyboardInterrupt("not now")
    keys = items = values = __iter__

class Mute(Exception):
    def __str__(self):
        raise ValueError("no words")

def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value
"""
AGENT = """\
{load}

class Agent:
    def __init__(self):
        self.llm_trace = []
        {init}

    def reset(self, task_spec):
        self.steps = 0
        {reset}

    def observe(self, observation):
        self.steps += 1
        {observe}

    def act(self):
        if self.steps == {step}:
            {act}
            pass
        elif self.steps < {step}:
            return {{"type": "look"}}
        return {{"type": "finish"}}
"""


def write_agent(fault: Fault | None, path: pathlib.Path) -> pathlib.Path:
    """An agent with this fault at ``path``; without one it solves the plain task in one step."""
    where = fault.where if fault else ""
    step = 2 if where == "second act" else 1
    parts = {"load": "", "init": "", "reset": "", "observe": "", "act": ""}
    if fault:
        place = "act" if where == "second act" else where
        indent = {"load": 0, "act": 12}.get(place, 8)
        parts[place] = fault.code.strip().replace("\n", "\n" + " " * indent)
    path.write_text(AGENT_PREFACE + AGENT.format(step=step, **parts), "utf-8", "surrogatepass")
    return path


def write_plain_task(fault: Fault | None, folder: pathlib.Path) -> pathlib.Path:
    """The plain task at ``folder`` under the folder's name, with this fault in one of its files."""
    shutil.copytree(PLAIN_TASK, folder, ignore=shutil.ignore_patterns("__pycache__"))
    manifest = folder / "task.toml"
    manifest.write_text(manifest.read_text().replace('id = "plain"', f'id = "{folder.name}"'))
    if fault:
        (folder / fault.where).write_text(fault.code)
    return folder
