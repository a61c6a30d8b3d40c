"""The rows of the crash table: what agents and tasks do wrong, and how such an episode must end.

The first line of a row has its name, where the fault strikes, the termination reasons that are
right, and part of the failure in words; the lines below it are the code that strikes there. More
reasons than one are right where confinement decides: ``refused`` stands for those of an agent that
gets an exception, or is told as a violation, where confinement refuses the call.
"""

# Struck are load, init, reset, observe, act and second act.
AGENTS = r"""
# It takes too long.
loops while it is loaded | load | timeout | reset had not finished within
    while True: pass
loops in its constructor | init | timeout | reset had not finished within
    while True: pass
loops in reset | reset | timeout | reset had not finished within
    while True: pass
sleeps in act | act | timeout | step 1 had not finished within
    time.sleep(600)
loops in its second act | second act | timeout | step 2 had not finished within
    while True: pass
ignores every signal and loops | act | timeout | step 1
    for number in set(range(1, 32)) - {9, 19}:
        signal.signal(number, signal.SIG_IGN)
    while True: pass
holds the interpreter in C | act | timeout | step 1
    re.match('(a+)+$', 'a' * 40 + 'b')
stops itself | act | timeout refused
    os.kill(os.getpid(), signal.SIGSTOP)
swallows what ends it | act | timeout
    while True:
      try: sys.exit()
      except BaseException: pass
floods its output | act | timeout
    while True: print('x' * 65536); print('y' * 65536, file=sys.stderr)
sends half a message and waits | act | timeout | step 1
    send(frame(b'{}' * 9)[:7]); time.sleep(600)
sends a byte a moment | act | timeout | step 1
    while True: send(b'\0'); time.sleep(60)
swallows MemoryError | act | timeout
    x = []
    while True:
      try: x.append(bytes(1 << 20))
      except MemoryError: pass
# Its process ends.
exits while it is loaded | load | agent_crashed | exited with code 3 during reset
    os._exit(3)
exits in its constructor | init | agent_crashed | exited with code 4 during reset
    os._exit(4)
exits in reset | reset | agent_crashed | exited with code 5 during reset
    os._exit(5)
exits in observe | observe | agent_crashed | exited with code 6 during step 1
    os._exit(6)
exits well in act | act | agent_crashed | exited with code 0 during step 1
    os._exit(0)
exits in its second act | second act | agent_crashed | exited with code 255 during step 2
    os._exit(255)
reads where there is nothing | act | agent_crashed refused | SIGSEGV during step 1
    import ctypes; ctypes.string_at(8)
aborts | act | agent_crashed | killed by SIGABRT during step 1
    os.abort()
kills itself | act | agent_crashed refused
    os.kill(os.getpid(), 9); time.sleep(9)
raises SIGTERM | act | agent_crashed | killed by SIGTERM during step 1
    signal.raise_signal(15); time.sleep(9)
raises a signal without a name | act | agent_crashed | killed by signal 40
    signal.raise_signal(40); time.sleep(9)
rings its own alarm | act | agent_crashed | killed by SIGALRM
    signal.setitimer(0, 0.01); time.sleep(9)
# CPython 3.11 to 3.13 do not notice; a later one may raise in time.
overflows the C stack | act | agent_crashed agent_exception | SIGSEGV
    value = ()
    for _ in range(10**6): value = (value,)
    hash(value)
sends half a message and exits | act | agent_crashed | exited with code 2
    send(frame(b'{}' * 9)[:7]); os._exit(2)
exits behind a child that keeps its pipe | act | agent_crashed refused
    detach(); os._exit(7)
# It raises.
raises while it is loaded | load | agent_exception | load raised ZeroDivisionError
    1 / 0
raises in its constructor | init | agent_exception | load raised ZeroDivisionError
    1 / 0
raises in reset | reset | agent_exception | reset raised OSError: no
    raise OSError('no')
raises in observe | observe | agent_exception | observe (step 1) raised KeyError
    raise KeyError('k')
raises in act | act | agent_exception | act (step 1) raised RuntimeError: first
    raise RuntimeError('first\nsecond')
leaves with sys.exit | act | agent_exception | act (step 1) raised SystemExit: 3
    sys.exit(3)
raises KeyboardInterrupt | act | agent_exception | act (step 1) raised KeyboardInterrupt
    raise KeyboardInterrupt
raises GeneratorExit | act | agent_exception | act (step 1) raised GeneratorExit
    raise GeneratorExit
raises what has no words | act | agent_exception | act (step 1) raised Mute
    raise Mute
raises a long story | act | agent_exception | act (step 1) raised ValueError: xxx
    raise ValueError('x' * 10**7)
recurses | act | agent_exception | act (step 1) raised RecursionError
    f = lambda: f()
    f()
asks for a terabyte | act | agent_exception | act (step 1) raised MemoryError
    bytearray(1 << 40)
grows without end | act | agent_exception | raised MemoryError
    x = []
    while True: x.append(bytes(1 << 20))
is no Python | load | agent_exception | line
    def (:
# It breaks the protocol.
closes its pipes and stays | act | agent_crashed | closed its pipe
    os.closerange(3, 256); time.sleep(600)
closes its pipes and answers | act | agent_crashed | exited with code 1
    os.closerange(3, 256)
announces two gigabytes | act | agent_crashed | 2147483647 bytes
    send(b'\x7f\xff\xff\xff'); time.sleep(600)
answers twice | act | agent_crashed | belongs to no question
    send(frame(b'{}'))
answers before it is asked | reset | agent_crashed | no question
    send(frame(b'{"seq":2,"did":{}}'))
forges another nonce | act | agent_crashed | no question
    send(frame(b'{"seq":2,"nonce":"x","did":{}}'))
sends an empty message | act | invalid_action | action_not_json
    send(frame(b''))
sends garbage | act | invalid_action | action_not_json
    send(frame(bytes(range(256))))
sends UTF-16 | act | invalid_action | action_not_json
    send(frame('{}'.encode('utf-16')))
sends a BOM | act | invalid_action | action_not_json
    send(frame(b'\xef\xbb\xbf{}'))
sends an infinity | act | invalid_action | action_not_json
    send(frame(b'{"a": 1e999}'))
sends a key twice | act | invalid_action | stands twice
    send(frame(b'{"a": 1, "a": 2}'))
sends what is too deep to read | act | invalid_action | nested too deeply
    send(frame(b'[' * 9000 + b']' * 9000))
garbles its reset | reset | agent_crashed | no JSON
    send(frame(b'nonsense'))
# It gives what is no action.
gives nothing | act | invalid_action | action_must_be_dict
    return None
gives NaN | act | invalid_action | action_not_json
    return {'type': 'say', 'args': {'text': float('nan')}}
gives a huge number | act | invalid_action | out of range
    return {'type': 'say', 'args': {'text': 10**30}}
gives 5000 digits | act | invalid_action | action_not_json
    return {'type': 'say', 'args': {'text': 10**5000}}
gives a cycle | act | invalid_action | action_not_json
    x = {'type': 'say'}; x['args'] = x; return x
gives depth 100 | act | invalid_action | nested too deeply
    return {'type': 'say', 'args': {'text': nested(100)}}
gives depth 100000 | act | invalid_action | action_not_json
    return {'type': 'say', 'args': {'text': nested(10**5)}}
gives bytes | act | invalid_action | action_not_json
    return {'type': b'say'}
gives 2 MiB | act | invalid_action | action_too_large
    return {'type': 'say', 'args': {'text': 'x' * (2 << 20)}}
gives a dict that lies | act | agent_exception invalid_action
    return Liar(type='finish')
gives an unknown action | act | invalid_action | unknown_action
    return {'type': 'fly'}
keeps endless notes | act | invalid_action | action_too_large
    self.llm_trace += ['x' * (2 << 20)]
# It leaves something behind, and has done its work.
gives a lone surrogate | act | steps_exhausted success
    return {'type': 'say', 'args': {'text': '\ud800'}}
leaves a thread | act | success refused
    threading.Thread(target=time.sleep, args=(600,)).start()
leaves an exit handler | act | success
    import atexit; atexit.register(time.sleep, 600)
leaves a detached process | act | success refused
    detach()
leaves many processes | act | success refused
    for _ in range(20):
      if os.fork() == 0: time.sleep(600)
prints much | act | success
    print('x' * 10**7)
breaks its own interpreter | act | success refused
    json.dumps = os.write = len; sys.stdout = sys.excepthook = None
"""

# Struck are functions of the task, or all of a file.
TASKS = r"""
raises while it is loaded | actions.py | task_exception | loading the task raised ZeroDivisionError
    1 / 0
exits while it is loaded | validate.py | episode_crashed | exited with code 9
    import os; os._exit(9)
    def validate(env): pass
loops while it is loaded | validate.py | timeout | loading the task had not finished
    while True: pass
    def validate(env): pass
raises in setup | setup | task_exception | setup raised OSError: no
    raise OSError('no')
leaves with sys.exit in setup | setup | task_exception | setup raised SystemExit: 3
    sys.exit(3)
exits in setup | setup | episode_crashed | exited with code 3 without an answer
    os._exit(3)
exits well in setup | setup | episode_crashed | exited with code 0 without an answer
    os._exit(0)
is killed in setup | setup | episode_crashed | killed by SIGKILL
    os.kill(os.getpid(), 9)
crashes in setup | setup | episode_crashed | killed by SIGSEGV
    os.kill(os.getpid(), 11)
loops in setup | setup | timeout | setup had not finished
    while True: pass
loops in setup, and swallows what would end it | setup | timeout | the time limit
    while True:
      try: time.sleep(600)
      except BaseException: pass
stops itself in setup | setup | timeout | still running at the time limit
    os.kill(os.getpid(), 19)
recurses in setup | setup | task_exception | setup raised RecursionError
    setup(seed, env)
writes outside of its roots | setup | task_exception | setup raised
    env.write_file('/etc/passwd', '')
takes all descriptors | setup | task_exception | setup raised OSError
    import resource
    while True: os.dup(1)
bounds its own files | setup | episode_crashed | File too large
    import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1))
sets a timer of its own | setup | success
    signal.setitimer(0, 0.01); time.sleep(0.1)
sets a timer of its own, and loops | setup | timeout | setup had
    signal.setitimer(0, 0.01)
    while True: pass
raises in an action | finish | action_exception | action finish raised ValueError: no
    raise ValueError('no')
exits in an action | finish | episode_crashed | exited with code 3
    os._exit(3)
loops in an action | finish | timeout | action finish had not finished
    while True: pass
gives what is no JSON | finish | action_exception | action finish raised TypeError
    return {1, 2}
gives NaN | finish | action_exception | action finish raised ValueError
    return float('nan')
raises in validate | validate | validator_exception | validate raised ValueError: no
    raise ValueError('no')
gives None | validate | validator_exception | validate gave None
    return None
gives 2 | validate | validator_exception | not a dict with a bool ok
    return {'ok': 2}
gives a bool alone | validate | validator_exception | not a dict with a bool ok
    return True
exits in validate | validate | episode_crashed | exited with code 0
    os._exit(0)
loops in validate | validate | timeout | validate had not finished
    while True: pass
closes every descriptor | validate | episode_crashed
    os.closerange(3, 256); return {'ok': True}
closes every descriptor and stays | validate | episode_crashed | still running 1 s later
    os.closerange(3, 256); time.sleep(600)
leaves a process that keeps every pipe | validate | success
    if os.fork() == 0: time.sleep(600)
    return {'ok': True}
leaves a detached process | validate | success
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        time.sleep(600)
    return {'ok': True}
comes back twice | validate | success
    os.fork(); return {'ok': True}
comes back twice and disagrees | validate | success
    return {'ok': True} if os.fork() else {'ok': False, 'terminal': True}
comes back from its fork with an error | setup | success
    if not os.fork(): 1 / 0
"""
