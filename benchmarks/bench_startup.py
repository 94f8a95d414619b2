"""What starting costs: import, `--help`, a server until it answers, and the memory that it holds.

    make bench-startup

Bounds: import 100 ms and help 200 ms beyond the bare interpreter, server ready in 1.5 s, at most 150 MB resident.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

TRIES = 7
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # installed packages have their bytecode


def fastest_ms(*arguments: str) -> float:
    """Milliseconds of the fastest of TRIES fresh interpreters: what the machine can do when nothing disturbs it."""
    times: list[float] = []
    for _ in range(TRIES):
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - started)
    return min(times) * 1000


def resident_mb(pid: int) -> float:
    """Resident set of a process in MB (Linux)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def server_start(project: Path) -> tuple[float, float]:
    """(seconds from launch until /ready answers, resident MB then)."""
    (project / "modelyard.toml").write_text('[project]\nname = "startup"\n')
    note = project / ".modelyard" / "run" / "server.json"
    note.unlink(missing_ok=True)
    command = [sys.executable, "-m", "modelyard", "server", "--home", str(project / ".modelyard")]
    started = time.perf_counter()
    process = subprocess.Popen([*command, "--project", str(project), "--port", "0"])
    try:
        while not note.exists():
            time.sleep(0.005)
        with urllib.request.urlopen(json.loads(note.read_text())["url"] + "/ready") as answer:
            answer.read()
        return time.perf_counter() - started, resident_mb(process.pid)
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    bare = fastest_ms("-c", "pass")
    with tempfile.TemporaryDirectory() as name:
        first, _ = server_start(Path(name))
        starts = [server_start(Path(name)) for _ in range(3)]
    rows = [
        (
            "import modelyard, beyond the interpreter",
            f"{fastest_ms('-c', 'import modelyard') - bare:.0f} ms",
            "100 ms",
        ),
        ("modelyard --help, beyond", f"{fastest_ms('-m', 'modelyard', '--help') - bare:.0f} ms", "200 ms"),
        ("server ready, new yard", f"{first:.2f} s", "1.5 s"),
        ("server ready, existing yard", f"{min(seconds for seconds, _ in starts):.2f} s", "1.5 s"),
        ("server resident", f"{max(size for _, size in starts):.0f} MB", "150 MB"),
    ]
    print("| what | measured | bound |\n|---|---|---|")
    for what, measured, bound in rows:
        print(f"| {what} | {measured} | {bound} |")


if __name__ == "__main__":
    main()
