"""Child processes that do not outlive their parent, and whole trees of them that are stopped."""

import os
import signal
import sys
from functools import cache
from pathlib import Path

PR_SET_PDEATHSIG = 1
PARENT = "MODELYARD_PARENT"
"""In a child's environment: the process that started it, and with which it ends."""
EXITING = 0x4
"""The kernel's flag of a process that ends (PF_EXITING): what it listened at may still be connected to."""
SECRETS = ("MODELYARD_", "MLFLOW_", "AWS_", "DATABASE", "PG")


def die_with_parent(number: int = signal.SIGTERM) -> None:
    """Ask the kernel to end this process when its parent dies (Linux; elsewhere it does nothing)."""
    if sys.platform == "linux":
        import ctypes  # late: the command line starts without it

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def follow_parent() -> None:
    """End this process with the one that PARENT names, at once when that has ended already."""
    parent = os.environ.pop(PARENT, "")
    if parent:
        follow(int(parent))


def follow(parent: int) -> None:
    """End this process with its parent, at once when that has ended already."""
    die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def without_secrets() -> dict[str, str]:
    """The environment of this process without credentials, for gateways, workers and helpers: they need none."""
    return {name: value for name, value in os.environ.items() if not name.startswith(SECRETS)}


def programs() -> set[str]:
    """The absolute paths by which this machine's processes were started, by /proc; empty where there is none."""
    found: set[str] = set()
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.add(os.fsdecode(file.read_bytes().partition(b"\0")[0]))
        except OSError:
            continue  # it ended meanwhile
    return {program for program in found if program.startswith("/")}


def descendants(process: int) -> list[int]:
    """Every process that descends from this one, by /proc; empty where there is none."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        fields = _stat(int(entry.name))
        if fields:  # else it ended meanwhile
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], [process]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def tree_memory(process: int) -> int:
    """Bytes that a process and all that it started hold resident; pages that they share count once. Linux only."""
    total = 0
    for each in [process, *descendants(process)]:
        try:
            text = Path(f"/proc/{each}/smaps_rollup").read_text()
        except OSError:  # it ended meanwhile
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total * 1024


def kill_tree(process: int) -> None:
    """Kill a process, its group and everything that it started.

    All are stopped first: what one of them started after it was looked at would go on without its parent.
    """
    found: list[int] = []
    fresh = [process]
    while fresh:
        _signal(fresh, signal.SIGSTOP)
        found += fresh
        fresh = [each for each in descendants(process) if each not in found]
    _signal(found, signal.SIGKILL)
    kill_group(process)


def _signal(processes: list[int], number: int) -> None:
    for each in processes:
        try:
            os.kill(each, number)
        except (ProcessLookupError, PermissionError):
            continue


def kill_group(leader: int) -> None:
    """Kill what is left of a process group."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


@cache
def _machine() -> str:
    """The boot of this machine (or container) within which process numbers mean something; empty elsewhere."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def _stat(process: int) -> list[str]:
    """The kernel's words on a process, from its state on (proc(5), `stat`); none where there is no such one."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _started(process: int) -> str | None:
    """When a process started, in ticks since boot; None when none of that number runs."""
    fields = _stat(process)
    return None if not fields or fields[0] in "ZX" else fields[19]


def is_ending(process: int) -> bool:
    """Whether a process is on its way out, or out; False where the system does not tell."""
    fields = _stat(process)
    if not fields:
        return process > 0 and bool(_stat(os.getpid()))
    return bool(int(fields[6]) & EXITING)


def identity() -> str:
    """A name of this very process that no later one on this machine has; empty where there is no /proc."""
    machine = _machine()
    return f"{machine}/{os.getpid()}/{_started(os.getpid())}" if machine else ""


def is_gone(name: str) -> bool:
    """Whether the process of this `identity` has surely ended: False for one of another machine, or of none."""
    machine, _, rest = name.rpartition("/")
    machine, _, process = machine.rpartition("/")
    return bool(machine) and machine == _machine() and process.isdigit() and _started(int(process)) != rest
