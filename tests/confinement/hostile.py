"""Agents that cheat or harm, each a few lines of ``attempt()``: what it returns is given as the
answer.

``T`` holds what an attacker would know: paths of the task, the runs and a victim file, a port that
listens, processes.
"""

import sqlite3
import textwrap
from dataclasses import dataclass

HARMLESS = None  # ends in whatever way, but without success and without effect

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
GREP = """\
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
"""


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
    """An agent whose attempt is one expression."""
    head = f"import {imports}\n" if imports else ""
    return Hostile(name, f"{head}def attempt():\n    return {line}\n", attempt)


READS = (
    does("reads the setup code", "open(T.TASK + '/setup.py').read()", "open {task}/setup.py"),
    does("reads the validator", "open(T.TASK + '/validate.py').read()", "open {task}/validate.py"),
    does(
        "reads the bundled tasks", "open(T.BUNDLED + '/setup.py').read()", "open {bundled}/setup.py"
    ),
    does(
        "imports the setup code",
        "__import__('importlib').import_module(T.MODULE)",
        "import tracecore.tasks.",
    ),
    does(
        "imports a task's code",
        "__import__('tasks.secret.setup')",
        "import tasks.secret.setup: agents may not",
    ),
    does(
        "imports a task's code by the import system",
        "importlib.import_module('tasks.secret.setup')",
        "import tasks.secret.setup: agents may not",
        imports="importlib",
    ),
    does(
        "climbs to the setup code",
        "open(T.AGENTS + '/../tasks/secret/setup.py').read()",
        "open {task}",
    ),
    does(
        "climbs from where it stands",
        "(os.chdir(T.AGENTS), open('../tasks/secret/setup.py').read())[1]",
        "open {task}",
    ),
    does(
        "follows a link to the setup code",
        "open(T.AGENTS + '/link.py').read()",
        "open link.py",
    ),
    does(
        "follows a linked folder",
        "open(T.AGENTS + '/linked/setup.py').read()",
        "open linked",
    ),
    does(
        "reads as bytes",
        "open(os.fsencode(T.TASK) + b'/setup.py', 'rb').read()",
        "open {task}/setup.py",
    ),
    does(
        "reads through a path object",
        "pathlib.Path(T.TASK, 'setup.py').read_text()",
        "open {task}",
        imports="pathlib",
    ),
    does(
        "reads through FileIO",
        "io.FileIO(T.TASK + '/setup.py').read()",
        "open {task}",
        imports="io",
    ),
    Hostile(
        "reads through a path that lies",
        """
        import io
        class Lie(str):
            def __eq__(self, other): return True
            def __hash__(self): return 1
            def startswith(self, *_): return True
            def __str__(self): return os.__file__
        def attempt():
            return io.FileIO(Lie(T.TASK + "/setup.py")).read()
        """,
        "open {task}",
    ),
    Hostile(
        "reads through a path that changes its mind",
        """
        import io
        class Turncoat:
            count = 0
            def __fspath__(self):
                Turncoat.count += 1
                return T.TASK + "/setup.py" if self.count == 1 else os.__file__
        def attempt():
            return io.FileIO(Turncoat()).read()
        """,
    ),
    does(
        "opens by the lower call",
        "os.read(os.open(T.TASK + '/setup.py', 0), 999)",
        "open {task}/setup.py",
    ),
    does("opens a folder", "os.open('setup.py', 0, dir_fd=os.open(T.TASK, 0))", "open {task}"),
    does(
        "opens its own folder to climb",
        "os.open('../tasks/secret/setup.py', 0, dir_fd=os.open(T.AGENTS, 0))",
        "open ",
    ),
    does("lists the task folder", "os.listdir(T.TASK)", "list {task}"),
    does("scans the runs", "[e.name for e in os.scandir(T.RUNS)]", "list {runs}"),
    does("enters the runs", "os.chdir(T.RUNS)", "enter {runs}"),
    does("globs the runs", "glob.glob(T.RUNS + '/*')", "list {runs}", imports="glob"),
    does("reads a run artifact", "open(T.RUNS + '/x.json').read()", "open {runs}/x.json"),
    does("reads by linecache", "linecache.getlines(T.TASK + '/setup.py')", imports="linecache"),
    does(
        "reads by fileinput",
        "list(fileinput.input(T.TASK + '/setup.py'))",
        "open {task}",
        imports="fileinput",
    ),
    does(
        "runs the setup code",
        "runpy.run_path(T.TASK + '/setup.py')",
        "open {task}",
        imports="runpy",
    ),
    Hostile(
        "loads it as a module",
        """
        from importlib.machinery import SourceFileLoader
        def attempt():
            return SourceFileLoader("s", T.TASK + "/setup.py").get_data(T.TASK + "/setup.py")
        """,
        "open {task}",
    ),
    does(
        "opens it as a zip",
        "zipfile.ZipFile(T.TASK + '/setup.py')",
        "open {task}",
        imports="zipfile",
    ),
    does(
        "opens it as a database",
        "sqlite3.connect(T.TASK + '/setup.py')",
        "open {task}",
        imports="sqlite3",
    ),
    does(
        "maps it",
        "mmap.mmap(os.open(T.TASK + '/setup.py', 0), 0, prot=1)[:]",
        "open {task}",
        imports="mmap",
    ),
    does("reads the users", "open('/etc/passwd').read()", "open /etc/passwd"),
    does(
        "reads the environment of its parent",
        "open('/proc/%d/environ' % os.getppid()).read()",
        "open /proc/…/environ",
    ),
    does(
        "reads another's memory",
        "open('/proc/%d/mem' % T.VICTIM_PID, 'rb').read(1)",
        "open /proc/…/mem",
    ),
    does(
        "reads another's command line",
        "open('/proc/%d/cmdline' % T.VICTIM_PID).read()",
        "open /proc/…/cmdline",
    ),
    does("lists processes", "os.listdir('/proc')", "list /proc"),
    does("lists its descriptors", "os.listdir('/proc/self/fd')", "list /proc/self/fd"),
    Hostile(
        "greps its memory",
        GREP + "def attempt():\n    return grep()[:0] or 'nothing'\n",
        "open /proc/self/maps",
    ),
)

LOOKS = (
    does("looks through gc", "[o for o in gc.get_objects() if 'canary' in repr(o)]", imports="gc"),
    does("asks gc who refers", "gc.get_referrers(sys)", imports="gc"),
    does("asks for all frames", "sys._current_frames()"),
    Hostile(
        "walks up the frames",
        """
        def attempt():
            frame, seen = sys._getframe(), []
            while frame:
                seen += [repr(value) for value in frame.f_locals.values()]
                frame = frame.f_back
            import re
            return (re.findall("canary-[0-9a-f]{16}", " ".join(seen)) or ["nothing"])[0]
        """,
    ),
    Hostile(
        "walks up the frames to the means of confinement",
        """
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
        """,
    ),
    Hostile(
        "walks up a traceback",
        """
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
        """,
    ),
    Hostile(
        "looks for compiled tasks",
        """
        def attempt():
            seen = []
            for name, module in list(sys.modules.items()):
                for key, value in list(vars(module).items()) if module else ():
                    if "compiled" in key or "cache" in key:
                        seen.append(repr(value))
            import re
            return (re.findall("canary-[0-9a-f]{16}", " ".join(seen)) or ["nothing"])[0]
        """,
    ),
    Hostile(
        "reads every descriptor",
        """
        def attempt():
            seen = b""
            for fd in range(3, 300):
                try:
                    os.set_blocking(fd, False)
                    seen += os.read(fd, 1 << 16)
                except OSError:
                    pass
            return seen.decode("latin-1") or "nothing"
        """,
    ),
    does("looks at its environment", "' '.join(os.environ.values())"),
    does("looks at the command line", "sys.argv + sys.orig_argv"),
    does("measures the journal", "os.stat(T.RUNS).st_mtime_ns"),
)

STARTS = (
    does("runs a program", "subprocess.run(['true'])", "exec true", imports="subprocess"),
    does("runs a shell", "os.system('touch ' + T.VICTIM + '.new')", "exec touch"),
    does("runs by popen", "os.popen('true').read()", "exec ", imports="subprocess"),
    does("spawns by posix_spawn", "os.posix_spawn('/bin/true', ['true'], {})", "exec /bin/true"),
    does("turns into a program", "os.execv('/bin/true', ['true'])", "exec /bin/true"),
    does("forks", "os.fork()", "fork a process"),
    does("forks a terminal", "os.forkpty()", "fork a process"),
    does("spawns by pty", "pty.spawn('true')", "exec true", imports="pty"),
    Hostile(
        "calls fork_exec behind subprocess",
        """
        def attempt():
            import subprocess, _posixsubprocess
            r, w = os.pipe()
            argv, programs = [b"touch", os.fsencode(T.VICTIM) + b".new"], [b"/usr/bin/touch"]
            args = [argv, programs, True, (), None, None, -1, -1, -1, -1, -1, -1, r, w, True, False]
            return _posixsubprocess.fork_exec(*args, -1, None, None, None, -1, None, False)
        """,
        "make a system call",
    ),
    Hostile(
        "loads fork_exec afresh",
        """
        def attempt():
            sys.modules.pop("_posixsubprocess", None)
            import _posixsubprocess
            return _posixsubprocess.fork_exec
        """,
    ),
    does("starts a pool", "__import__('multiprocessing').Pool(1)"),
    does(
        "starts processes by futures",
        "concurrent.futures.ProcessPoolExecutor(1).submit(print).result()",
        imports="concurrent.futures",
    ),
    Hostile(
        "leaves a daemon",
        """
        def attempt():
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    import time
                    time.sleep(60)
                os._exit(0)
        """,
        "fork a process",
    ),
    Hostile(
        "leaves a thread",
        """
        import threading, time
        def attempt():
            threading.Thread(target=time.sleep, args=(60,)).start()
            return "nothing"
        """,
    ),
)

CONNECTS = (
    does(
        "connects",
        "socket.create_connection(('127.0.0.1', T.PORT))",
        "connect 127.0.0.1:{port}",
        imports="socket",
    ),
    does(
        "connects without a name",
        "socket.socket().connect(('127.0.0.1', T.PORT))",
        "connect 127.0.0.1:{port}",
        imports="socket",
    ),
    does(
        "asks for a page",
        "urllib.request.urlopen('http://127.0.0.1:%d/' % T.PORT)",
        "connect 127.0.0.1:{port}",
        imports="urllib.request",
    ),
    does(
        "asks for a name",
        "socket.gethostbyname('example.org')",
        "connect example.org",
        imports="socket",
    ),
    does(
        "resolves a name",
        "socket.getaddrinfo('example.org', 80)",
        "connect example.org:80",
        imports="socket",
    ),
    does(
        "sends a datagram",
        "socket.socket(2, 2).sendto(b'x', ('127.0.0.1', T.PORT))",
        "connect 127.0.0.1:{port}",
        imports="socket",
    ),
    does(
        "sends a datagram message",
        "socket.socket(2, 2).sendmsg([b'x'], [], 0, ('127.0.0.1', T.PORT))",
        "connect 127.0.0.1",
        imports="socket",
    ),
    does("listens", "socket.socket().bind(('127.0.0.1', 0))", "listen 127.0.0.1", imports="socket"),
    does(
        "connects to a local socket",
        "socket.socket(1).connect(T.VICTIM + '.sock')",
        "connect {victim}.sock",
        imports="socket",
    ),
    does("opens a raw socket", "socket.socket(17, 3)", "make a system call", imports="socket"),
    does("opens a netlink socket", "socket.socket(16, 3)", "make a system call", imports="socket"),
)

CHANGES = (
    does("writes a file", "open(T.VICTIM, 'w').write('x')", "write {victim}"),
    does("appends to a file", "open(T.VICTIM, 'a').write('x')", "write {victim}"),
    does("opens to read and write", "os.open(T.VICTIM, os.O_RDWR)", "write {victim}"),
    does("creates a file", "open(T.VICTIM + '.new', 'x')", "write "),
    does("creates beside itself", "open(T.AGENTS + '/new', 'w')", "write new"),
    does("makes a temporary file", "tempfile.TemporaryFile()", "write ", imports="tempfile"),
    does("removes a file", "os.remove(T.VICTIM)", "remove {victim}"),
    does("renames a file", "os.rename(T.VICTIM, T.VICTIM + '.new')", "rename {victim}"),
    does("truncates a file", "os.truncate(T.VICTIM, 0)", "write {victim}"),
    does("makes a folder", "os.mkdir(T.VICTIM + '.new')", "create "),
    does("makes a link", "os.symlink('/etc', T.AGENTS + '/etc')", "link "),
    does("makes a hard link", "os.link(T.VICTIM, T.VICTIM + '.new')", "link {victim}"),
    does("makes a pipe on disk", "os.mkfifo(T.VICTIM + '.new')", "make a system call"),
    does("makes a device", "os.mknod(T.VICTIM + '.new', 0o666)", "make a system call"),
    does("changes rights", "os.chmod(T.VICTIM, 0o777)", "change {victim}"),
    does("changes times", "os.utime(T.VICTIM, (1, 1))", "change {victim}"),
    does("removes a tree", "shutil.rmtree(T.RUNS)", imports="shutil"),
    does(
        "makes shared memory",
        "__import__('multiprocessing.shared_memory').shared_memory.SharedMemory('tracecore-x',"
        " True, 9)",
    ),
    does("makes a file in memory", "os.memfd_create('x')"),
    does(
        "signals its parent", "os.kill(os.getppid() or T.HARNESS_PID, 9)", "signal another process"
    ),
    does("signals a stranger", "os.kill(T.VICTIM_PID, 9)", "signal another process"),
    does("signals everybody", "os.kill(-1, 9)", "signal another process"),
    does("signals a group", "os.killpg(T.VICTIM_PID, 9)", "signal another process"),
    does(
        "signals through a descriptor",
        "signal.pidfd_send_signal(os.pidfd_open(T.VICTIM_PID), 9)",
        imports="signal",
    ),
    Hostile(
        "has the kernel signal a stranger",
        """
        def attempt():
            import fcntl
            r, w = os.pipe()
            fcntl.fcntl(r, fcntl.F_SETFL, os.O_ASYNC)
            fcntl.fcntl(r, 10, 9)
            fcntl.fcntl(r, fcntl.F_SETOWN, T.VICTIM_PID)
            os.write(w, b"x")
        """,
        "make a system call",
    ),
    does(
        "raises its limits",
        "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
        "change resource limits",
        imports="resource",
    ),
    does(
        "raises another's limits",
        "resource.prlimit(T.VICTIM_PID, resource.RLIMIT_CPU, (1, 1))",
        "change resource limits",
        imports="resource",
    ),
    does("sets the clock", "time.clock_settime(0, 1.0)", "make a system call", imports="time"),
    does("moves to another core", "os.sched_setaffinity(T.VICTIM_PID, {0})"),
    does(
        "sets the host's name", "socket.sethostname('x')", "change the host name", imports="socket"
    ),
    does("becomes another user", "os.setuid(1000)", "make a system call"),
    does("leaves the root folder", "os.chroot('/tmp')", "make a system call"),
    does(
        "types into the terminal",
        "fcntl.ioctl(0, 0x5412, b'x')",
        "make a system call",
        imports="fcntl",
    ),
    does("opens the terminal", "open('/dev/tty', 'r').read()", "open /dev/tty"),
    does("writes the system log", "syslog.syslog('x')", "write the system log", imports="syslog"),
)

NATIVE = (
    Hostile(
        "forces ctypes in",
        "def attempt():\n    sys.modules.pop('ctypes', None)\n    import ctypes\n",
    ),
    Hostile(
        "finds ctypes in memory",
        """
        def attempt():
            found = [c for c in object.__subclasses__() if c.__module__ == "_ctypes"]
            found += [c for f in found for c in f.__subclasses__()]
            CFunc = next(c for c in found if c.__name__ in ("CFuncPtr", "PyCFuncPtr"))
            kind = type(CFunc)("F", (CFunc,), {"_flags_": 1, "_restype_": None})
            kind(8)()
        """,
    ),
    does("loads native code of its own", "__import__('native')", "import native"),
    does(
        "makes code objects by hand",
        "eval((lambda: 0).__code__.replace(co_code=bytes(range(0, 200, 2)) * 2))",
    ),
    does("crashes", "faulthandler._sigsegv()", imports="faulthandler"),
    does("sends itself the filter's signal", "os.kill(os.getpid(), 31)"),
)

UNDOES = (
    does("adds a hook of its own", "sys.addaudithook(print)"),
    Hostile(
        "changes the built-in names first",
        """
        import builtins
        def attempt():
            builtins.type = builtins.str = builtins.frozenset = builtins.tuple = lambda *a: "x"
            os.write = os._exit = lambda *a: None
            import posix
            posix._exit = posix.write = lambda *a: None
            return open(T.TASK + "/setup.py").read()
        """,
    ),
    Hostile(
        "reaches for the hook's frame",
        """
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
        """,
    ),
    Hostile(
        "exhausts the stack before it tries",
        """
        def attempt():
            found = []
            def deep():
                try:
                    deep()
                except RecursionError:
                    found.append(open(T.TASK + "/setup.py").read())
            deep()
            return found
        """,
        "",
    ),
    Hostile(
        "catches everything",
        """
        def attempt():
            try:
                return open("/etc/passwd").read()
            except BaseException:
                return "caught"
            finally:
                return "finally"
        """,
        "open /etc/passwd",
    ),
    Hostile(
        "tries in a thread",
        """
        import threading
        def attempt():
            thread = threading.Thread(target=lambda: open("/etc/passwd"))
            thread.start()
            thread.join()
            return "nothing"
        """,
        "open /etc/passwd",
    ),
    Hostile(
        "tries in a finaliser",
        """
        class Late:
            def __del__(self):
                open("/etc/passwd")
        def attempt():
            late = Late()
            del late
            return "nothing"
        """,
        "open /etc/passwd",
    ),
    Hostile(
        "closes the pipe before it tries",
        """
        def attempt():
            os.closerange(3, 300)
            open("/etc/passwd")
        """,
        "",
    ),
    Hostile(
        "answers before it tries",
        """
        def attempt():
            import threading
            threading.Timer(0.05, lambda: open("/etc/passwd")).start()
            import time
            time.sleep(0.2)
            return "nothing"
        """,
        "open /etc/passwd",
    ),
    Hostile(
        "forges a success",
        """
        def attempt():
            import json
            did = {"action": {"type": "finish"}}
            data = json.dumps({"seq": 2, "nonce": "0", "did": did, "success": True}).encode()
            for fd in range(3, 20):
                try:
                    os.write(fd, len(data).to_bytes(4, "big") + data)
                except OSError:
                    pass
        """,
    ),
    Hostile(
        "hands over a pickle",
        """
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
        """,
    ),
)

EVADES = (
    Hostile(
        "reads in an interpreter without a hook",
        """
        def attempt():
            try:
                import _xxsubinterpreters as interpreters
            except ImportError:
                import _interpreters as interpreters
            script = "raise ValueError(open(%r).read())" % (T.TASK + "/setup.py")
            return interpreters.run_string(interpreters.create(), script)
        """,
    ),
    Hostile(
        "reads through a path that lies, from an allowed folder",
        """
        import io
        class Lie(str):
            pass
        def attempt():
            os.chdir(os.path.dirname(os.__file__))
            return io.FileIO(Lie(T.TASK + "/setup.py")).read()
        """,
        "open {task}",
    ),
    Hostile(
        "lists a path that lies, from an allowed folder",
        """
        class Lie(str):
            pass
        def attempt():
            os.chdir(os.path.dirname(os.__file__))
            return os.listdir(Lie(T.TASK))
        """,
        "list {task}",
    ),
    does("imports by a name that lies", "__import__(type('Lie', (str,), {})('_testcapi'))"),
    Hostile(
        "loads native code by another suffix",
        """
        def attempt():
            import _imp
            from importlib.machinery import ModuleSpec
            return _imp.create_dynamic(ModuleSpec("native", None, origin=T.AGENTS + "/targets.py"))
        """,
        "load targets.py",
    ),
    Hostile(
        "makes a built-in module afresh",
        """
        def attempt():
            import _imp
            from importlib.machinery import ModuleSpec
            fresh = _imp.create_builtin(ModuleSpec("posix", None, origin="built-in"))
            _imp.exec_builtin(fresh)
            return fresh.mkfifo(T.VICTIM + ".new")
        """,
        "make a system call",
    ),
    Hostile(
        "has the words of its attempt wait in a full pipe",
        """
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
        """,
        "leave as after a forbidden attempt",
    ),
    does(
        "locks a file",
        "fcntl.flock(os.open(os.__file__, 0), fcntl.LOCK_EX)",
        "lock a file",
        imports="fcntl",
    ),
    does(
        "locks the null device",
        "fcntl.lockf(os.open(os.devnull, 1), fcntl.LOCK_EX)",
        "lock a file",
        imports="fcntl",
    ),
    does(
        "locks by the lower call",
        "fcntl.fcntl(os.open(os.devnull, 1), 37, bytes(32))",
        "make a system call",
        imports="fcntl",
    ),
    does(
        "leases a file",
        "fcntl.fcntl(os.open(os.__file__, 0), 1024, 1)",
        "make a system call",
        imports="fcntl",
    ),
    does(
        "pairs sockets of another family",
        "socket.socketpair(30, 5)",
        "make a system call",
        imports="socket",
    ),
    does("writes by readline", "readline.write_history_file(T.VICTIM)", imports="readline"),
    does(
        "reads by readline",
        "readline.read_history_file(T.TASK + '/setup.py') or readline.get_history_item(2)",
        imports="readline",
    ),
    does(
        "has the database attach the setup code",
        "sqlite3.connect(':memory:').execute('attach ? as x', (T.TASK +"
        " '/setup.py',)).execute('select * from x.y')",
        imports="sqlite3",
    ),
    does(
        "loads readline although there is none",
        "(sys.modules.pop('readline'), __import__('readline'))[1].write_history_file(T.VICTIM)",
    ),
    does("asks for what shared memory needs", "__import__('multiprocessing.managers')"),
    does(
        "reads by NumPy",
        "numpy.fromfile(T.TASK + '/setup.py', 'u1').tobytes()",
        "open {task}",
        imports="numpy",
    ),
)

HAS_EXTENSIONS = hasattr(sqlite3.Connection, "enable_load_extension")
LOAD_EXTENSION = "sqlite3.connect(':memory:').enable_load_extension(True)"
ASKS = (
    does("asks whether a file is there", "os.path.exists('/etc/passwd')"),
    does("asks whether the task is there", "os.path.isdir(T.TASK)"),
    does("asks through a path object", "pathlib.Path(T.TASK).exists()", imports="pathlib"),
    does("asks for access", "os.access(T.VICTIM, os.R_OK)"),
    does("asks where a link leads", "os.readlink('/etc/mtab')"),
    does("asks for the real path", "os.path.realpath(T.TASK)"),
    does("asks without following", "os.lstat(T.VICTIM)"),
    does("asks for the disk", "os.statvfs(T.RUNS)"),
    does("asks for a path's limits", "os.pathconf(T.RUNS, 'PC_NAME_MAX')"),
    does("asks for attributes", "os.getxattr(T.VICTIM, 'user.x')"),
    does("asks through a link of its own", "os.path.exists(T.AGENTS + '/linked/setup.py')"),
    does("asks by climbing", "os.path.exists(T.AGENTS + '/../victim')"),
    does("asks as bytes", "os.stat(os.fsencode(T.VICTIM))"),
    does("asks by a path that lies", "os.stat(type('Lie', (str,), {})(T.VICTIM))"),
    does("asks from a descriptor", "os.stat('x', dir_fd=0)"),
    does("asks for a program", "shutil.which('true')", imports="shutil"),
    does("asks for the users", "__import__('pwd').getpwall()"),
    does("asks by a name of no folder", "os.stat('tests')"),
)
LINKS = (
    does(
        "reads a second name of the setup code",
        "open(T.AGENTS + '/second.py').read()",
        "open second.py",
    ),
    does("imports a second name of the setup code", "__import__('second').SALT", "import second"),
    does(
        "opens a second name by the lower call",
        "os.open(T.AGENTS + '/second.py', 0)",
        "open second.py",
    ),
    does(
        "climbs to a second name",
        "open(T.AGENTS + '/../agents/second.py').read()",
        "open second.py",
    ),
)
STARVES = (
    Hostile(
        "leaves no memory to see what it opens",
        """
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
        """,
    ),
)
NATIVE_CODE = (
    does(
        "loads an extension into the database",
        LOAD_EXTENSION,
        "load compiled code" if HAS_EXTENSIONS else HARMLESS,
        imports="sqlite3",
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
