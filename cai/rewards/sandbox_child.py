"""The inside of the sandbox: shuts itself in, then runs a response's code and its tests. Started by `sandbox.py` as a
file; imports nothing of ours, and nothing that is not in the standard library.
"""

import ctypes
import errno
import importlib.abc
import json
import math
import os
import platform
import resource
import signal
import struct
import sys
import types
from typing import Any, NamedTuple

# What the interpreter needs to compute, to read files and to run threads; numbers are the kernel's, by machine.
# fmt: off
ALLOWED: dict[str, dict[str, int]] = {
    "x86_64": {
        "read": 0, "write": 1, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7, "lseek": 8, "mmap": 9,
        "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15,
        "pread64": 17, "readv": 19, "writev": 20, "access": 21, "select": 23, "sched_yield": 24, "mremap": 25,
        "madvise": 28, "dup": 32, "dup2": 33, "nanosleep": 35, "getpid": 39, "exit": 60, "uname": 63, "getcwd": 79,
        "chdir": 80, "readlink": 89, "gettimeofday": 96, "getrusage": 98, "sysinfo": 99, "times": 100, "getuid": 102,
        "getgid": 104, "geteuid": 107, "getegid": 108, "getppid": 110, "sigaltstack": 131, "gettid": 186, "time": 201,
        "futex": 202, "sched_getaffinity": 204, "getdents64": 217, "restart_syscall": 219, "clock_gettime": 228,
        "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231, "epoll_wait": 232, "epoll_ctl": 233,
        "newfstatat": 262, "readlinkat": 267, "faccessat": 269, "pselect6": 270, "ppoll": 271, "set_robust_list": 273,
        "epoll_pwait": 281, "eventfd2": 290, "epoll_create1": 291, "dup3": 292, "pipe2": 293, "getrandom": 318,
        "membarrier": 324, "statx": 332, "rseq": 334, "faccessat2": 439,
    },
    "aarch64": {
        "getcwd": 17, "eventfd2": 19, "epoll_create1": 20, "epoll_ctl": 21, "epoll_pwait": 22, "dup": 23, "dup3": 24,
        "faccessat": 48, "chdir": 49, "close": 57, "pipe2": 59, "getdents64": 61, "lseek": 62, "read": 63, "write": 64,
        "readv": 65, "writev": 66, "pread64": 67, "pselect6": 72, "ppoll": 73, "readlinkat": 78, "newfstatat": 79,
        "fstat": 80, "exit": 93, "exit_group": 94, "futex": 98, "set_robust_list": 99, "nanosleep": 101,
        "clock_gettime": 113, "clock_getres": 114, "clock_nanosleep": 115, "sched_getaffinity": 123, "sched_yield": 124,
        "restart_syscall": 128, "sigaltstack": 132, "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139,
        "times": 153, "uname": 160, "getrusage": 165, "gettimeofday": 169, "getpid": 172, "getppid": 173,
        "getuid": 174, "geteuid": 175, "getgid": 176, "getegid": 177, "gettid": 178, "sysinfo": 179, "brk": 214,
        "munmap": 215, "mremap": 216, "mmap": 222, "mprotect": 226, "madvise": 233, "getrandom": 278,
        "membarrier": 283, "statx": 291, "rseq": 293, "faccessat2": 439,
    },
}
# fmt: on


class JudgedCalls(NamedTuple):
    """System calls that are allowed by what they are asked; `open` is 0 where the machine has none."""

    arch: int
    """AUDIT_ARCH_…"""
    open: int
    openat: int
    fcntl: int
    clone: int
    clone3: int


JUDGED = {
    "x86_64": JudgedCalls(0xC000003E, open=2, openat=257, fcntl=72, clone=56, clone3=435),
    "aarch64": JudgedCalls(0xC00000B7, open=0, openat=56, fcntl=25, clone=220, clone3=435),
}

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
CLONE_THREAD = 0x10000
FCNTL = (0, 1, 2, 3, 4, 1030)  # dup, close-on-exec and status flags: not F_SETOWN, which sends signals

_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000  # SECCOMP_RET_…
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06  # BPF: ld [abs], jeq, jset, ret
_DENY = _ERRNO | errno.EACCES
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38

Step = tuple[int, int, int, int]
"""One BPF instruction: code, steps skipped if true, if false, operand."""


def program(machine: str) -> list[Step]:
    """The filter: EACCES for whatever is not allowed. Offsets are those of `struct seccomp_data`."""
    judged = JUDGED[machine]
    steps: list[Step] = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, judged.arch), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    steps += _case(judged.clone3, [(_RETURN, 0, 0, _ERRNO | errno.ENOSYS)])  # so that libc falls back to clone
    if judged.open:
        steps += _case(judged.open, _unless_any(1, WRITING))
    steps += _case(judged.openat, _unless_any(2, WRITING))
    steps += _case(judged.clone, [_argument(0), (_ANY_BIT, 0, 1, CLONE_THREAD), _return(_ALLOW), _return(_DENY)])
    known = [step for command in FCNTL for step in _case(command, [_return(_ALLOW)])]
    steps += _case(judged.fcntl, [_argument(1), *known, _return(_DENY)])
    for number in ALLOWED[machine].values():
        steps += _case(number, [_return(_ALLOW)])
    return [*steps, _return(_DENY)]


def _case(number: int, then: list[Step]) -> list[Step]:
    return [(_EQUAL, 0, len(then), number), *then]


def _unless_any(argument: int, bits: int) -> list[Step]:
    return [_argument(argument), (_ANY_BIT, 0, 1, bits), _return(_DENY), _return(_ALLOW)]


def _argument(i: int) -> Step:
    return (_LOAD, 0, 0, 16 + 8 * i)  # its lower half: all that is judged are ints


def _return(what: int) -> Step:
    return (_RETURN, 0, 0, what)


def limit(cpu_s: float, memory: int) -> None:
    seconds = math.ceil(cpu_s)
    for what, most in (
        (resource.RLIMIT_CPU, seconds + 1),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        resource.setrlimit(what, (most, most))


def prctl(option: int, *arguments: Any) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, *arguments):
        raise OSError(ctypes.get_errno(), f"the kernel refused prctl {option}, which the sandbox needs")


def die_with_parent() -> None:
    """SIGKILL when the thread that started this process ends. Linux only: elsewhere nothing."""
    if sys.platform == "linux":
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def seal(parent: int) -> None:
    """From here on only what the filter allows, and death with the parent."""
    machine = platform.machine()
    if sys.platform != "linux" or machine not in JUDGED or sys.byteorder != "little" or sys.maxsize < 2**32:
        raise OSError(f"a sandbox needs Linux on one of {sorted(JUDGED)}; this is {sys.platform} on {machine}")
    die_with_parent()
    if os.getppid() != parent:
        raise OSError("the parent has gone")
    prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    steps = program(machine)
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    filter = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(code)))
    prctl(_PR_SET_SECCOMP, 2, filter, 0, 0)


class Text(importlib.abc.InspectLoader):
    """A module whose source is in memory: no file shows it."""

    def __init__(self, source: str) -> None:
        self._source = source

    def get_source(self, fullname: str) -> str:
        return self._source


def run(name: str, source: str, given: dict[str, Any]) -> dict[str, Any]:
    """Run `source` as the module `name`, which starts with the names `given`; all its names but the dunder ones."""
    module = types.ModuleType(name)
    vars(module).update(given)
    sys.modules[name] = module  # dataclasses look their module up
    Text(source).exec_module(module)
    return {key: value for key, value in vars(module).items() if not key.startswith("__")}


def main() -> None:
    job = json.load(sys.stdin)
    out = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    limit(job["cpu_s"], job["memory"])
    seal(job["parent"])
    os.write(out, b"sealed\n")
    os.dup2(null, 2)  # until here it told the parent what went wrong
    solution = run("solution", job["code"], {})
    tests = run("tests", job["tests"], solution)
    for name, found in tests.items():
        if name.startswith("test_") and isinstance(found, types.FunctionType) and found is not solution.get(name):
            found()
    os.write(out, job["token"].encode())
    os._exit(0)


if __name__ == "__main__":
    main()
