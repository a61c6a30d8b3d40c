"""What agents and tasks do wrong, how each such episode must end, and the files that do it.

A row tells where the fault strikes, the code that strikes there, and the termination reason and
words it must lead to. The tests run every row as a real episode; the torture script draws from the
same rows.
"""

import pathlib
import shutil
import textwrap
from dataclasses import dataclass

PLAIN_TASK = pathlib.Path(__file__).parent / "tasks" / "plain"


@dataclass(frozen=True)
class Fault:
    """One row of the crash table."""

    name: str
    # agents: load, init, reset, observe, act, second act; tasks: the file that holds the code
    where: str
    code: str
    # the termination reasons that are right; more than one where confinement decides
    reasons: tuple[str, ...]
    words: str = ""  # part of the failure in words
    waits: bool = False  # lasts until the time limit; every other fault must be told at once


def agent(
    name: str, where: str, code: str, reason: str, words: str = "", *, waits: bool = False
) -> Fault:
    return Fault(name, where, textwrap.dedent(code), tuple(reason.split()), words, waits)


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

FOREVER = "while True: pass"
CRASHED, RAISED, INVALID, LATE, FINE = (
    "agent_crashed",
    "agent_exception",
    "invalid_action",
    "timeout",
    "success",
)
# Where confinement refuses the call, the agent gets an exception, or the episode is told as a
# violation.
REFUSED = " agent_exception sandbox_violation agent_crashed"

AGENT_FAULTS = (
    # It takes too long.
    agent(
        "loops while it is loaded",
        "load",
        FOREVER,
        LATE,
        "reset had not finished within",
        waits=True,
    ),
    agent(
        "loops in its constructor",
        "init",
        FOREVER,
        LATE,
        "reset had not finished within",
        waits=True,
    ),
    agent("loops in reset", "reset", FOREVER, LATE, "reset had not finished within", waits=True),
    agent(
        "sleeps in act",
        "act",
        "time.sleep(600)",
        LATE,
        "step 1 had not finished within",
        waits=True,
    ),
    agent(
        "loops in its second act",
        "second act",
        FOREVER,
        LATE,
        "step 2 had not finished within",
        waits=True,
    ),
    agent(
        "ignores every signal and loops",
        "act",
        """\
        for number in set(range(1, 32)) - {9, 19}:
            signal.signal(number, signal.SIG_IGN)
        while True: pass
        """,
        LATE,
        "step 1",
        waits=True,
    ),
    agent(
        "holds the interpreter in C",
        "act",
        "re.match('(a+)+$', 'a' * 40 + 'b')",
        LATE,
        "step 1",
        waits=True,
    ),
    agent(
        "stops itself",
        "act",
        "os.kill(os.getpid(), signal.SIGSTOP)",
        LATE + REFUSED,
        "",
        waits=True,
    ),
    agent(
        "swallows what ends it",
        "act",
        "while True:\n  try: sys.exit()\n  except BaseException: pass",
        LATE,
        waits=True,
    ),
    agent(
        "floods its output",
        "act",
        "while True: print('x' * 65536); print('y' * 65536, file=sys.stderr)",
        LATE,
        waits=True,
    ),
    agent(
        "sends half a message and waits",
        "act",
        "send(frame(b'{}' * 9)[:7]); time.sleep(600)",
        LATE,
        "step 1",
        waits=True,
    ),
    agent(
        "sends a byte a moment",
        "act",
        "while True: send(b'\\0'); time.sleep(60)",
        LATE,
        "step 1",
        waits=True,
    ),
    agent(
        "swallows MemoryError",
        "act",
        "x = []\nwhile True:\n  try: x.append(bytes(1 << 20))\n  except MemoryError: pass",
        LATE,
        waits=True,
    ),
    # Its process ends.
    agent(
        "exits while it is loaded",
        "load",
        "os._exit(3)",
        CRASHED,
        "exited with code 3 during reset",
    ),
    agent(
        "exits in its constructor",
        "init",
        "os._exit(4)",
        CRASHED,
        "exited with code 4 during reset",
    ),
    agent("exits in reset", "reset", "os._exit(5)", CRASHED, "exited with code 5 during reset"),
    agent(
        "exits in observe", "observe", "os._exit(6)", CRASHED, "exited with code 6 during step 1"
    ),
    agent("exits well in act", "act", "os._exit(0)", CRASHED, "exited with code 0 during step 1"),
    agent(
        "exits in its second act",
        "second act",
        "os._exit(255)",
        CRASHED,
        "exited with code 255 during step 2",
    ),
    agent(
        "reads where there is nothing",
        "act",
        "import ctypes; ctypes.string_at(8)",
        CRASHED + REFUSED,
        "SIGSEGV during step 1",
    ),
    agent("aborts", "act", "os.abort()", CRASHED, "killed by SIGABRT during step 1"),
    agent("kills itself", "act", "os.kill(os.getpid(), 9); time.sleep(9)", CRASHED + REFUSED),
    agent(
        "raises SIGTERM",
        "act",
        "signal.raise_signal(15); time.sleep(9)",
        CRASHED,
        "killed by SIGTERM during step 1",
    ),
    agent(
        "raises a signal without a name",
        "act",
        "signal.raise_signal(40); time.sleep(9)",
        CRASHED,
        "killed by signal 40",
    ),
    agent(
        "rings its own alarm",
        "act",
        "signal.setitimer(0, 0.01); time.sleep(9)",
        CRASHED,
        "killed by SIGALRM",
    ),
    agent(
        "overflows the C stack",
        "act",
        "value = ()\nfor _ in range(10**6): value = (value,)\nhash(value)",
        CRASHED + " agent_exception",  # which CPython 3.12 and later raise in time
        "SIGSEGV",
    ),
    agent(
        "sends half a message and exits",
        "act",
        "send(frame(b'{}' * 9)[:7]); os._exit(2)",
        CRASHED,
        "exited with code 2",
    ),
    agent(
        "exits behind a child that keeps its pipe",
        "act",
        "detach(); os._exit(7)",
        CRASHED + REFUSED,
        "",
    ),
    # It raises.
    agent("raises while it is loaded", "load", "1 / 0", RAISED, "load raised ZeroDivisionError"),
    agent("raises in its constructor", "init", "1 / 0", RAISED, "load raised ZeroDivisionError"),
    agent("raises in reset", "reset", "raise OSError('no')", RAISED, "reset raised OSError: no"),
    agent(
        "raises in observe",
        "observe",
        "raise KeyError('k')",
        RAISED,
        "observe (step 1) raised KeyError",
    ),
    agent(
        "raises in act",
        "act",
        "raise RuntimeError('first\\nsecond')",
        RAISED,
        "act (step 1) raised RuntimeError: first",
    ),
    agent(
        "leaves with sys.exit", "act", "sys.exit(3)", RAISED, "act (step 1) raised SystemExit: 3"
    ),
    agent(
        "raises KeyboardInterrupt",
        "act",
        "raise KeyboardInterrupt",
        RAISED,
        "act (step 1) raised KeyboardInterrupt",
    ),
    agent(
        "raises GeneratorExit",
        "act",
        "raise GeneratorExit",
        RAISED,
        "act (step 1) raised GeneratorExit",
    ),
    agent("raises what has no words", "act", "raise Mute", RAISED, "act (step 1) raised Mute"),
    agent(
        "raises a long story",
        "act",
        "raise ValueError('x' * 10**7)",
        RAISED,
        "act (step 1) raised ValueError: xxx",
    ),
    agent("recurses", "act", "f = lambda: f()\nf()", RAISED, "act (step 1) raised RecursionError"),
    agent(
        "asks for a terabyte",
        "act",
        "bytearray(1 << 40)",
        RAISED,
        "act (step 1) raised MemoryError",
    ),
    agent(
        "grows without end",
        "act",
        "x = []\nwhile True: x.append(bytes(1 << 20))",
        RAISED,
        "raised MemoryError",
    ),
    agent("is no Python", "load", "def (:", RAISED, "line"),
    # It breaks the protocol.
    agent(
        "closes its pipes and stays",
        "act",
        "os.closerange(3, 256); time.sleep(600)",
        CRASHED,
        "closed its pipe",
    ),
    agent(
        "closes its pipes and answers",
        "act",
        "os.closerange(3, 256)",
        CRASHED,
        "exited with code 1",
    ),
    agent(
        "announces two gigabytes",
        "act",
        "send(b'\\x7f\\xff\\xff\\xff'); time.sleep(600)",
        CRASHED,
        "2147483647 bytes",
    ),
    agent("answers twice", "act", "send(frame(b'{}'))", CRASHED, "belongs to no question"),
    agent(
        "answers before it is asked",
        "reset",
        'send(frame(b\'{"seq":2,"did":{}}\'))',
        CRASHED,
        "no question",
    ),
    agent(
        "forges another nonce",
        "act",
        'send(frame(b\'{"seq":2,"nonce":"x","did":{}}\'))',
        CRASHED,
        "no question",
    ),
    agent("sends an empty message", "act", "send(frame(b''))", INVALID, "action_not_json"),
    agent("sends garbage", "act", "send(frame(bytes(range(256))))", INVALID, "action_not_json"),
    agent("sends UTF-16", "act", "send(frame('{}'.encode('utf-16')))", INVALID, "action_not_json"),
    agent("sends a BOM", "act", "send(frame(b'\\xef\\xbb\\xbf{}'))", INVALID, "action_not_json"),
    agent("sends an infinity", "act", "send(frame(b'{\"a\": 1e999}'))", INVALID, "action_not_json"),
    agent(
        "sends a key twice", "act", 'send(frame(b\'{"a": 1, "a": 2}\'))', INVALID, "stands twice"
    ),
    agent(
        "sends what is too deep to read",
        "act",
        "send(frame(b'[' * 9000 + b']' * 9000))",
        INVALID,
        "nested too deeply",
    ),
    agent("garbles its reset", "reset", "send(frame(b'nonsense'))", CRASHED, "no JSON"),
    # It gives what is no action.
    agent("gives nothing", "act", "return None", INVALID, "action_must_be_dict"),
    agent(
        "gives NaN",
        "act",
        "return {'type': 'say', 'args': {'text': float('nan')}}",
        INVALID,
        "action_not_json",
    ),
    agent(
        "gives a huge number",
        "act",
        "return {'type': 'say', 'args': {'text': 10**30}}",
        INVALID,
        "out of range",
    ),
    agent(
        "gives 5000 digits",
        "act",
        "return {'type': 'say', 'args': {'text': 10**5000}}",
        INVALID,
        "action_not_json",
    ),
    agent(
        "gives a cycle",
        "act",
        "x = {'type': 'say'}; x['args'] = x; return x",
        INVALID,
        "action_not_json",
    ),
    agent(
        "gives depth 100",
        "act",
        "return {'type': 'say', 'args': {'text': nested(100)}}",
        INVALID,
        "nested too deeply",
    ),
    agent(
        "gives depth 100000",
        "act",
        "return {'type': 'say', 'args': {'text': nested(10**5)}}",
        INVALID,
        "action_not_json",
    ),
    agent("gives bytes", "act", "return {'type': b'say'}", INVALID, "action_not_json"),
    agent(
        "gives 2 MiB",
        "act",
        "return {'type': 'say', 'args': {'text': 'x' * (2 << 20)}}",
        INVALID,
        "action_too_large",
    ),
    agent("gives a dict that lies", "act", "return Liar(type='finish')", RAISED + " " + INVALID),
    agent("gives an unknown action", "act", "return {'type': 'fly'}", INVALID, "unknown_action"),
    agent(
        "keeps endless notes",
        "act",
        "self.llm_trace += ['x' * (2 << 20)]",
        INVALID,
        "action_too_large",
    ),
    # It leaves something behind, and has done its work.
    agent(
        "gives a lone surrogate",
        "act",
        "return {'type': 'say', 'args': {'text': '\\ud800'}}",
        "steps_exhausted success",
    ),
    agent(
        "leaves a thread",
        "act",
        "threading.Thread(target=time.sleep, args=(600,)).start()",
        FINE + REFUSED,
    ),
    agent("leaves an exit handler", "act", "import atexit; atexit.register(time.sleep, 600)", FINE),
    agent("leaves a detached process", "act", "detach()", FINE + REFUSED),
    agent(
        "leaves many processes",
        "act",
        "for _ in range(20):\n  if os.fork() == 0: time.sleep(600)",
        FINE + REFUSED,
    ),
    agent("prints much", "act", "print('x' * 10**7)", FINE),
    agent(
        "breaks its own interpreter",
        "act",
        "json.dumps = os.write = len; sys.stdout = sys.excepthook = None",
        FINE + REFUSED,
    ),
)


def task(
    name: str, file: str, code: str, reason: str, words: str = "", *, waits: bool = False
) -> Fault:
    return Fault(name, file, textwrap.dedent(code), tuple(reason.split()), words, waits)


def setup(name: str, code: str, reason: str, words: str = "", *, waits: bool = False) -> Fault:
    body = textwrap.indent(textwrap.dedent(code), "    ")
    return Fault(
        name,
        "setup.py",
        f"import os, signal, sys, time\ndef setup(seed, env):\n{body}",
        tuple(reason.split()),
        words,
        waits,
    )


def finish(name: str, code: str, reason: str, words: str = "", *, waits: bool = False) -> Fault:
    body = textwrap.indent(textwrap.dedent(code), "    ")
    return Fault(
        name,
        "actions.py",
        f"import os, signal, sys, time\ndef finish():\n{body}",
        tuple(reason.split()),
        words,
        waits,
    )


def validate(name: str, code: str, reason: str, words: str = "", *, waits: bool = False) -> Fault:
    body = textwrap.indent(textwrap.dedent(code), "    ")
    text = f"import os, signal, sys, time\ndef validate(env):\n{body}"
    return Fault(name, "validate.py", text, tuple(reason.split()), words, waits)


MUTE, SETUP, ACTION, VALIDATOR = (
    "episode_crashed",
    "task_exception",
    "action_exception",
    "validator_exception",
)
STUBBORN = "while True:\n  try: time.sleep(600)\n  except BaseException: pass"

TASK_FAULTS = (
    task(
        "raises while it is loaded",
        "actions.py",
        "1 / 0",
        SETUP,
        "loading the task raised ZeroDivisionError",
    ),
    task(
        "exits while it is loaded",
        "validate.py",
        "import os; os._exit(9)\ndef validate(env): pass",
        MUTE,
        "exited with code 9",
    ),
    task(
        "loops while it is loaded",
        "validate.py",
        FOREVER + "\ndef validate(env): pass",
        LATE,
        "loading the task had not finished",
        waits=True,
    ),
    setup("raises in setup", "raise OSError('no')", SETUP, "setup raised OSError: no"),
    setup("leaves with sys.exit in setup", "sys.exit(3)", SETUP, "setup raised SystemExit: 3"),
    setup("exits in setup", "os._exit(3)", MUTE, "exited with code 3 without an answer"),
    setup("exits well in setup", "os._exit(0)", MUTE, "exited with code 0 without an answer"),
    setup("is killed in setup", "os.kill(os.getpid(), 9)", MUTE, "killed by SIGKILL"),
    setup("crashes in setup", "os.kill(os.getpid(), 11)", MUTE, "killed by SIGSEGV"),
    setup("loops in setup", FOREVER, LATE, "setup had not finished", waits=True),
    setup(
        "loops in setup, and swallows what would end it",
        STUBBORN,
        LATE,
        "the time limit",
        waits=True,
    ),
    setup(
        "stops itself in setup",
        "os.kill(os.getpid(), 19)",
        LATE,
        "still running at the time limit",
        waits=True,
    ),
    setup("recurses in setup", "setup(seed, env)", SETUP, "setup raised RecursionError"),
    setup(
        "writes outside of its roots", "env.write_file('/etc/passwd', '')", SETUP, "setup raised"
    ),
    setup(
        "takes all descriptors",
        "import resource\nwhile True: os.dup(1)",
        SETUP,
        "setup raised OSError",
    ),
    setup(
        "bounds its own files",
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1))",
        MUTE,
        "File too large",
    ),
    setup("sets a timer of its own", "signal.setitimer(0, 0.01); time.sleep(0.1)", FINE),
    setup(
        "sets a timer of its own, and loops",
        "signal.setitimer(0, 0.01)\nwhile True: pass",
        LATE,
        "setup had",
        waits=True,
    ),
    finish(
        "raises in an action",
        "raise ValueError('no')",
        ACTION,
        "action finish raised ValueError: no",
    ),
    finish("exits in an action", "os._exit(3)", MUTE, "exited with code 3"),
    finish("loops in an action", FOREVER, LATE, "action finish had not finished", waits=True),
    finish("gives what is no JSON", "return {1, 2}", ACTION, "action finish raised TypeError"),
    finish("gives NaN", "return float('nan')", ACTION, "action finish raised ValueError"),
    validate(
        "raises in validate", "raise ValueError('no')", VALIDATOR, "validate raised ValueError: no"
    ),
    validate("gives None", "return None", VALIDATOR, "validate gave None"),
    validate("gives 2", "return {'ok': 2}", VALIDATOR, "not a dict with a bool ok"),
    validate("gives a bool alone", "return True", VALIDATOR, "not a dict with a bool ok"),
    validate("exits in validate", "os._exit(0)", MUTE, "exited with code 0"),
    validate("loops in validate", FOREVER, LATE, "validate had not finished", waits=True),
    validate("closes every descriptor", "os.closerange(3, 256); return {'ok': True}", MUTE, ""),
    validate(
        "closes every descriptor and stays",
        "os.closerange(3, 256); time.sleep(600)",
        MUTE,
        "still running 1 s later",
    ),
    validate(
        "leaves a process that keeps every pipe",
        "if os.fork() == 0: time.sleep(600)\nreturn {'ok': True}",
        FINE,
    ),
    validate(
        "leaves a detached process",
        """\
        if os.fork() == 0:
            os.setsid()
            if os.fork():
                os._exit(0)
            time.sleep(600)
        return {'ok': True}
        """,
        FINE,
    ),
    validate("comes back twice", "os.fork(); return {'ok': True}", FINE),
    validate(
        "comes back twice and disagrees",
        "return {'ok': True} if os.fork() else {'ok': False, 'terminal': True}",
        FINE,
    ),
    setup("comes back from its fork with an error", "if not os.fork(): 1 / 0", FINE),
)


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
