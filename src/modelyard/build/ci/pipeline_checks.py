"""Checks that run pipelines: on a sample, twice for reproducibility, and in full for the gates."""

from typing import Any

from modelyard.build.ci.context import Context
from modelyard.build.ci.findings import Case, Finding, Outcome, Severity, skipped
from modelyard.build.ci.project_file import pipelines, required_params
from modelyard.build.ci.rehearsal import Rehearsal, rehearse
from modelyard.registry import gates


def sample_run(context: Context) -> Outcome:
    """Every pipeline runs to its end in a fresh process with an empty cache; nothing is registered."""
    named = pipelines(context)
    if not named:
        return skipped("the project has no pipeline")
    findings: list[Finding] = []
    cases: list[Case] = []
    champions = {model: champion.files.parent for model, champion in context.champions.items()}
    for number, name in enumerate(named):
        missing = required_params(context.folder, name)
        if missing:
            message = f"{name} was not run: its parameters {', '.join(missing)} have no defaults."
            findings.append(Finding("not-run", Severity.WARNING, message, "Give each a default.", _file(name)))
            cases.append(Case(name, skipped=True))
            continue
        place = context.scratch / f"run-{number}"
        sample = None if context.gates else context.sample
        found = rehearse(context.folder, name, place, sample=sample, champions=champions)
        context.rehearsals[name] = found
        cases.append(Case(name, found.seconds, found.error))
        if found.error is not None:
            findings.append(
                Finding("run-failed", Severity.ERROR, f"{name}: {found.error}", found.remedy, _file(name))
            )
    how = "in full" if context.gates else f"on a sample of {context.sample:g}"
    whole = sum(run.error is None for run in context.rehearsals.values())
    return Outcome(f"{whole} of {len(named)} pipelines ran to their end, {how}", findings, cases)


def reproducibility(context: Context) -> Outcome:
    """A second fresh run with the same inputs, and another hash seed, gives the same outputs, step by step."""
    first = {name: found for name, found in context.rehearsals.items() if found.error is None}
    if not first:
        return skipped("no pipeline ran to its end")
    findings: list[Finding] = []
    cases: list[Case] = []
    for number, (name, before) in enumerate(first.items()):
        sample = None if context.gates else context.sample
        after = rehearse(context.folder, name, context.scratch / f"again-{number}", sample=sample, hash_seed=1)
        different = differing_steps(before, after)
        if after.error is not None:
            findings.append(
                Finding("run-failed", Severity.ERROR, f"{name}: {after.error}", after.remedy, _file(name))
            )
        elif different:
            step = different[0]
            message = f"{name}: step {step!r} gave other outputs the second time, from the same inputs."
            remedy = (
                "Seed what is random (random_state=0, default_rng(0)), sort what comes from a set or a folder, "
                "and take the time of day as a parameter."
            )
            findings.append(Finding("not-reproducible", Severity.ERROR, message, remedy, _file(name)))
        failure = after.error or (f"differs from step {different[0]}" if different else None)
        cases.append(Case(name, after.seconds, failure))
    same = sum(case.failure is None for case in cases)
    return Outcome(f"{same} of {len(cases)} pipelines gave the same outputs twice", findings, cases)


def differing_steps(first: Rehearsal, second: Rehearsal) -> list[str]:
    """Steps whose outputs differ though their own inputs did not: the causes, not what follows from them."""
    different: list[str] = []
    for name, note in first.steps.items():
        other = second.steps.get(name)
        if other is None or other.outputs != note.outputs:
            different.append(name)
    return different


def gate_check(context: Context) -> Outcome:
    """Every model's gates, on the full run, with the champion on the same rows."""
    if not context.gates:
        return skipped("asked for by --gates")
    findings: list[Finding] = []
    cases: list[Case] = []
    results: dict[str, Any] = {}
    for model, declared in context.project.models.items():
        evaluation = evaluation_of(context, model)
        if evaluation is None:
            message = f"No pipeline that ran registers {model!r} with an evaluation, so its gates are open."
            remedy = f"yard.register({model!r}, model=..., evaluation=..., reference=...)"
            findings.append(Finding("no-evaluation", Severity.ERROR, message, remedy, "modelyard.toml"))
            continue
        held = gates.evaluate(declared.gates, evaluation)
        results[model] = [result.__dict__ for result in held]
        for result in held:
            cases.append(
                Case(f"{model}: {result.gate} {result.bound}", failure=None if result.passed else result.why)
            )
            if not result.passed:
                remedy = f"Improve the model, or change [models.{model}.gates] and say why in the commit."
                message = f"{model}: {result.why}."
                findings.append(Finding("gate-failed", Severity.ERROR, message, remedy, "modelyard.toml"))
    passed = sum(case.failure is None for case in cases)
    return Outcome(f"{passed} of {len(cases)} bounds hold", findings, cases, details={"gates": results})


def evaluation_of(context: Context, model: str) -> dict[str, Any] | None:
    """The evaluation that a rehearsed pipeline would have registered for a model."""
    for found in context.rehearsals.values():
        if model in found.registered:
            return found.registered[model].get("evaluation")
    return None


def _file(pipeline: str) -> str:
    return pipeline.partition(":")[0]
