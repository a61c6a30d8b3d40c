"""Seccomp filters: which system calls an agent's process may make, as programs for the kernel.

Two stages. The first is applied once, in the zygote, and every agent inherits it for nothing: what
no agent needs ends the process, what is not known by name answers "no such call", so that a
kernel's newer calls are closed too. The second is short, and goes on in each agent right after its
birth: it takes what the zygote itself needs, which is to fork and to kill.
"""

import os
import struct
from collections.abc import Iterable
from typing import Final

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, constant
Rules = dict[str, list[Instruction]]  # name of a system call: what always returns

# column of the tables, AUDIT_ARCH
ARCHITECTURES: Final = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
NO_NETWORK: Final = "none"
STREAMS: Final = "streams"
ANY_NETWORK: Final = "any"
SOCK_STREAM, TYPE_MASK = 1, 0xF
SOME_PID: Final = 0x5A5A5A5A  # beyond every process id
X32_BIT: Final = 0x40000000
CLONE_THREAD: Final = 0x10000
AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
# TCGETS TIOCGWINSZ FIONREAD FIONBIO FIONCLEX FIOCLEX
IOCTL_QUERIES: Final = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
IOCTL_ATTEMPTS: Final = (0x5412, 0x541C, 0x540E)  # TIOCSTI TIOCLINUX TIOCSCTTY
# F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_GETOWN F_GETSIG F_GETOWN_EX F_DUPFD_CLOEXEC F_GETPIPE_SZ
# F_GET_SEALS: of the process's own descriptors. The others lock files, have signals sent, or leave
# a mark on a file that outlives the episode.
FCNTL_HARMLESS: Final = (0, 1, 2, 3, 4, 9, 11, 16, 1030, 1032, 1034)
# NORMAL RANDOM SEQUENTIAL WILLNEED DONTNEED FREE DONTFORK DOFORK HUGEPAGE NOHUGEPAGE DONTDUMP
# DODUMP POPULATE_READ _WRITE: of the process's own pages. Others have pages of files put out, which
# a later reader of them can notice.
MADVISE_HARMLESS: Final = (0, 1, 2, 3, 4, 8, 10, 11, 14, 15, 16, 17, 22, 23)
# GET_DUMPABLE SET_NAME GET_NAME GET_NO_NEW_PRIVS SET_VMA
PRCTL_HARMLESS: Final = (3, 15, 16, 39, 0x53564D41)

SOL_SOCKET: Final = 1
SOCKET_BUFFERS: Final = (7, 8, 32, 33)  # SO_SNDBUF SO_RCVBUF SO_SNDBUFFORCE SO_RCVBUFFORCE

RET_KILL: Final = 0x80000000  # the process, not the thread
RET_ALLOW: Final = 0x7FFF0000
RET_ERRNO: Final = 0x00050000
EACCES, EINVAL, ENOTTY, ENOSYS = 13, 22, 25, 38
_LOAD, _EQUAL, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x45, 0x54, 0x06
_NUMBER, _ARCH, _ARGS = 0, 4, 16  # offsets in struct seccomp_data


def architecture() -> str | None:
    """The machine's name if there is a table for it."""
    machine = os.uname().machine
    return machine if machine in ARCHITECTURES else None


def zygote_filter(machine: str, *, network: str) -> bytes:
    """The first stage, for the zygote and, by inheritance, its agents.

    Args:
        machine: Of which the numbers are.
        network: ``NO_NETWORK``; ``STREAMS`` where agents share a network of their own, in which
            datagrams would be a way from one to another; or ``ANY_NETWORK``.
    """
    has_network, may_bind = network != NO_NETWORK, network == ANY_NETWORK
    by_argument: Rules = {
        # its flags lie in memory: callers fall back to clone
        "clone3": [_return(RET_ERRNO | ENOSYS)],
        "socket": _sockets(network),
        "socketpair": _socket_pairs(network),
        "ioctl": [
            *_each(1, IOCTL_ATTEMPTS, RET_KILL),
            *_one_of(1, IOCTL_QUERIES, RET_ERRNO | ENOTTY),
        ],
        "fcntl": _one_of(1, FCNTL_HARMLESS, RET_KILL),
        "madvise": _one_of(2, MADVISE_HARMLESS, RET_ERRNO | EINVAL),
        # With no flags, as Python calls them: one flag shows whether a file has been read lately.
        "preadv2": _one_of(5, (0,), RET_KILL),
        "pwritev2": _one_of(5, (0,), RET_KILL),
        "setsockopt": _without_larger_buffers(),
        # A socket pair's own ends may be written to; a call that names an address is a message to
        # the outside.
        "sendto": [_return(RET_ALLOW)] if has_network else _null_pointer(4),
        "bind": [_return(RET_ALLOW if may_bind else RET_ERRNO | EACCES)],
    }
    # which agents lose, most of it: see below
    kept = {
        name: [_return(RET_ALLOW)] for name in ("kill", "tgkill", "clone", "prctl", "prlimit64")
    }
    return _pack(
        [
            (_LOAD, 0, 0, _ARCH),
            (_EQUAL, 1, 0, ARCHITECTURES[machine][1]),
            _return(RET_KILL),
            (_LOAD, 0, 0, _NUMBER),
            *([(_ANY_BIT, 0, 1, X32_BIT), _return(RET_KILL)] if machine == "x86_64" else []),
            *_by_name(machine, {**by_argument, **kept}),
            *_listed(machine, LAST, RET_ALLOW),
            *_listed(machine, NETWORK, RET_ALLOW if has_network else RET_KILL),
            *_listed(machine, STARTS, RET_ERRNO | EACCES),
            *_listed(machine, REFUSED, RET_KILL),
            *_listed(machine, ALLOWED, RET_ALLOW),
            _return(RET_ERRNO | ENOSYS),
        ]
    )


def _sockets(network: str) -> list[Instruction]:
    if network == NO_NETWORK:
        return _one_of(0, (AF_UNIX, AF_INET, AF_INET6), RET_KILL)
    # Looking names up tries a local socket, one to the kernel and a datagram, and goes on without
    # them. By a local one, a path leads to any socket of the machine.
    refused = (AF_UNIX, AF_NETLINK) if network == STREAMS else (AF_UNIX,)
    return [
        *_each(0, refused, RET_ERRNO | EACCES),
        *(_only_streams() if network == STREAMS else ()),
        *_one_of(0, (AF_INET, AF_INET6, AF_NETLINK), RET_KILL),
    ]


def _socket_pairs(network: str) -> list[Instruction]:
    if network == NO_NETWORK:
        return _one_of(0, (AF_UNIX,), RET_KILL)
    # One that takes datagrams can be connected to a path.
    return [*_only_streams(), *_one_of(0, (AF_UNIX,), RET_KILL)]


def _only_streams() -> list[Instruction]:
    """Go on where the second argument is the type of a stream."""
    return [
        (_LOAD, 0, 0, _ARGS + 8),
        (_AND, 0, 0, TYPE_MASK),
        (_EQUAL, 1, 0, SOCK_STREAM),
        _return(RET_ERRNO | EACCES),
    ]


def agent_filter(machine: str, *, may_bind: bool) -> bytes:
    """The second stage, for the agent process ``SOME_PID``: no process but threads, no program, no
    signal but to itself; unless it ``may_bind``, no name of a socket.
    """
    by_argument: Rules = {
        "clone": [
            (_LOAD, 0, 0, _ARGS),
            (_ANY_BIT, 1, 0, CLONE_THREAD),
            _return(RET_KILL),
            _return(RET_ALLOW),
        ],
        "prctl": _one_of(0, PRCTL_HARMLESS, RET_KILL),
        "prlimit64": _null_pointer(2),
        "kill": _one_of(0, (SOME_PID,), RET_KILL),
        "tgkill": _one_of(0, (SOME_PID,), RET_KILL),
        "bind": [_return(RET_ALLOW if may_bind else RET_KILL)],
    }
    return _pack(
        [
            (_LOAD, 0, 0, _NUMBER),
            *_by_name(machine, by_argument),
            *_listed(machine, LAST, RET_KILL),
            *_listed(machine, STARTS, RET_KILL),
            _return(RET_ALLOW),
        ]
    )


def numbers_of(table: str, machine: str) -> dict[str, int]:
    """The system calls of a table that there are on a machine, by name."""
    column = 1 + ARCHITECTURES[machine][0]
    rows = [row.split() for row in table.split(";")]
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}


def _by_name(machine: str, rules: Rules) -> list[Instruction]:
    numbers = numbers_of(BY_ARGUMENT, machine)
    return [step for name, rule in rules.items() for step in _when(numbers[name], rule)]


def _listed(machine: str, table: str, action: int) -> list[Instruction]:
    numbers = sorted(numbers_of(table, machine).values())
    return [step for number in numbers for step in _when(number, [_return(action)])]


def _when(number: int, rule: list[Instruction]) -> list[Instruction]:
    return [(_EQUAL, 0, len(rule), number), *rule]


def _one_of(argument: int, values: Iterable[int], otherwise: int) -> list[Instruction]:
    return [*_each(argument, values, RET_ALLOW), _return(otherwise)]


def _each(argument: int, values: Iterable[int], action: int) -> list[Instruction]:
    steps: list[Instruction] = [(_LOAD, 0, 0, _ARGS + 8 * argument)]
    for value in values:
        steps += [(_EQUAL, 0, 1, value), _return(action)]
    return steps


def _without_larger_buffers() -> list[Instruction]:
    """Answer as if done, and do nothing: what lies in a buffer is in no process's memory, and so
    beyond its limit.
    """
    return [
        (_LOAD, 0, 0, _ARGS + 8),
        (_EQUAL, 1, 0, SOL_SOCKET),
        _return(RET_ALLOW),
        *_each(2, SOCKET_BUFFERS, RET_ERRNO),
        _return(RET_ALLOW),
    ]


def _null_pointer(argument: int) -> list[Instruction]:
    low = _ARGS + 8 * argument
    return [
        (_LOAD, 0, 0, low),
        (_EQUAL, 1, 0, 0),
        _return(RET_KILL),
        (_LOAD, 0, 0, low + 4),
        (_EQUAL, 1, 0, 0),
        _return(RET_KILL),
        _return(RET_ALLOW),
    ]


def _return(action: int) -> Instruction:
    return (_RETURN, 0, 0, action)


def _pack(program: list[Instruction]) -> bytes:
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)


# Names of system calls with their numbers on x86_64 and aarch64; "-" where there is no such call.
# Text: workers load this and do not need it.

# Reading, memory, time, threads, pipes: what Python and its libraries need, and what changes
# nothing outside the process.
ALLOWED: Final = """
    read 0 63; write 1 64; readv 19 65; writev 20 66; pread64 17 67; pwrite64 18 68;
    preadv 295 69; pwritev 296 70; open 2 -; openat 257 56; close 3 57; close_range 436 436;
    stat 4 -; fstat 5 80; lstat 6 -; newfstatat 262 79; statx 332 291; statfs 137 43;
    fstatfs 138 44; poll 7 -; ppoll 271 73; select 23 -; pselect6 270 72; epoll_create 213 -;
    epoll_create1 291 20; epoll_ctl 233 21; epoll_wait 232 -; epoll_pwait 281 22;
    epoll_pwait2 441 441; lseek 8 62; mmap 9 222; mprotect 10 226; munmap 11 215; mremap 25 216;
    msync 26 227; brk 12 214; mlock 149 228; munlock 150 229; mlock2 325 284; mlockall 151 230;
    munlockall 152 231; membarrier 324 283; rseq 334 293; rt_sigaction 13 134;
    rt_sigprocmask 14 135; rt_sigreturn 15 139; rt_sigpending 127 136; rt_sigtimedwait 128 137;
    rt_sigsuspend 130 133; sigaltstack 131 132; access 21 -; faccessat 269 48; faccessat2 439 439;
    pipe 22 -; pipe2 293 59; sched_yield 24 124; dup 32 23; dup2 33 -; dup3 292 24; pause 34 -;
    nanosleep 35 101; clock_nanosleep 230 115; getitimer 36 102; setitimer 38 103; alarm 37 -;
    getpid 39 172; getppid 110 173; gettid 186 178; getuid 102 174; geteuid 107 175;
    getgid 104 176; getegid 108 177; getpgid 121 155; getpgrp 111 -; getsid 124 156;
    setsid 112 157; setpgid 109 154; getgroups 115 158; getresuid 118 148; getresgid 120 150;
    uname 63 160; getcwd 79 17; chdir 80 49; fchdir 81 50; readlink 89 -; readlinkat 267 78;
    getdents 78 -; getdents64 217 61; umask 95 166; gettimeofday 96 169; time 201 -;
    times 100 153; getrlimit 97 163; getrusage 98 165; sysinfo 99 179; capget 125 90;
    sched_getaffinity 204 123; sched_getparam 143 121; sched_getscheduler 145 120;
    sched_get_priority_max 146 125; sched_get_priority_min 147 126; sched_rr_get_interval 148 127;
    getpriority 140 141; arch_prctl 158 -; set_tid_address 218 96; set_robust_list 273 99;
    get_robust_list 274 100; futex 202 98; futex_waitv 449 449; exit 60 93; exit_group 231 94;
    clock_gettime 228 113; clock_getres 229 114; timerfd_create 283 85; timerfd_settime 286 86;
    timerfd_gettime 287 87; eventfd 284 -; eventfd2 290 19; timer_create 222 107;
    timer_settime 223 110; timer_gettime 224 108; timer_getoverrun 225 109; timer_delete 226 111;
    getrandom 318 278; wait4 61 260; waitid 247 95; recvfrom 45 207; recvmsg 47 212;
    getsockname 51 204; getpeername 52 205; getsockopt 55 209; shutdown 48 210;
    copy_file_range 326 285; sendfile 40 71; splice 275 76; tee 276 77; restart_syscall 219 128;
    getcpu 309 168; pidfd_open 434 434; getxattr 191 8; lgetxattr 192 9; fgetxattr 193 10;
    listxattr 194 11; llistxattr 195 12; flistxattr 196 13
"""

# Calls that no agent makes by accident: making one is an attempt, and ends the process.
REFUSED: Final = """
    ptrace 101 117; process_vm_readv 310 270;
    process_vm_writev 311 271; process_madvise 440 440; pidfd_getfd 438 438; kcmp 312 272;
    bpf 321 280; io_uring_setup 425 425; io_uring_enter 426 426; io_uring_register 427 427;
    perf_event_open 298 241; keyctl 250 219; add_key 248 217; request_key 249 218; mount 165 40;
    umount2 166 39; pivot_root 155 41; chroot 161 51; unshare 272 97; setns 308 268;
    open_tree 428 428; move_mount 429 429; fsopen 430 430; fsconfig 431 431; fsmount 432 432;
    fspick 433 433; mount_setattr 442 442; reboot 169 142; kexec_load 246 104;
    kexec_file_load 320 294; init_module 175 105; finit_module 313 273; delete_module 176 106;
    swapon 167 224; swapoff 168 225; sethostname 170 161; setdomainname 171 162;
    settimeofday 164 170; clock_settime 227 112; clock_adjtime 305 266; adjtimex 159 171;
    acct 163 89; quotactl 179 60; quotactl_fd 443 443; syslog 103 116; iopl 172 -; ioperm 173 -;
    userfaultfd 323 282; open_by_handle_at 304 265; name_to_handle_at 303 264;
    fanotify_init 300 262; listen 50 201; accept 43 202; accept4 288 242; creat 85 -; chmod 90 -;
    fchmod 91 52; fchmodat 268 53; chown 92 -; fchown 93 55; lchown 94 -; fchmodat2 452 452;
    fchownat 260 54; link 86 -; linkat 265 37; symlink 88 -; symlinkat 266 36; rename 82 -;
    renameat 264 38; renameat2 316 276; unlink 87 -; unlinkat 263 35; mkdir 83 -; mkdirat 258 34;
    mknod 133 -; mknodat 259 33; rmdir 84 -; truncate 76 45; ftruncate 77 46; fallocate 285 47;
    utime 132 -; utimes 235 -; futimesat 261 -; utimensat 280 88; setxattr 188 5; lsetxattr 189 6;
    fsetxattr 190 7; removexattr 197 14; lremovexattr 198 15; fremovexattr 199 16; setuid 105 146;
    setgid 106 144; setreuid 113 145; setregid 114 143; setresuid 117 147; setresgid 119 149;
    setfsuid 122 151; setfsgid 123 152; setgroups 116 159; seccomp 317 277; setrlimit 160 164;
    vhangup 153 58; nfsservctl 180 42; lookup_dcookie 212 18; modify_ldt 154 -;
    personality 135 92; flock 73 32; fadvise64 221 223; readahead 187 213; mincore 27 232;
    cachestat 451 451
"""

# Refused unless the scenario row allows hosts.
NETWORK: Final = """
    connect 42 203; sendmsg 46 211; sendmmsg 307 269
"""

# Allowed to the zygote and to an agent's process before it runs its agent, refused to agents.
LAST: Final = """
    fork 57 -; vfork 58 -; tkill 200 130; rt_sigqueueinfo 129 138; rt_tgsigqueueinfo 297 240;
    pidfd_send_signal 424 424; capset 126 91
"""

# An error to the zygote, whose packages get over it while they are imported; refused to agents.
STARTS: Final = """
    execve 59 221; execveat 322 281
"""

# Allowed or refused by their arguments.
BY_ARGUMENT: Final = """
    socket 41 198; socketpair 53 199; sendto 44 206; ioctl 16 29; fcntl 72 25; prlimit64 302 261;
    prctl 157 167; clone 56 220; clone3 435 435; kill 62 129; tgkill 234 131; madvise 28 233;
    preadv2 327 286; pwritev2 328 287; setsockopt 54 208; bind 49 200
"""
