"""The approver's page: everything that a decision on a version rests on, and the decision."""

import json
from typing import Any

from sqlalchemy import Connection
from starlette.responses import Response

from modelyard.deliver.deployments import records
from modelyard.domain.environments import Environment
from modelyard.domain.errors import ModelyardError, NotFound
from modelyard.domain.metrics import lower_is_better
from modelyard.domain.permissions import Permission
from modelyard.domain.states import ApprovalState
from modelyard.events import log
from modelyard.governance import principals
from modelyard.registry import approvals, card_page, cards, comparison, lineage, versions
from modelyard.registry.versions import Version
from modelyard.server.api import endpoints as endpoints_api
from modelyard.server.api import models as api
from modelyard.server.pages import charts, forms, render, wording
from modelyard.server.pages.charts import Bar
from modelyard.server.routes import Call, Route


async def show(call: Call, failure: ModelyardError | None = None) -> Response:
    shown = await api.get_version(call)
    content = next((item.content for item in shown["evidence"] if item.kind == "evaluation"), {})

    def work(conn: Connection) -> dict[str, Any]:
        version = versions.get(conn, shown["model"], shown["version"])
        others = [item for item in versions.of_model(conn, version.model) if item.version != version.version]
        events = (
            log.read(conn, subject=version.subject, limit=50) if call.principal.may(Permission.AUDIT_READ) else []
        )
        return {
            "rival": _rival(conn, version, content, others),
            "others": others,
            "events": events,
            "desks": [
                _desk(conn, call, version, name, policy) for name, policy in call.yard.project.environments.items()
            ],
            "lineage": [_stop(item, version) for item in cards.lineage(version, content)],
            "graph": lineage.graph(conn, version),
        }

    context = await call.yard.store.read(work)
    declared = call.yard.project.models.get(shown["model"])
    primary = declared.primary_metric if declared else ""
    recorded = shown["lineage"]
    context["drawing"] = card_page.drawing(context["graph"])
    context |= {
        "v": shown,
        "failure": failure,
        "standing": sorted(shown["states"].items()),
        "rows": content.get("rows"),
        "primary": primary,
        "protected": declared.protected if declared else [],
        "metrics": _metrics(content, context["rival"], primary),
        "groups": _groups(content, primary),
        "bias": content.get("bias", []),
        "params": _flat(recorded.get("params", {})),
        "code": _flat(recorded.get("code", {})),
    }
    return render.page(call, "version.html", status=failure.status if failure else 200, **context)


def _flat(held: dict[str, Any]) -> dict[str, str]:
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in held.items()}


def _rival(
    conn: Connection, version: Version, content: dict[str, Any], others: list[Version]
) -> dict[str, Any] | None:
    """What the version is compared with: the champion of its evaluation, or else the champion of today."""
    named = (content.get("champion") or {}).get("version")
    today = next((item.version for item in others if versions.CHAMPION in item.aliases), None)
    number = named if named is not None and any(item.version == named for item in others) else today
    if number is None or number == version.version:
        return None
    sides = comparison.sides(conn, version.model, [str(number), str(version.version)])
    found = comparison.compare(sides)
    return {
        "version": number,
        "is_champion": True,
        "same_data": found["same_data"] or named == number,
        "measured": (content.get("champion") or {}).get("metrics", {}) if named == number else {},
        "rows": {row["metric"]: row for row in found["metrics"]},
    }


def _metrics(content: dict[str, Any], rival: dict[str, Any] | None, primary: str) -> list[dict[str, Any]]:
    values: dict[str, float] = content.get("metrics", {})
    errors: dict[str, float] = content.get("standard_errors", {})
    names = sorted(values, key=lambda name: (name != primary, name))
    return [_metric(name, values[name], errors.get(name), rival) for name in names]


def _metric(name: str, value: float, error: float | None, rival: dict[str, Any] | None) -> dict[str, Any]:
    row: dict[str, Any] = {"metric": name, "value": value, "error": error, "other": None, "difference": None}
    row |= {"low": None, "high": None, "picture": "", "reading": "", "tone": ""}
    if rival is None:
        return row
    compared = rival["rows"].get(name) or {"values": [None, None], "differences": [None]}
    row["other"] = rival["measured"].get(name, compared["values"][0])
    if row["other"] is None:
        return row | {"reading": "not measured for the champion"}
    found = compared["differences"][0]
    paired = name not in rival["measured"] or (found is not None and found["low"] is not None)
    row["difference"] = found["value"] if found and paired else value - row["other"]
    if row["difference"] == 0:
        return row | {"reading": "the same"}
    good = (row["difference"] < 0) == lower_is_better(name)
    word = "better" if good else "worse"
    if not found or found["low"] is None or not paired:
        return row | {"reading": f"{word}, no interval"}
    sure = found["beyond_noise"]
    tone = ("good" if good else "bad") if sure else ""
    span = max(abs(found["low"]), abs(found["high"]))
    label = f"difference {wording.signed(row['difference'])}"
    picture = charts.interval(row["difference"], found["low"], found["high"], span, tone, label)
    reading = f"{word} beyond noise" if sure else "within noise"
    return row | {"low": found["low"], "high": found["high"], "picture": picture, "reading": reading, "tone": tone}


def _groups(content: dict[str, Any], primary: str) -> list[tuple[str, list[dict[str, Any]], Any]]:
    """(column, its slices, their picture) for every column that the evaluation was cut by."""
    slices: list[dict[str, Any]] = content.get("slices", [])
    whole = content.get("metrics", {})
    found: list[tuple[str, list[dict[str, Any]], Any]] = []
    for by in dict.fromkeys(item["by"] for item in slices):
        held = sorted((item for item in slices if item["by"] == by), key=lambda item: -item["rows"])
        metric = primary if any(primary in item["metrics"] for item in held) else next(iter(held[0]["metrics"]), "")
        bars = [
            Bar(
                str(item["value"]),
                abs(item["metrics"][metric]),
                abs(whole[metric]) if metric in whole else None,
                _tone(metric, item["metrics"][metric], whole.get(metric)),
                f"{item['metrics'][metric]:.3f} ({item['rows']} rows)",
            )
            for item in held
            if item["metrics"].get(metric) is not None
        ]
        found.append((str(by), held, charts.bars(bars, f"{metric} by {by}; the dashed line is the whole")))
    return found


def _tone(metric: str, value: float, whole: float | None) -> str:
    """Bad for a slice that is clearly worse than the whole: by more than a tenth of it."""
    if whole is None:
        return ""
    worse = value - whole if lower_is_better(metric) else whole - value
    return "bad" if worse > 0.1 * abs(whole) else ""


def _desk(conn: Connection, call: Call, version: Version, name: str, policy: Environment) -> dict[str, Any]:
    """Where a version stands in an environment, what was decided, and whether this person may decide."""
    project, me = call.yard.project, call.principal
    requests = [a for a in approvals.find(conn, version.model, version.version) if a.environment == name]
    newest = requests[0] if requests else None
    asked = newest is not None and newest.state == ApprovalState.OPEN
    held = approvals.approved(conn, version.model, version.version, name)
    serves = records.serves(conn, name, version.model, version.version)
    state = versions.state(conn, version.model, version.version, name)
    everybody = principals.every(conn) if asked else []
    given = {d.principal for d in newest.decisions if d.verdict == "approve"} if newest else set[str]()
    return {
        "environment": name,
        "state": "serves" if serves else str(state),
        "open": asked,
        "decisions": newest.decisions if newest else (),
        "needed": policy.approvals,
        "given": len(given),
        "role": policy.approver_role,
        "approvers": [p.name for p in everybody if approvals.why_not(conn, project, version, name, p) is None],
        "refusal": approvals.why_not(conn, project, version, name, me) if asked else None,
        "may_decide": asked and me.may(Permission.VERSIONS_DECIDE, name),
        "comment": call.body.get("comment", "") if isinstance(call.body, dict) else "",
        "serves": serves,
        "deployable": held is not None and not serves and me.may(Permission.DEPLOYMENTS_DEPLOY, name),
        "says": "The gates decide here." if policy.approval == "gates" else "No decision was asked for yet.",
    }


def _stop(item: dict[str, str], version: Version) -> dict[str, Any]:
    places = {
        "pipeline run": wording.at("pipelines", item["id"]),
        "run": wording.at("runs", item["id"]),
        "logged model": wording.with_query(wording.at("runs", version.run_id, "artifacts"), model=item["id"])
        if version.run_id
        else None,
    }
    text = item["id"] if item["kind"] == "version" else item["id"][:14]
    return {"kind": item["kind"], "text": text, "link": places.get(item["kind"])}


async def decide(call: Call) -> Response:
    name, number = call.path["name"], call.path["version"]
    verdict = forms.field(call, "verdict")
    body = api.Verdict(forms.field(call, "environment"), verdict, forms.field(call, "comment"))
    done = "approved" if verdict == "approve" else "rejected"
    return await forms.act(call, api.decide, body, wording.at("models", name, "versions", number), done, show)


async def deploy(call: Call) -> Response:
    """Place an approved version at its endpoint again."""
    name, number, environment = call.path["name"], api.version_number(call), forms.field(call, "environment")
    if environment not in call.yard.project.environments:
        raise NotFound(f"There is no environment {environment[:80]!r}.", remedy="Go back to the version's page.")
    call.require(Permission.DEPLOYMENTS_DEPLOY, environment)
    call.path["environment"] = environment
    goal = wording.at("endpoints", environment, name)
    return await forms.act(
        call, endpoints_api.deploy, endpoints_api.NewDeployment(name, number), goal, "deployed", show
    )


ONE = "/models/{name}/versions/{version}"
ROUTES = [
    Route("GET", ONE, Permission.VERSIONS_READ, show),
    Route("POST", ONE + "/decide", Permission.VERSIONS_DECIDE, decide, form=True, max_body=65_536),
    Route("POST", ONE + "/deploy", Permission.DEPLOYMENTS_READ, deploy, form=True, max_body=8192),
]
