"""`modelyard`: commands by name, each loaded when it is called, so that `--help` answers in a moment."""

import os
import sys
from importlib import import_module
from typing import NoReturn

import click

from modelyard.domain.errors import ModelyardError
from modelyard.kit.processes import follow_parent

COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("modelyard.cli.init:init", "Write a new project."),
    "demo": ("modelyard.cli.demo:demo", "Run the whole loop on real data."),
    "up": ("modelyard.cli.up:up", "Start the server, gateways and workers."),
    "reload": ("modelyard.cli.reload:reload", "Use a changed modelyard.toml while serving goes on."),
    "run": ("modelyard.cli.run:run", "Run a pipeline."),
    "schedules": ("modelyard.cli.schedules:schedules", "Show, pause and resume what starts by itself."),
    "trigger": ("modelyard.cli.schedules:trigger", "Have the server start a declared pipeline now."),
    "backfill": ("modelyard.cli.backfill:backfill", "Run a declared pipeline over a range of dates."),
    "ci": ("modelyard.cli.ci:ci", "Check the project; write workflows for other systems."),
    "explore": ("modelyard.cli.explore:explore", "Describe a table and try a few models on it."),
    "lab": ("modelyard.cli.explore:lab", "Open a notebook in the project."),
    "graph": ("modelyard.cli.graph:graph", "Draw a pipeline."),
    "runs": ("modelyard.cli.runs:runs", "List tracked runs."),
    "compare": ("modelyard.cli.compare:compare", "Compare versions of a model."),
    "versions": ("modelyard.cli.versions:versions", "List registered models and versions."),
    "card": ("modelyard.cli.card:card", "Show the model card of a version."),
    "lineage": ("modelyard.cli.card:lineage", "Show what a version was made from and where it serves."),
    "approve": ("modelyard.cli.approve:approve", "Approve a version for an environment."),
    "reject": ("modelyard.cli.approve:reject", "Reject a version for an environment."),
    "standing": ("modelyard.cli.approve:standing", "Approve in advance what a retrain makes."),
    "deploy": ("modelyard.cli.deploy:deploy", "Deploy an approved version."),
    "rollout": ("modelyard.cli.deploy:rollout", "Pause, resume, promote or abort a rollout."),
    "rollback": ("modelyard.cli.rollback:rollback", "Go back to the previous good deployment."),
    "endpoints": ("modelyard.cli.endpoints:endpoints", "Show endpoints, desired and observed."),
    "serve-agent": ("modelyard.cli.serve_agent:serve_agent", "Serve on a machine of its own, pulling from a hub."),
    "build-image": ("modelyard.cli.build_image:build_image", "Write a container build of a version."),
    "apply": ("modelyard.cli.apply:apply", "Make endpoints serve what a file declares."),
    "predict": ("modelyard.cli.predict:predict", "Ask an endpoint for predictions."),
    "serve": ("modelyard.cli.serve:serve", "Serve one model folder, without a hub."),
    "predictions": ("modelyard.cli.predictions:predictions", "Show logged predictions and what became true."),
    "ground-truth": ("modelyard.cli.ground_truth:ground_truth", "Send labels of earlier predictions."),
    "monitor": ("modelyard.cli.monitor:monitor", "Compare live data with the reference."),
    "simulate": ("modelyard.cli.simulate:simulate", "Replay the past through the retraining policy."),
    "alerts": ("modelyard.cli.alerts:alerts", "List and answer alerts."),
    "import": ("modelyard.cli.import_:import_", "Bring another tool's records into the yard."),
    "export": ("modelyard.cli.export:export", "Take the yard's records to another tool."),
    "audit": ("modelyard.cli.audit:audit", "Show, verify and export the event chain."),
    "token": ("modelyard.cli.token:token", "Issue, list and revoke tokens."),
    "webhook": ("modelyard.cli.webhook:webhook", "Tell other services of events."),
    "role": ("modelyard.cli.role:role", "Add people and services, set their roles."),
    "gc": ("modelyard.cli.gc:gc", "Remove for good what was deleted, and free what it held."),
    "db": ("modelyard.cli.db:db", "Upgrade and back up the database."),
    "server": ("modelyard.cli.server:server", "Run the control plane alone (what `up` supervises)."),
}
HIDDEN = frozenset({"server"})


class LazyGroup(click.Group):
    """A group that imports a command's module only when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in COMMANDS if name not in HIDDEN]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        return getattr(import_module(module), attribute)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="modelyard")
@click.option("--debug", is_flag=True, help="Show the trace of an error.")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """The whole life of a model: track, build, register, deliver, monitor, govern."""
    context.obj = {"debug": debug}


def main() -> NoReturn:
    """Run the command line; an error is one line that says what to do, and exit code 1."""
    follow_parent()
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # threads that spin for each other crawl on a busy machine
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    try:
        cli(standalone_mode=False)
    except ModelyardError as error:
        if debug:
            raise
        click.echo(click.style("Error: ", fg="red") + str(error), err=True)
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)
    except OSError as error:
        if debug:
            raise
        where = f" ({error.filename})" if error.filename else ""
        click.echo(f"Error: {error.strerror or error}{where}. Check the path, its rights and free space.", err=True)
        sys.exit(1)
    sys.exit(0)
