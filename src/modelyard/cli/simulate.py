"""`modelyard simulate`: what monitoring and retraining would have kept of the quality, on a table of the past."""

import importlib.util
from pathlib import Path
from typing import Any

import click

from modelyard.cli.output import json_option, show_json, table
from modelyard.domain.errors import ConfigError, Invalid
from modelyard.domain.monitors import DriftLimits, Monitor, QualityLimits, Retrain, Window


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--time", "time_column", required=True, help="The column that orders the rows.")
@click.option("--label", required=True, help="The column to predict.")
@click.option(
    "--task", type=click.Choice(["binary", "multiclass", "regression"]), default="binary", show_default=True
)
@click.option("--window", "window_rows", type=int, required=True, help="Rows of a window.")
@click.option("--train-windows", type=int, default=8, show_default=True, help="Windows before the first version.")
@click.option("--delay", type=int, default=0, show_default=True, help="Windows until labels come.")
@click.option("--max-regression", type=float, default=0.02, show_default=True, help="Of the primary metric.")
@click.option("--columns-share", type=float, default=0.3, show_default=True, help="Drifted share that alarms.")
@click.option(
    "--persistence", type=int, default=1, show_default=True, help="Alarms in a row before anything happens."
)
@click.option("--cool-down", default="1h", show_default=True, help="Pause between two retrains, in the data's time.")
@click.option("--budget", type=int, default=7, show_default=True, help="Retrains a week, in the data's time.")
@click.option("--growth", type=float, help="Also retrain when there is this share more to learn from (0.25).")
@click.option("--refit/--no-refit", default=True, help="Fit what was accepted once more, with the newest window.")
@click.option("--most-rows", type=int, default=40_000, show_default=True, help="Rows that a training uses at most.")
@click.option("--drop", multiple=True, help="A column to leave out; may be repeated.")
@click.option("--model", help="file.py:function of (frame, labels, weights); gradient boosting without it.")
@click.option("--save", type=click.Path(path_type=Path), help="report.html or .json")
@json_option
def simulate(
    data: Path,
    time_column: str,
    label: str,
    task: str,
    window_rows: int,
    train_windows: int,
    delay: int,
    max_regression: float,
    columns_share: float,
    persistence: int,
    cool_down: str,
    budget: int,
    growth: float | None,
    refit: bool,
    most_rows: int,
    drop: tuple[str, ...],
    model: str | None,
    save: Path | None,
    as_json: bool,
) -> None:
    """Replay DATA (CSV or Parquet) through monitor, trigger, retrain, gates; beside never and always retraining."""
    from modelyard.deliver.monitoring import challenger, simulation, simulation_report  # late: numpy and scikit-learn

    frame, times = _read(data, time_column, label, drop)
    declared = Monitor(
        window=Window(rows=window_rows),
        drift=DriftLimits(columns_share=columns_share),
        model_quality=QualityLimits(max_regression=max_regression),
        persistence=persistence,
        retrain=Retrain(cool_down=cool_down, budget_per_week=budget, growth=growth),
    )
    plan = simulation.Plan(label, task, declared, window_rows, train_windows, delay, most_rows, refit=refit)
    fit = _function(model) if model else challenger.default_fit(task)
    outcome = simulation.Simulation(frame, times, plan, fit).run()
    if save is not None:
        simulation_report.save(outcome, save, data.name)
    if as_json:
        show_json(outcome.as_json())
        return
    rows = simulation_report.summary(outcome)
    columns = ["strategy", f"mean {plan.metric}", "worst", "retrains", "rows trained", "cpu s"]
    table(rows, columns, False)
    click.echo(f"alarms: {outcome.alarms or 'none'}; challengers accepted: {outcome.accepted}")
    click.echo(simulation_report.conclusion(outcome))


def _read(data: Path, time_column: str, label: str, drop: tuple[str, ...]) -> tuple[Any, Any]:
    """(features and label as a pandas frame in the order of time, milliseconds of each row)."""
    import pandas as pd  # late: only a simulation needs it

    frame = pd.read_parquet(data) if data.suffix == ".parquet" else pd.read_csv(data)
    missing = [name for name in (time_column, label, *drop) if name not in frame.columns]
    if missing:
        raise Invalid(
            f"{data.name} has no column {missing[0]!r}.", remedy=f"It has: {', '.join(map(str, frame.columns))}."
        )
    column = frame[time_column]
    moments = pd.to_datetime(column) if not pd.api.types.is_numeric_dtype(column) else column
    order = moments.argsort(kind="stable")
    frame, moments = frame.iloc[order], moments.iloc[order]
    numeric = pd.api.types.is_numeric_dtype(moments)
    times = (
        moments.to_numpy().astype("int64") if numeric else moments.astype("datetime64[ms]").astype("int64").to_numpy()
    )
    known = frame[label].notna().to_numpy()
    return frame[known].drop(columns=[time_column, *drop]), times[known]


def _function(reference: str) -> Any:
    """The function that `file.py:name` names. Raises ConfigError."""
    file, _, name = reference.partition(":")
    spec = importlib.util.spec_from_file_location("simulated_model", file)
    if not name or spec is None or spec.loader is None or not Path(file).exists():
        raise ConfigError(f"{reference!r} names no function.", remedy="Write --model file.py:fit")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = getattr(module, name, None)
    if not callable(found):
        raise ConfigError(f"{file} has no function {name!r}.", remedy="Write --model file.py:fit")
    return found
