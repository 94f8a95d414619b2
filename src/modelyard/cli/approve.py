"""`modelyard approve` and `modelyard reject`: a person's decision on a version."""

import click

from modelyard.cli.context import client
from modelyard.cli.output import json_option, table
from modelyard.client.api import path
from modelyard.domain.errors import Invalid
from modelyard.kit.clock import iso


def split_reference(reference: str) -> tuple[str, str]:
    """(model, version) of `flight-delay/2`. Raises Invalid."""
    model, slash, version = reference.rpartition("/")
    if not slash or not version:
        raise Invalid(
            f"{reference!r} does not name a version.", remedy="Write MODEL/VERSION, such as flight-delay/2."
        )
    return model, version


@click.command()
@click.argument("reference", metavar="MODEL/VERSION")
@click.option("--to", "environment", required=True, help="The environment to approve it for.")
@click.option("-m", "--message", required=True, help="Why; kept with the decision.")
@click.option("--break-glass", is_flag=True, help="Against the ordinary rules: ends by itself, pages the approvers.")
def approve(reference: str, environment: str, message: str, break_glass: bool) -> None:
    """Approve a version for an environment; its deployment starts by itself."""
    if not break_glass:
        _decide(reference, environment, "approve", message)
        return
    model, version = split_reference(reference)
    where = path("models", model, "versions", version, "break-glass")
    given = client().call("POST", where, body={"environment": environment, "reason": message})
    click.echo(
        f"{model} v{version} for {environment}: approved by breaking the glass until {iso(given['expires_at'])}."
    )
    click.echo(
        "The approvers are being told; `modelyard audit --types notification.failed` names channels that fail. "
        "An ordinary decision must follow."
    )


@click.command()
@click.argument("reference", metavar="MODEL/VERSION")
@click.option("--to", "environment", required=True, help="The environment to reject it for.")
@click.option("-m", "--message", required=True, help="Why; kept with the decision.")
def reject(reference: str, environment: str, message: str) -> None:
    """Reject a version for an environment."""
    _decide(reference, environment, "reject", message)


def _decide(reference: str, environment: str, verdict: str, message: str) -> None:
    model, version = split_reference(reference)
    body = {"environment": environment, "verdict": verdict, "comment": message}
    found = client().call("POST", path("models", model, "versions", version, "decisions"), body=body)
    click.echo(f"{model} v{version} for {environment}: {found['state']} ({len(found['decisions'])} decision(s))")


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def standing(context: click.Context, as_json: bool) -> None:
    """List, sign and revoke approvals in advance for what an automatic retrain makes."""
    if context.invoked_subcommand:
        return
    found = client().call("GET", path("standing-policies"))["standing_policies"]
    until = ("until", lambda p: "revoked" if p["revoked_at"] else iso(p["expires_at"]))
    table(found, ["id", "model", "environment", "signed_by", until, "comment"], as_json, "No standing policies.")


@standing.command()
@click.argument("model")
@click.option("--to", "environment", required=True, help="The environment.")
@click.option("--expires", default="30d", show_default=True, help="How long it holds.")
@click.option("-m", "--message", required=True, help="Why; kept with every version it approves.")
def sign(model: str, environment: str, expires: str, message: str) -> None:
    """Approve in advance: versions of a retrain that pass the model's gates as they are now."""
    body = {"model": model, "environment": environment, "expires": expires, "comment": message}
    made = client().call("POST", path("standing-policies"), body=body)
    click.echo(f"Signed {made['id']}; it ends {iso(made['expires_at'])}, or when the gates of {model} change.")


@standing.command()
@click.argument("policy_id")
def revoke(policy_id: str) -> None:
    """End a standing policy."""
    client().call("DELETE", path("standing-policies", policy_id))
    click.echo(f"Revoked {policy_id}.")
