"""What a process gives up before it runs code of others: Linux's walls, each for good.

    memory     RLIMIT_AS, beyond what the process holds already
    time       RLIMIT_CPU of the process; the clock is held by the other end
    files      Landlock: reads of Python and of the work folder only, no write anywhere; where the
               kernel has none, RLIMIT_FSIZE 0 still keeps every byte from being written
    network    seccomp: no socket can be made
    processes  seccomp: no fork, no exec, no signal to another process; threads are left

Other systems than Linux have time alone. `raise_walls` says which stand.
"""

import ctypes
import errno
import os
import platform
import resource
import struct
import sys
from collections.abc import Iterable

READABLE = (
    "/usr",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/dev/null",
    "/dev/urandom",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/sys/devices/system/cpu",
)
"""Besides Python's own folders."""

NUM_FILES = 64
"""Open files: an import holds a few at a time."""

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""As the kernel tells a filter which table of system calls is meant (linux/audit.h)."""

REFUSED = {
    "x86_64": {
        "add_key": 248, "bpf": 321, "connect": 42, "execve": 59, "execveat": 322, "fork": 57,
        "io_uring_setup": 425, "keyctl": 250, "kill": 62, "memfd_create": 319, "mount": 165,
        "msgget": 68, "perf_event_open": 298, "pidfd_open": 434, "pidfd_send_signal": 424,
        "process_vm_readv": 310, "process_vm_writev": 311, "ptrace": 101, "request_key": 249,
        "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297, "semget": 64, "setns": 308,
        "setrlimit": 160, "shmget": 29, "socket": 41, "socketpair": 53, "tkill": 200,
        "umount2": 166, "unshare": 272, "userfaultfd": 323, "vfork": 58,
    },
    "aarch64": {
        "add_key": 217, "bpf": 280, "connect": 203, "execve": 221, "execveat": 281,
        "io_uring_setup": 425, "keyctl": 219, "kill": 129, "memfd_create": 279, "mount": 40,
        "msgget": 186, "perf_event_open": 241, "pidfd_open": 434, "pidfd_send_signal": 424,
        "process_vm_readv": 270, "process_vm_writev": 271, "ptrace": 117, "request_key": 218,
        "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240, "semget": 190, "setns": 268,
        "setrlimit": 164, "shmget": 194, "socket": 198, "socketpair": 199, "tkill": 130,
        "umount2": 39, "unshare": 97, "userfaultfd": 282,
    },
}  # fmt: skip
"""System calls that fail with EPERM, by machine."""

CLONE = {"x86_64": 56, "aarch64": 220}
CLONE3 = 435
PRLIMIT = {"x86_64": 302, "aarch64": 261}
TGKILL = {"x86_64": 234, "aarch64": 131}
CLONE_THREAD = 0x00010000
X32 = 0x40000000
"""From here on x86-64 has a second table, for which no number above holds."""

ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000
LOAD, EQUAL, AT_LEAST, BITS, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
"""Instructions of the filter (linux/filter.h), and what it may return (linux/seccomp.h)."""
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16
"""Where it finds what was called."""

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 1, 38, 22, 2
SIGKILL = 9
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446
READ_FILE, READ_DIR = 1 << 2, 1 << 3
LANDLOCK_FILES = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many rights to files a version of Landlock knows; later ones know as many as the last."""


def raise_walls(memory_bytes: int, cpu_seconds: int, readable: Iterable[str]) -> list[str]:
    """Shut this process in.

    Args:
        memory_bytes: Address space beyond what is held.
        cpu_seconds: Processor time of the process in all.
        readable: Folders and files that may be read besides `READABLE`.

    Returns:
        The walls that stand.
    """
    walls = ["memory", "time"] if sys.platform == "linux" else ["time"]
    if sys.platform == "linux":
        limit = _held_bytes() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (NUM_FILES, NUM_FILES))
    if sys.platform != "linux":
        return walls
    libc = ctypes.CDLL(None, use_errno=True)
    # Should the other end be killed, nobody would hold the clock.
    libc.prctl(PR_SET_PDEATHSIG, *map(ctypes.c_ulong, (SIGKILL, 0, 0, 0)))
    if libc.prctl(PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0))) != 0:
        return walls
    if _landlock(libc, [*READABLE, *readable]):
        walls.append("files")
    if _seccomp(libc, platform.machine(), os.getpid()):
        walls += ["network", "processes"]
    return walls


def _held_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def _landlock(libc: ctypes.CDLL, readable: Iterable[str]) -> bool:
    """Leave this process the reading of some places, and nothing else of the file system."""
    version = libc.syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return False
    rights = (1 << LANDLOCK_FILES.get(version, 16)) - 1
    # Version 6 can also keep signals and abstract sockets inside.
    fields = (rights, 0, 3) if version >= 6 else (rights, 0) if version >= 4 else (rights,)
    asked = struct.pack(f"={len(fields)}Q", *fields)
    rules = libc.syscall(LANDLOCK_CREATE, asked, ctypes.c_size_t(len(asked)), 0)
    if rules < 0:
        return False
    for path in readable:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        allowed = READ_FILE | (READ_DIR if os.path.isdir(path) else 0)
        libc.syscall(LANDLOCK_ADD, rules, 1, struct.pack("=Qi", allowed, place), 0)
        os.close(place)
    done = libc.syscall(LANDLOCK_RESTRICT, rules, 0)
    os.close(rules)
    return done == 0


def _seccomp(libc: ctypes.CDLL, machine: str, process: int) -> bool:
    """Refuse system calls that reach beyond this process."""
    if machine not in ARCHITECTURES:
        return False
    program = b"".join(struct.pack("=HBBI", *each) for each in _filter(machine, process))
    buffer = ctypes.create_string_buffer(program)
    address = ctypes.addressof(buffer)
    header = struct.pack("@HP", len(program) // 8, address)
    return libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0) == 0


def _filter(machine: str, process: int) -> list[tuple[int, int, int, int]]:
    """The filter's instructions: code, steps if true, steps if not, operand."""
    refuse = (RETURN, 0, 0, ERRNO | errno.EPERM)
    allow = (RETURN, 0, 0, ALLOW)
    made = [
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 1, 0, ARCHITECTURES[machine]),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
        (AT_LEAST, 0, 1, X32),
        refuse,
        # The C library goes back to clone, whose flags a filter can read, where there is no clone3.
        (EQUAL, 0, 1, CLONE3),
        (RETURN, 0, 0, ERRNO | errno.ENOSYS),
        *_when(CLONE[machine], [(LOAD, 0, 0, ARGUMENTS), (BITS, 0, 1, CLONE_THREAD), allow]),
        *_when(TGKILL[machine], [(LOAD, 0, 0, ARGUMENTS), (EQUAL, 0, 1, process), allow]),
        # Reading a limit is this call with no new one: a third argument that is null.
        *_when(
            PRLIMIT[machine],
            [
                (LOAD, 0, 0, ARGUMENTS + 16),
                (EQUAL, 0, 3, 0),
                (LOAD, 0, 0, ARGUMENTS + 20),
                (EQUAL, 0, 1, 0),
                allow,
            ],
        ),
    ]
    for number in REFUSED[machine].values():
        made += [(EQUAL, 0, 1, number), refuse]
    return [*made, allow]


def _when(number: int, then: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    """Where that is called: `then`, whose failing tests lead behind it, to a refusal."""
    refuse = (RETURN, 0, 0, ERRNO | errno.EPERM)
    return [(EQUAL, 0, len(then) + 1, number), *then, refuse]
