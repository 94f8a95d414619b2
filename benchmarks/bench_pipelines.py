"""Pipelines beside plain Python and other engines, each run a whole fresh process; prints Markdown tables.

    make bench-pipelines                                              # everything: about half an hour
    make bench-pipelines BENCH="--only chain,fan --engines modelyard,kedro --tries 1"
    make bench-pipelines BENCH="--only steps,graph --json FILE"       # FILE collects the figures of several
    make bench-pipelines BENCH="--write docs/explanation/benchmarks-pipelines.md"

Parts: chain, fan, train (every engine), steps, graph, frame, ray (modelyard alone). Each peer gets an
environment of its own under ~/.cache/modelyard-bench ($MODELYARD_BENCH); one that cannot be installed, or does not
end, is reported as such.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from page import write
from pipeline_engines import (
    NO_CACHE,
    OURS,
    PEERS,
    PLAIN,
    SERVED,
    TRACKED,
    Spent,
    command_of,
    place,
    release_of,
    spend,
)
from pipeline_parts import PARTS
from pipeline_table import SCENARIOS, engines_table, floors_table

ENGINES = [PLAIN, OURS, TRACKED, SERVED, *PEERS]


def one(engine: str, scenario: str, twice: bool) -> tuple[Spent, Spent | None]:
    """(a first run with nothing kept, a second one with everything kept)."""
    with place(engine) as (folder, variables):
        command = command_of(engine, scenario)
        return spend(command, folder, variables), spend(command, folder, variables) if twice else None


def beside_plain(engine: str, scenario: str, tries: int) -> dict[str, Any]:
    """Medians of an engine's first runs and of a plain script's between them, and of its second runs."""
    ours, plain, again = [], [], []
    try:
        one(engine, scenario, False)  # what an engine does once a machine, such as writing bytecode
        for _ in range(tries):
            plain.append(one(PLAIN, scenario, False)[0])
            first, second = one(engine, scenario, engine not in NO_CACHE)
            ours.append(first)
            again += [second] if second else []
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        return {"failed": str(error)}
    found: dict[str, Any] = {}
    for name, spent in (("", ours), ("plain ", plain), ("again ", again)):
        for what in Spent._fields if spent else ():
            found[name + what] = statistics.median(getattr(each, what) for each in spent)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join([*SCENARIOS, *PARTS]), help="parts, by comma")
    parser.add_argument("--engines", default=",".join(ENGINES), help="engines of chain, fan and train, by comma")
    parser.add_argument("--tries", type=int, default=3, help="runs of each, of which the median counts")
    parser.add_argument("--json", type=Path, help="keep the figures here, beside those of parts measured before")
    parser.add_argument("--write", type=Path, help="put the tables between the marks of this page")
    options = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # installed packages have their bytecode
    figures: dict[str, Any] = {"engines": {}, "lines": {}}
    if options.json is not None and options.json.exists():
        figures = json.loads(options.json.read_text())
    for part in options.only.split(","):
        if part in PARTS:
            print(part, file=sys.stderr)
            figures["lines"] |= PARTS[part](options.tries)
            continue
        for engine in [name for name in ENGINES if name in options.engines.split(",")]:
            print(part, engine, file=sys.stderr)
            held = figures["engines"].setdefault(engine, {})
            held |= {"release": release_of(engine), part: beside_plain(engine, part, options.tries)}
            if options.json:
                options.json.write_text(json.dumps(figures, indent=1))
    order = {name: figures["engines"][name] for name in ENGINES if name in figures["engines"]}
    text = f"{engines_table(order)}\n\n{floors_table(order, figures['lines'])}"
    print(text)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))
    if options.write:
        write(options.write, text)


if __name__ == "__main__":
    main()
