"""Agents that cheat or harm, each a few lines of ``attempt()``: what it returns is given as the
answer.

``T`` holds what an attacker would know: paths of the task, the runs and a victim file, a port that
listens, processes.

Two tables of text. In the one, an agent is a line: its name, how ``failure_reason`` begins with
every layer in force (``-``: it ends in whatever way, but without success and without effect), and
the expression that it tries; what is indented goes on with the line before. In the other, it is a
heading ``== name | attempt`` with its code below.
"""

import re
import sqlite3
import sys
import textwrap
from dataclasses import dataclass

HARMLESS = None

PREFACE = """\
import os, sys
import targets as T

class Agent:
    def reset(self, task_spec):
        pass

    def observe(self, observation):
        self.observation = observation

    def act(self):
        try:
            found = attempt()
        except Exception as error:
            found = "failed: " + type(error).__name__
        return {"type": "answer", "args": {"text": str(found)}}

"""

MODULE = re.compile(r"(?<![\w.'\"])(concurrent\.futures|urllib\.request|[a-z_0-9]+)\.")
IMPORTABLE = {*sys.stdlib_module_names, "numpy"} - {"os", "sys"}


@dataclass(frozen=True)
class Hostile:
    """One agent."""

    name: str
    code: str
    attempt: str | None = HARMLESS  # with every layer in force: how `failure_reason` begins

    @property
    def source(self) -> str:
        """The agent's file."""
        return PREFACE + textwrap.dedent(self.code)


def does(name: str, line: str, attempt: str | None = HARMLESS, *, imports: str = "") -> Hostile:
    """An agent whose attempt is one expression; the modules that it names are imported."""
    found = dict.fromkeys(imports.split(", ") if imports else MODULE.findall(line))
    modules = [name for name in found if imports or name.partition(".")[0] in IMPORTABLE]
    head = f"import {', '.join(modules)}\n" if modules else ""
    return Hostile(name, f"{head}def attempt():\n    return {line}\n", attempt)


def lines(table: str) -> tuple[Hostile, ...]:
    """The agents of a table in which each is a line."""
    whole = re.sub(r"\n +", " ", table.strip())
    cells = [[cell.strip() for cell in line.split(" | ")] for line in whole.splitlines()]
    return tuple(does(name, code, None if say == "-" else say) for name, say, code in cells)


def blocks(table: str) -> tuple[Hostile, ...]:
    """The agents of a table in which each has a heading."""
    found = []
    for part in table.split("\n== ")[1:]:
        head, _, code = part.partition("\n")
        name, say = head.split(" |")
        found.append(Hostile(name, code, None if say.strip() == "-" else say.strip()))
    return tuple(found)


READS = lines(r"""
reads the setup code | open {task}/setup.py | open(T.TASK + '/setup.py').read()
reads the validator | open {task}/validate.py | open(T.TASK + '/validate.py').read()
reads the bundled tasks | open {bundled}/setup.py | open(T.BUNDLED + '/setup.py').read()
imports the setup code | import tracecore.tasks. | __import__('importlib').import_module(T.MODULE)
imports a task's code | import tasks.secret.setup: agents may not |
    __import__('tasks.secret.setup')
imports a task's code by the import system | import tasks.secret.setup: agents may not |
    importlib.import_module('tasks.secret.setup')
climbs to the setup code | open {task} | open(T.AGENTS + '/../tasks/secret/setup.py').read()
climbs from where it stands | open {task} |
    (os.chdir(T.AGENTS), open('../tasks/secret/setup.py').read())[1]
follows a link to the setup code | open link.py | open(T.AGENTS + '/link.py').read()
follows a linked folder | open linked | open(T.AGENTS + '/linked/setup.py').read()
reads as bytes | open {task}/setup.py | open(os.fsencode(T.TASK) + b'/setup.py', 'rb').read()
reads through a path object | open {task} | pathlib.Path(T.TASK, 'setup.py').read_text()
reads through FileIO | open {task} | io.FileIO(T.TASK + '/setup.py').read()
opens by the lower call | open {task}/setup.py | os.read(os.open(T.TASK + '/setup.py', 0), 999)
opens a folder | open {task} | os.open('setup.py', 0, dir_fd=os.open(T.TASK, 0))
opens its own folder to climb | open  |
    os.open('../tasks/secret/setup.py', 0, dir_fd=os.open(T.AGENTS, 0))
lists the task folder | list {task} | os.listdir(T.TASK)
scans the runs | list {runs} | [e.name for e in os.scandir(T.RUNS)]
enters the runs | enter {runs} | os.chdir(T.RUNS)
globs the runs | list {runs} | glob.glob(T.RUNS + '/*')
reads a run artifact | open {runs}/x.json | open(T.RUNS + '/x.json').read()
reads by linecache | - | linecache.getlines(T.TASK + '/setup.py')
reads by fileinput | open {task} | list(fileinput.input(T.TASK + '/setup.py'))
runs the setup code | open {task} | runpy.run_path(T.TASK + '/setup.py')
opens it as a zip | open {task} | zipfile.ZipFile(T.TASK + '/setup.py')
opens it as a database | open {task} | sqlite3.connect(T.TASK + '/setup.py')
maps it | open {task} | mmap.mmap(os.open(T.TASK + '/setup.py', 0), 0, prot=1)[:]
reads the users | open /etc/passwd | open('/etc/passwd').read()
reads the environment of its parent | open /proc/…/environ |
    open('/proc/%d/environ' % os.getppid()).read()
reads another's memory | open /proc/…/mem | open('/proc/%d/mem' % T.VICTIM_PID, 'rb').read(1)
reads another's command line | open /proc/…/cmdline |
    open('/proc/%d/cmdline' % T.VICTIM_PID).read()
lists processes | list /proc | os.listdir('/proc')
lists its descriptors | list /proc/self/fd | os.listdir('/proc/self/fd')
""") + blocks(r"""
== reads through a path that lies | open {task}
import io
class Lie(str):
    def __eq__(self, other): return True
    def __hash__(self): return 1
    def startswith(self, *_): return True
    def __str__(self): return os.__file__
def attempt():
    return io.FileIO(Lie(T.TASK + "/setup.py")).read()
== reads through a path that changes its mind | -
import io
class Turncoat:
    count = 0
    def __fspath__(self):
        Turncoat.count += 1
        return T.TASK + "/setup.py" if self.count == 1 else os.__file__
def attempt():
    return io.FileIO(Turncoat()).read()
== loads it as a module | open {task}
from importlib.machinery import SourceFileLoader
def attempt():
    return SourceFileLoader("s", T.TASK + "/setup.py").get_data(T.TASK + "/setup.py")
== greps its memory | open /proc/self/maps
def grep():
    data = []
    for line in open("/proc/self/maps"):
        span, rights = line.split()[:2]
        if rights[0] == "r" and "[v" not in line:
            low, high = (int(word, 16) for word in span.split("-"))
            with open("/proc/self/mem", "rb", 0) as memory:
                memory.seek(low)
                try:
                    data.append(memory.read(high - low))
                except (OSError, ValueError):
                    pass
    return b"".join(data)
def attempt():
    return grep()[:0] or 'nothing'
""")

LOOKS = lines(r"""
looks through gc | - | [o for o in gc.get_objects() if 'canary' in repr(o)]
asks gc who refers | - | gc.get_referrers(sys)
asks for all frames | - | sys._current_frames()
looks at its environment | - | ' '.join(os.environ.values())
looks at the command line | - | sys.argv + sys.orig_argv
measures the journal | - | os.stat(T.RUNS).st_mtime_ns
""") + blocks(r"""
== walks up the frames | -
def attempt():
    frame, seen = sys._getframe(), []
    while frame:
        seen += [repr(value) for value in frame.f_locals.values()]
        frame = frame.f_back
    import re
    return (re.findall("canary-[0-9a-f]{16}", " ".join(seen)) or ["nothing"])[0]
== walks up the frames to the means of confinement | -
def attempt():
    frame, seen = sys._getframe(), []
    while frame:
        seen += list(frame.f_locals.values())
        frame = frame.f_back
    for value in seen:
        for part in value if isinstance(value, tuple) else (value,):
            kernel = getattr(part, "kernel", None)
            if kernel is not None:
                os.kill = kernel._libc.kill(T.VICTIM_PID, 9)
            for name in ("watch", "last_filter", "drop"):
                if getattr(part, name, None) is not None:
                    raise AssertionError("found " + name)
    return "nothing"
== walks up a traceback | -
def attempt():
    try:
        1 / 0
    except ZeroDivisionError as error:
        frame, seen = error.__traceback__.tb_frame, []
        while frame:
            seen += [repr(value) for value in frame.f_globals.values()]
            frame = frame.f_back
    import re
    return (re.findall("canary-[0-9a-f]{16}", " ".join(seen)) or ["nothing"])[0]
== looks for compiled tasks | -
def attempt():
    seen = []
    for name, module in list(sys.modules.items()):
        for key, value in list(vars(module).items()) if module else ():
            if "compiled" in key or "cache" in key:
                seen.append(repr(value))
    import re
    return (re.findall("canary-[0-9a-f]{16}", " ".join(seen)) or ["nothing"])[0]
== reads every descriptor | -
def attempt():
    seen = b""
    for fd in range(3, 300):
        try:
            os.set_blocking(fd, False)
            seen += os.read(fd, 1 << 16)
        except OSError:
            pass
    return seen.decode("latin-1") or "nothing"
""")

STARTS = lines(r"""
runs a program | exec true | subprocess.run(['true'])
runs a shell | exec touch | os.system('touch ' + T.VICTIM + '.new')
runs by popen | exec  | os.popen('true').read()
spawns by posix_spawn | exec /bin/true | os.posix_spawn('/bin/true', ['true'], {})
turns into a program | exec /bin/true | os.execv('/bin/true', ['true'])
forks | fork a process | os.fork()
forks a terminal | fork a process | os.forkpty()
spawns by pty | exec true | pty.spawn('true')
starts a pool | - | __import__('multiprocessing').Pool(1)
starts processes by futures | - | concurrent.futures.ProcessPoolExecutor(1).submit(print).result()
""") + blocks(r"""
== calls fork_exec behind subprocess | make a system call
def attempt():
    import subprocess, _posixsubprocess
    r, w = os.pipe()
    argv, programs = [b"touch", os.fsencode(T.VICTIM) + b".new"], [b"/usr/bin/touch"]
    args = [argv, programs, True, (), None, None, -1, -1, -1, -1, -1, -1, r, w, True, False]
    args += [-1, None, None, None, -1, None, False]  # the last until Python 3.14
    return _posixsubprocess.fork_exec(*args[: 22 if sys.version_info >= (3, 14) else 23])
== loads fork_exec afresh | -
def attempt():
    sys.modules.pop("_posixsubprocess", None)
    import _posixsubprocess
    return _posixsubprocess.fork_exec
== leaves a daemon | fork a process
def attempt():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            import time
            time.sleep(60)
        os._exit(0)
== leaves a thread | -
import threading, time
def attempt():
    threading.Thread(target=time.sleep, args=(60,)).start()
    return "nothing"
""")

CONNECTS = lines(r"""
connects | connect 127.0.0.1:{port} | socket.create_connection(('127.0.0.1', T.PORT))
connects without a name | connect 127.0.0.1:{port} |
    socket.socket().connect(('127.0.0.1', T.PORT))
asks for a page | connect 127.0.0.1:{port} |
    urllib.request.urlopen('http://127.0.0.1:%d/' % T.PORT)
asks for a name | connect example.org | socket.gethostbyname('example.org')
resolves a name | connect example.org:80 | socket.getaddrinfo('example.org', 80)
sends a datagram | connect 127.0.0.1:{port} |
    socket.socket(2, 2).sendto(b'x', ('127.0.0.1', T.PORT))
sends a datagram message | connect 127.0.0.1 |
    socket.socket(2, 2).sendmsg([b'x'], [], 0, ('127.0.0.1', T.PORT))
listens | listen 127.0.0.1 | socket.socket().bind(('127.0.0.1', 0))
connects to a local socket | connect {victim}.sock | socket.socket(1).connect(T.VICTIM + '.sock')
opens a raw socket | make a system call | socket.socket(17, 3)
opens a netlink socket | make a system call | socket.socket(16, 3)
""")

CHANGES = lines(r"""
writes a file | write {victim} | open(T.VICTIM, 'w').write('x')
appends to a file | write {victim} | open(T.VICTIM, 'a').write('x')
opens to read and write | write {victim} | os.open(T.VICTIM, os.O_RDWR)
creates a file | write  | open(T.VICTIM + '.new', 'x')
creates beside itself | write new | open(T.AGENTS + '/new', 'w')
makes a temporary file | write  | tempfile.TemporaryFile()
removes a file | remove {victim} | os.remove(T.VICTIM)
renames a file | rename {victim} | os.rename(T.VICTIM, T.VICTIM + '.new')
truncates a file | write {victim} | os.truncate(T.VICTIM, 0)
makes a folder | create  | os.mkdir(T.VICTIM + '.new')
makes a link | link  | os.symlink('/etc', T.AGENTS + '/etc')
makes a hard link | link {victim} | os.link(T.VICTIM, T.VICTIM + '.new')
makes a pipe on disk | make a system call | os.mkfifo(T.VICTIM + '.new')
makes a device | make a system call | os.mknod(T.VICTIM + '.new', 0o666)
changes rights | change {victim} | os.chmod(T.VICTIM, 0o777)
changes times | change {victim} | os.utime(T.VICTIM, (1, 1))
removes a tree | - | shutil.rmtree(T.RUNS)
makes shared memory | - |
    __import__('multiprocessing.shared_memory').shared_memory.SharedMemory('tracecore-x',
    True, 9)
makes a file in memory | - | os.memfd_create('x')
signals its parent | signal another process | os.kill(os.getppid() or T.HARNESS_PID, 9)
signals a stranger | signal another process | os.kill(T.VICTIM_PID, 9)
signals everybody | signal another process | os.kill(-1, 9)
signals a group | signal another process | os.killpg(T.VICTIM_PID, 9)
signals through a descriptor | - | signal.pidfd_send_signal(os.pidfd_open(T.VICTIM_PID), 9)
raises its limits | change resource limits | resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
raises another's limits | change resource limits |
    resource.prlimit(T.VICTIM_PID, resource.RLIMIT_CPU, (1, 1))
sets the clock | make a system call | time.clock_settime(0, 1.0)
moves to another core | - | os.sched_setaffinity(T.VICTIM_PID, {0})
sets the host's name | change the host name | socket.sethostname('x')
becomes another user | make a system call | os.setuid(1000)
leaves the root folder | make a system call | os.chroot('/tmp')
types into the terminal | make a system call | fcntl.ioctl(0, 0x5412, b'x')
opens the terminal | open /dev/tty | open('/dev/tty', 'r').read()
writes the system log | write the system log | syslog.syslog('x')
""") + blocks(r"""
== has the kernel signal a stranger | make a system call
def attempt():
    import fcntl
    r, w = os.pipe()
    fcntl.fcntl(r, fcntl.F_SETFL, os.O_ASYNC)
    fcntl.fcntl(r, 10, 9)
    fcntl.fcntl(r, fcntl.F_SETOWN, T.VICTIM_PID)
    os.write(w, b"x")
""")

NATIVE = lines(r"""
loads native code of its own | import native | __import__('native')
makes code objects by hand | - |
    eval((lambda: 0).__code__.replace(co_code=bytes(range(0, 200, 2)) * 2))
crashes | - | faulthandler._sigsegv()
sends itself the filter's signal | - | os.kill(os.getpid(), 31)
""") + blocks(r"""
== forces ctypes in | -
def attempt():
    sys.modules.pop('ctypes', None)
    import ctypes
== finds ctypes in memory | -
def attempt():
    found = [c for c in object.__subclasses__() if c.__module__ == "_ctypes"]
    found += [c for f in found for c in f.__subclasses__()]
    CFunc = next(c for c in found if c.__name__ in ("CFuncPtr", "PyCFuncPtr"))
    kind = type(CFunc)("F", (CFunc,), {"_flags_": 1, "_restype_": None})
    kind(8)()
""")

UNDOES = lines(r"""
adds a hook of its own | - | sys.addaudithook(print)
""") + blocks(r"""
== changes the built-in names first | -
import builtins
def attempt():
    builtins.type = builtins.str = builtins.frozenset = builtins.tuple = lambda *a: "x"
    os.write = os._exit = lambda *a: None
    import posix
    posix._exit = posix.write = lambda *a: None
    return open(T.TASK + "/setup.py").read()
== reaches for the hook's frame | -
import signal
def attempt():
    kept = []
    def ring(number, frame):
        while frame:
            for value in frame.f_locals.values():
                if isinstance(value, (set, dict, list)) and "open" in value:
                    value.clear()
            frame = frame.f_back
    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
    for _ in range(3000):
        sys.audit("open", os.__file__, "r", 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    return open(T.TASK + "/setup.py").read()
== exhausts the stack before it tries |
def attempt():
    found = []
    def deep():
        try:
            deep()
        except RecursionError:
            found.append(open(T.TASK + "/setup.py").read())
    deep()
    return found
== catches everything | open /etc/passwd
def attempt():
    try:
        return open("/etc/passwd").read()
    except BaseException:
        return "caught"
    finally:
        return "finally"
== tries in a thread | open /etc/passwd
import threading
def attempt():
    thread = threading.Thread(target=lambda: open("/etc/passwd"))
    thread.start()
    thread.join()
    return "nothing"
== tries in a finaliser | open /etc/passwd
class Late:
    def __del__(self):
        open("/etc/passwd")
def attempt():
    late = Late()
    del late
    return "nothing"
== closes the pipe before it tries |
def attempt():
    os.closerange(3, 300)
    open("/etc/passwd")
== answers before it tries | open /etc/passwd
def attempt():
    import threading
    threading.Timer(0.05, lambda: open("/etc/passwd")).start()
    import time
    time.sleep(0.2)
    return "nothing"
== forges a success | -
def attempt():
    import json
    did = {"action": {"type": "finish"}}
    data = json.dumps({"seq": 2, "nonce": "0", "did": did, "success": True}).encode()
    for fd in range(3, 20):
        try:
            os.write(fd, len(data).to_bytes(4, "big") + data)
        except OSError:
            pass
== hands over a pickle | -
def attempt():
    import pickle
    class Bomb:
        def __reduce__(self):
            return (os.system, ("touch " + T.VICTIM + ".new",))
    data = pickle.dumps(Bomb())
    for fd in range(3, 20):
        try:
            os.write(fd, len(data).to_bytes(4, "big") + data)
        except OSError:
            pass
""")

EVADES = lines(r"""
imports by a name that lies | - | __import__(type('Lie', (str,), {})('_testcapi'))
locks a file | lock a file | fcntl.flock(os.open(os.__file__, 0), fcntl.LOCK_EX)
locks the null device | lock a file | fcntl.lockf(os.open(os.devnull, 1), fcntl.LOCK_EX)
locks by the lower call | make a system call | fcntl.fcntl(os.open(os.devnull, 1), 37, bytes(32))
leases a file | make a system call | fcntl.fcntl(os.open(os.__file__, 0), 1024, 1)
pairs sockets of another family | make a system call | socket.socketpair(30, 5)
writes by readline | - | readline.write_history_file(T.VICTIM)
reads by readline | - |
    readline.read_history_file(T.TASK + '/setup.py') or readline.get_history_item(2)
has the database attach the setup code | - |
    sqlite3.connect(':memory:').execute('attach ? as x', (T.TASK +
    '/setup.py',)).execute('select * from x.y')
loads readline although there is none | - |
    (sys.modules.pop('readline'), __import__('readline'))[1].write_history_file(T.VICTIM)
asks for what shared memory needs | - | __import__('multiprocessing.managers')
reads by NumPy | open {task} | numpy.fromfile(T.TASK + '/setup.py', 'u1').tobytes()
""") + blocks(r"""
== reads in an interpreter without a hook | -
def attempt():
    try:
        import _xxsubinterpreters as interpreters
    except ImportError:
        import _interpreters as interpreters
    script = "raise ValueError(open(%r).read())" % (T.TASK + "/setup.py")
    return interpreters.run_string(interpreters.create(), script)
== reads through a path that lies, from an allowed folder | open {task}
import io
class Lie(str):
    pass
def attempt():
    os.chdir(os.path.dirname(os.__file__))
    return io.FileIO(Lie(T.TASK + "/setup.py")).read()
== lists a path that lies, from an allowed folder | list {task}
class Lie(str):
    pass
def attempt():
    os.chdir(os.path.dirname(os.__file__))
    return os.listdir(Lie(T.TASK))
== loads native code by another suffix | load targets.py
def attempt():
    import _imp
    from importlib.machinery import ModuleSpec
    return _imp.create_dynamic(ModuleSpec("native", None, origin=T.AGENTS + "/targets.py"))
== makes a built-in module afresh | make a system call
def attempt():
    import _imp
    from importlib.machinery import ModuleSpec
    fresh = _imp.create_builtin(ModuleSpec("posix", None, origin="built-in"))
    _imp.exec_builtin(fresh)
    return fresh.mkfifo(T.VICTIM + ".new")
== has the words of its attempt wait in a full pipe | leave as after a forbidden attempt
import fcntl, threading
def mode(fd):
    try:
        return fcntl.fcntl(fd, fcntl.F_GETFL) & 3
    except OSError:
        return 0
def attempt():
    answers = [fd for fd in range(3, 300) if mode(fd) == os.O_WRONLY]
    _, full = os.pipe()
    os.set_blocking(full, False)
    try:
        while True:
            os.write(full, bytes(4096))
    except BlockingIOError:
        os.set_blocking(full, True)
    kept = os.dup(answers[0])
    os.dup2(full, answers[0])
    thread = threading.Thread(target=lambda: open("/etc/passwd"), daemon=True)
    thread.start()
    thread.join(1)
    os.dup2(kept, answers[0])
    return "still here"
""")

ASKS = lines(r"""
asks whether a file is there | - | os.path.exists('/etc/passwd')
asks whether the task is there | - | os.path.isdir(T.TASK)
asks through a path object | - | pathlib.Path(T.TASK).exists()
asks for access | - | os.access(T.VICTIM, os.R_OK)
asks where a link leads | - | os.readlink('/etc/mtab')
asks for the real path | - | os.path.realpath(T.TASK)
asks without following | - | os.lstat(T.VICTIM)
asks for the disk | - | os.statvfs(T.RUNS)
asks for a path's limits | - | os.pathconf(T.RUNS, 'PC_NAME_MAX')
asks for attributes | - | os.getxattr(T.VICTIM, 'user.x')
asks through a link of its own | - | os.path.exists(T.AGENTS + '/linked/setup.py')
asks by climbing | - | os.path.exists(T.AGENTS + '/../victim')
asks as bytes | - | os.stat(os.fsencode(T.VICTIM))
asks by a path that lies | - | os.stat(type('Lie', (str,), {})(T.VICTIM))
asks from a descriptor | - | os.stat('x', dir_fd=0)
asks for a program | - | shutil.which('true')
asks for the users | - | __import__('pwd').getpwall()
asks by a name of no folder | - | os.stat('tests')
""")

LINKS = lines(r"""
reads a second name of the setup code | open second.py | open(T.AGENTS + '/second.py').read()
imports a second name of the setup code | import second | __import__('second').SALT
opens a second name by the lower call | open second.py | os.open(T.AGENTS + '/second.py', 0)
climbs to a second name | open second.py | open(T.AGENTS + '/../agents/second.py').read()
""")

STARVES = blocks(r"""
== leaves no memory to see what it opens | -
def attempt():
    kept, size = [], 1 << 26
    while size > 8 and len(kept) < 64:
        try:
            kept.append(bytearray(size))
        except MemoryError:
            size >>= 1
    for _ in range(1000):
        try:
            return open("/etc/passwd").read()
        except MemoryError:
            pass
""")

HAS_EXTENSIONS = hasattr(sqlite3.Connection, "enable_load_extension")
NATIVE_CODE = (
    does(
        "loads an extension into the database",
        "(lambda found: (found.enable_load_extension(True), found.load_extension('/etc/passwd')))"
        "(sqlite3.connect(':memory:'))",
        "load /etc/passwd" if HAS_EXTENSIONS else HARMLESS,
    ),
)
HOSTILE = (
    *READS,
    *LOOKS,
    *STARTS,
    *CONNECTS,
    *CHANGES,
    *NATIVE,
    *UNDOES,
    *EVADES,
    *ASKS,
    *LINKS,
    *STARVES,
    *NATIVE_CODE,
)
