"""Made-up sequences over logged models, datasets and the registry: after each, both servers hold the same."""

import uuid
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.differential.conftest import Pair
from tests.differential.test_registry import OWN, logged_model
from tests.differential.test_tracking import experiment, run

MODELS = st.sampled_from(["{m0}", "{m1}"])
KEYS = st.sampled_from(["a", "b", "val/a", "c d", "../x", "e" * 251, "semi;colon"])
TEXTS = st.sampled_from(["", "1", "it's", 'say "x"', "ünï", "%_"])
PAIRS = st.lists(st.fixed_dictionaries({"key": KEYS, "value": TEXTS}), max_size=2, unique_by=lambda item: item["key"])
DATASET = st.sampled_from([{}, {"dataset_name": "d", "dataset_digest": "1"}, {"dataset_name": "d"}])
MEASURED = st.fixed_dictionaries(
    {"key": KEYS, "value": st.sampled_from([0.5, -1, 2]), "timestamp": st.integers(0, 9), "step": st.integers(0, 3)}
)
READ = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["d", "e", "n" * 501]),
        "digest": st.sampled_from(["1", "2", "9" * 37]),
        "source_type": st.just("local"),
        "source": st.sampled_from(["{}", "other"]),
    }
)
CONTEXT = st.sampled_from([[], [{"key": "mlflow.data.context", "value": "eval"}], [{"key": "k" * 256, "value": "v"}]])
LOGGED = st.one_of(
    st.tuples(MODELS, PAIRS).map(lambda t: ("PATCH", f"logged-models/{t[0]}/tags", {"model_id": t[0], "tags": t[1]})),
    st.tuples(MODELS, KEYS.filter(lambda key: "/" not in key)).map(
        lambda t: ("DELETE", f"logged-models/{t[0]}/tags/{t[1]}", {})
    ),
    st.tuples(MODELS, st.sampled_from(["LOGGED_MODEL_READY", "LOGGED_MODEL_UPLOAD_FAILED"])).map(
        lambda t: ("PATCH", f"logged-models/{t[0]}", {"model_id": t[0], "status": t[1]})
    ),
    st.tuples(MODELS, MEASURED, DATASET).map(
        lambda t: ("POST", "runs/log-metric", {"run_id": "{r}", "model_id": t[0], **t[1], **t[2]})
    ),
    st.tuples(READ, CONTEXT).map(
        lambda t: ("POST", "runs/log-inputs", {"run_id": "{r}", "datasets": [{"dataset": t[0], "tags": t[1]}]})
    ),
    st.tuples(st.sampled_from(["runs/outputs", "runs/log-inputs"]), MODELS).map(
        lambda t: ("POST", t[0], {"run_id": "{r}", "models": [{"model_id": t[1]}]})
    ),
)
FILTERS = st.sampled_from(
    [
        "",
        "metrics.a > 0",
        "metrics.`val/a` < 1",
        "tags.a = '1'",
        "name LIKE 'm%' AND status = 'READY'",
        "tags.b != ''",
    ]
)
MADE_UP = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@MADE_UP
@given(st.lists(LOGGED, min_size=4, max_size=12), FILTERS, st.booleans())
def test_logged_models_and_datasets(pair: Pair, calls: list[Any], wanted: str, gone: bool) -> None:
    experiment(pair)
    run(pair)
    for name in ("m0", "m1"):
        logged_model(pair, name, params=[{"key": "depth", "value": "3"}])
    told: list[Any] = []
    for method, path, body in calls:
        if path == "runs/outputs" and body in told:  # told twice is once here, and an error of the database there
            continue
        told.append(body)
        pair.same(method, f"2.0/mlflow/{path}", body)
    if gone:
        pair.same("DELETE", "2.0/mlflow/logged-models/{m1}", {})
    for name in ("m0", "m1"):
        pair.same("GET", f"2.0/mlflow/logged-models/{{{name}}}")
    pair.same("GET", "2.0/mlflow/runs/get", run_id="{r}")
    pair.same("POST", "ajax-api/2.0/mlflow/experiments/search-datasets", {"experiment_ids": ["{e}"]})
    orders: list[Any] = [[{"field_name": "name"}], [{"field_name": "metrics.a"}, {"field_name": "name"}]]
    for order in orders:
        body = {"experiment_ids": ["{e}"], "filter": wanted, "order_by": order}
        pair.same("POST", "2.0/mlflow/logged-models/search", body)
    assert not pair.differences


NAMES = st.sampled_from(["{n0}", "{n1}", "{none}"])
NUMBERS = st.sampled_from(["1", "2", "7", "x"])
ALIASES = st.sampled_from(["champion", "Old", "a b", "v2"])
STAGES = st.sampled_from(["Production", "staging", "Archived", "None", "Nowhere"])


def call(method: str, path: str, **fields: Any) -> Any:
    return st.fixed_dictionaries(fields).map(lambda body: (method, path, body))


OWN_MODEL = st.just("models:/{m0}")
REGISTRY = st.one_of(
    call("POST", "model-versions/create", name=NAMES, source=OWN_MODEL, model_id=st.just("{m0}"), tags=PAIRS),
    call("POST", "model-versions/create", name=NAMES, source=st.sampled_from(["models:/{n0}/1", "models:/{n1}/9"])),
    call("POST", "model-versions/set-tag", name=NAMES, version=NUMBERS, key=KEYS, value=TEXTS),
    call("DELETE", "model-versions/delete-tag", name=NAMES, version=NUMBERS, key=KEYS),
    call("PATCH", "model-versions/update", name=NAMES, version=NUMBERS, description=TEXTS),
    call("DELETE", "model-versions/delete", name=NAMES, version=NUMBERS),
    call(
        "POST",
        "model-versions/transition-stage",
        name=NAMES,
        version=NUMBERS,
        stage=STAGES,
        archive_existing_versions=st.booleans(),
    ),
    call("POST", "registered-models/set-tag", name=NAMES, key=KEYS, value=TEXTS),
    call("DELETE", "registered-models/delete-tag", name=NAMES, key=KEYS),
    call("PATCH", "registered-models/update", name=NAMES, description=TEXTS),
    call("POST", "registered-models/alias", name=NAMES, version=NUMBERS, alias=ALIASES),
    call("DELETE", "registered-models/alias", name=NAMES, alias=ALIASES),
    call("POST", "registered-models/rename", name=NAMES, new_name=st.sampled_from(["{n0}", "{n1}", "a/b", ""])),
    call("DELETE", "registered-models/delete", name=st.just("{n1}")),
)
HIDDEN = (*OWN, "aliases", "error_code")
"""A stage shows as an alias here, and aliases are asked for by name below."""


@MADE_UP
@given(st.lists(REGISTRY, min_size=5, max_size=14))
def test_registered_models_and_versions(pair: Pair, calls: list[Any]) -> None:
    experiment(pair)
    run(pair)
    logged_model(pair, "m0")
    mark = uuid.uuid4().hex[:8]
    for side in (pair.ours, pair.theirs):
        side.saved |= {"n0": f"{mark}-0", "n1": f"{mark}-1", "none": f"{mark}-none"}
    for name in ("{n0}", "{n1}"):
        pair.same("POST", "2.0/mlflow/registered-models/create", {"name": name}, skip=HIDDEN)
        for _ in range(2):
            body = {"name": name, "source": "models:/{m0}", "model_id": "{m0}"}
            pair.same("POST", "2.0/mlflow/model-versions/create", body, skip=HIDDEN)
    for method, path, body in calls:
        pair.same(method, f"2.0/mlflow/{path}", body, skip=HIDDEN)
    for name in ("{n0}", "{n1}"):
        shown = (*OWN, "aliases")
        pair.same("GET", "2.0/mlflow/registered-models/get", name=name, skip=shown)
        pair.same("POST", "2.0/mlflow/registered-models/get-latest-versions", {"name": name}, skip=shown)
        pair.same(
            "GET",
            "2.0/mlflow/model-versions/search",
            filter=f"name = '{name}'",
            order_by="version_number ASC",
            skip=shown,
        )
        for alias in ("champion", "Old"):
            pair.same("GET", "2.0/mlflow/registered-models/alias", name=name, alias=alias, skip=shown)
    assert not pair.differences
