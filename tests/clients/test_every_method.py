"""Every public method of the stock `MlflowClient` against our server: it works, or fails in MLflow's shape at once.

A method that a new release brings fails here until it is put into one of the tables (and into the reference).
"""

import io
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    LoggedModelInput,
    LoggedModelOutput,
    Metric,
    Param,
    RunTag,
)
from mlflow.exceptions import MlflowException

pytestmark = pytest.mark.filterwarnings("ignore")
REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "mlflow-protocol.md"
QUICK_S = 60.0
"""A call that the client repeats takes minutes."""
"""A call that a client sends again and again before it gives up would take a minute."""


@dataclass
class Case:
    """What the methods work on: everything that one call may need, made before each group."""

    client: MlflowClient
    folder: Path
    experiment: str
    run: str
    model: str
    names: dict[str, str] = field(default_factory=dict[str, str])

    def run_made(self) -> str:
        return self.client.create_run(self.experiment).info.run_id

    def registered(self, versions: int = 1) -> str:
        """The name of a new registered model with this many versions."""
        name = f"swept-{time.monotonic_ns()}"
        self.client.create_registered_model(name)
        for _ in range(versions):
            self.client.create_model_version(name, f"models:/{self.model}", self.run, model_id=self.model)
        return name

    def prompt(self) -> str:
        name = f"prompt-{time.monotonic_ns()}"
        self.client.register_prompt(name, "Hello {{name}}")
        return name

    def webhook(self) -> str:
        made = self.client.create_webhook("w", "https://ci.invalid/hook", ["registered_model.created"])
        return made.webhook_id


Check = Callable[[Case], object]


def _experiment(case: Case) -> str:
    return case.client.create_experiment(f"swept-{time.monotonic_ns()}")


def create_experiment(case: Case) -> object:
    return case.client.get_experiment(_experiment(case)).name.startswith("swept-")


def restore_experiment(case: Case) -> object:
    made = _experiment(case)
    case.client.delete_experiment(made)
    deleted = case.client.get_experiment(made).lifecycle_stage
    case.client.restore_experiment(made)
    return (deleted, case.client.get_experiment(made).lifecycle_stage) == ("deleted", "active")


def rename_experiment(case: Case) -> object:
    made = _experiment(case)
    case.client.rename_experiment(made, f"renamed-{made}")
    return case.client.get_experiment_by_name(f"renamed-{made}").experiment_id == made


def experiment_tags(case: Case) -> object:
    made = _experiment(case)
    case.client.set_experiment_tag(made, "a", 1)
    case.client.set_experiment_tag(made, "b", 2)
    case.client.delete_experiment_tag(made, "a")
    return case.client.get_experiment(made).tags == {"b": "2"}


def restore_run(case: Case) -> object:
    made = case.run_made()
    case.client.delete_run(made)
    deleted = case.client.get_run(made).info.lifecycle_stage
    case.client.restore_run(made)
    return (deleted, case.client.get_run(made).info.lifecycle_stage) == ("deleted", "active")


def log_values(case: Case) -> object:
    """Synchronous and not."""
    made = case.run_made()
    case.client.log_metric(made, "m", 1.5, step=2)
    case.client.log_metric(made, "n", 2.5, synchronous=False).wait()
    case.client.log_param(made, "p", [1, 2])
    case.client.log_param(made, "q", "x", synchronous=False).wait()
    case.client.set_tag(made, "t", "v")
    case.client.set_tag(made, "u", "w", synchronous=False).wait()
    case.client.delete_tag(made, "t")
    case.client.log_batch(made, [Metric("b", 1, 1, 1)], [Param("c", "1")], [RunTag("d", "1")])
    data = case.client.get_run(made).data
    assert data.metrics == {"m": 1.5, "n": 2.5, "b": 1.0}
    return data.params == {"p": "[1, 2]", "q": "x", "c": "1"} and data.tags["u"] == "w" and "t" not in data.tags


def history(case: Case) -> object:
    for step in range(3):
        case.client.log_metric(case.run, "curve", step / 2, step=step)
    return [point.value for point in case.client.get_metric_history(case.run, "curve")] == [0, 0.5, 1]


def set_terminated(case: Case) -> object:
    made = case.run_made()
    case.client.update_run(made, "RUNNING", "named")
    case.client.set_terminated(made, "KILLED", end_time=12)
    info = case.client.get_run(made).info
    return (info.run_name, info.status, info.end_time) == ("named", "KILLED", 12)


def parent_run(case: Case) -> object:
    made = case.client.create_run(case.experiment, tags={"mlflow.parentRunId": case.run}).info.run_id
    return case.client.get_parent_run(made).info.run_id == case.run and case.client.get_parent_run(case.run) is None


def inputs_and_outputs(case: Case) -> object:
    made = case.run_made()
    dataset = DatasetInput(Dataset("data", "d1", "local", "{}"))
    case.client.log_inputs(made, [dataset], [LoggedModelInput(case.model)])
    case.client.log_outputs(made, [LoggedModelOutput(case.model, 3)])
    found = case.client.get_run(made)
    assert found.inputs.dataset_inputs[0].dataset.digest == "d1"
    return found.inputs.model_inputs[0].model_id == found.outputs.model_outputs[0].model_id == case.model


def artifacts(case: Case) -> object:
    """Each way to write one, with odd names."""
    client, run = case.client, case.run_made()
    client.log_artifact(run, str(case.folder / "a b+ü&'(1).txt"), "sub folder")
    client.log_artifacts(run, str(case.folder))
    client.log_text(run, "x", "t.txt")
    client.log_dict(run, {"a": 1}, "d.yaml")
    client.log_stream(run, io.BytesIO(b"bytes"), "s.bin")
    client.log_image(run, np.zeros((2, 2, 3), dtype=np.uint8), "i.png")
    client.log_image(run, np.zeros((2, 2, 3), dtype=np.uint8), key="img", step=1)
    names = {item.path for item in client.list_artifacts(run)}
    assert names == {"sub folder", "a b+ü&'(1).txt", "t.txt", "d.yaml", "s.bin", "i.png", "images"}
    got = client.download_artifacts(run, "sub folder/a b+ü&'(1).txt", str(case.folder.parent))
    return Path(got).read_text() == "odd" and client.list_artifacts(run, "s.bin") == []


def log_figure(case: Case) -> object:
    figure = pytest.importorskip("matplotlib.figure").Figure()
    case.client.log_figure(case.run, figure, "f.png")
    return "f.png" in {item.path for item in case.client.list_artifacts(case.run)}


def tables(case: Case) -> object:
    case.client.log_table(case.run, {"a": [1, 2]}, "t.json")
    case.client.log_table(case.run, {"a": [3]}, "t.json")
    return list(case.client.load_table(case.experiment, "t.json", [case.run])["a"]) == [1, 2, 3]


def search_runs(case: Case) -> object:
    found = case.client.search_runs([case.experiment], f"run_id = '{case.run}'")
    return [run.info.run_id for run in found] == [case.run]


def search_experiments(case: Case) -> object:
    name = case.client.get_experiment(case.experiment).name
    return [item.experiment_id for item in case.client.search_experiments(filter_string=f"name = '{name}'")] == [
        case.experiment
    ]


def logged_models(case: Case) -> object:
    client = case.client
    made = client.create_logged_model(case.experiment, "lm", case.run, {"a": "1"}, {"p": "1"}, "tree")
    client.log_model_params(made.model_id, {"late": "2"})
    client.set_logged_model_tags(made.model_id, {"b": 2})
    client.delete_logged_model_tag(made.model_id, "a")
    client.log_model_artifact(made.model_id, str(case.folder.parent / "MLmodel"))
    client.log_model_artifacts(made.model_id, str(case.folder), "more")
    client.log_metric(case.run, "auc", 0.5, model_id=made.model_id, dataset_name="d", dataset_digest="1")
    client.finalize_logged_model(made.model_id, "READY")
    found = client.get_logged_model(made.model_id)
    assert (found.params, found.tags["b"], str(found.status)) == ({"p": "1", "late": "2"}, "2", "READY")
    assert (found.metrics[0].key, found.metrics[0].dataset_name, found.model_type) == ("auc", "d", "tree")
    assert {item.path for item in client.list_logged_model_artifacts(made.model_id)} == {"MLmodel", "more"}
    searched = client.search_logged_models([case.experiment], "metrics.auc > 0.4", [{"dataset_name": "d"}])
    assert [item.model_id for item in searched] == [made.model_id]
    client.delete_logged_model(made.model_id)
    return made.model_id not in {item.model_id for item in client.search_logged_models([case.experiment])}


def registered_models(case: Case) -> object:
    client, name = case.client, case.registered()
    client.set_registered_model_tag(name, "a", 1)
    client.set_registered_model_tag(name, "b", 2)
    client.delete_registered_model_tag(name, "a")
    client.update_registered_model(name, "about")
    renamed = f"{name}-b"
    client.rename_registered_model(name, renamed)
    found = client.get_registered_model(renamed)
    assert (found.tags, found.description) == ({"b": "2"}, "about")
    assert [item.name for item in client.search_registered_models(f"name = '{renamed}'")] == [renamed]
    client.delete_registered_model(renamed)
    return not client.search_registered_models(f"name = '{renamed}'")


def versions(case: Case) -> object:
    client, name = case.client, case.registered(2)
    client.update_model_version(name, "1", "first")
    client.set_model_version_tag(name, "1", "a", "1")
    client.set_model_version_tag(name, "1", "b", "2")
    client.delete_model_version_tag(name, "1", "a")
    found = client.get_model_version(name, "1")
    assert (found.description, found.tags, found.status) == ("first", {"b": "2"}, "READY")
    assert client.get_model_version_download_uri(name, "1").endswith(f"/models/{case.model}/artifacts")
    assert {int(item.version) for item in client.search_model_versions(f"name = '{name}'")} == {2, 1}
    client.delete_model_version(name, "2")
    return [int(item.version) for item in client.search_model_versions(f"name = '{name}'")] == [1]


def aliases(case: Case) -> object:
    client, name = case.client, case.registered(2)
    client.set_registered_model_alias(name, "live", "2")
    assert int(client.get_model_version_by_alias(name, "live").version) == 2
    client.delete_registered_model_alias(name, "live")
    return client.get_registered_model(name).aliases == {}


def stages(case: Case) -> object:
    client, name = case.client, case.registered(2)
    assert client.get_model_version_stages(name, "1") == ["None", "Staging", "Production", "Archived"]
    client.transition_model_version_stage(name, "1", "Production")
    client.transition_model_version_stage(name, "2", "Production", archive_existing_versions=True)
    assert client.get_model_version(name, "1").current_stage == "Archived"
    return [int(item.version) for item in client.get_latest_versions(name, ["Production"])] == [2]


def copies(case: Case) -> object:
    name = case.registered()
    copied = case.client.copy_model_version(f"models:/{name}/1", f"{name}-copy")
    return (copied.name, int(copied.version)) == (f"{name}-copy", 1)


def webhooks(case: Case) -> object:
    made = case.webhook()
    case.client.update_webhook(made, name="renamed")
    assert case.client.get_webhook(made).name == "renamed"
    assert made in [item.webhook_id for item in case.client.list_webhooks()]
    assert not case.client.test_webhook(made).success
    case.client.delete_webhook(made)
    return made not in [item.webhook_id for item in case.client.list_webhooks()]


def prompts(case: Case) -> object:
    client, name = case.client, f"prompt-{time.monotonic_ns()}"
    client.create_prompt(name, "greets", {"lang": "en"})
    client.create_prompt_version(name, "Hello {{name}}", "first")
    client.register_prompt(name, "Hi {{name}}", "second", {"mood": "short"})
    client.set_prompt_tag(name, "a", "1")
    client.set_prompt_tag(name, "b", "2")
    client.delete_prompt_tag(name, "a")
    client.set_prompt_alias(name, "live", 2)
    assert client.get_prompt(name).tags["b"] == "2"
    assert client.get_prompt_version(name, 1).template == "Hello {{name}}"
    assert client.get_prompt_version_by_alias(name, "live").version == 2
    assert client.load_prompt(f"prompts:/{name}@live").format(name="Ana") == "Hi Ana"
    client.set_prompt_version_tag(name, 1, "c", "3")
    assert client.get_prompt_version(name, 1).tags["c"] == "3"
    client.delete_prompt_version_tag(name, 1, "c")
    assert len(list(client.search_prompt_versions(name))) == 2
    assert name in [item.name for item in client.search_prompts()]
    assert name not in [item.name for item in client.search_registered_models()]
    client.delete_prompt_alias(name, "live")
    client.delete_prompt_version(name, "1")
    client.delete_prompt_version(name, "2")
    client.delete_prompt(name)
    return client.get_prompt(name) is None


def prompt_links(case: Case) -> object:
    name = case.prompt()
    case.client.link_prompt_version_to_run(case.run, f"prompts:/{name}/1")
    case.client.link_prompt_version_to_model(name, "1", case.model)
    assert name in case.client.get_run(case.run).data.tags["mlflow.linkedPrompts"]
    case.client.set_prompt_version_tag(name, 1, "mlflow.prompt.associatedRunIds", case.run)
    assert [item.name for item in case.client.list_logged_prompts(case.run)] == [name]
    case.client.detach_prompt_from_run(case.run, f"prompts:/{name}/1")
    return case.client.list_logged_prompts(case.run) == []


def here_alone(case: Case) -> object:
    """Without a call to the server."""
    return case.client.parse_prompt_uri("prompts:/a/1") == ("a", "1")


WORKS: dict[Check, str] = {
    create_experiment: "create_experiment get_experiment",
    restore_experiment: "delete_experiment restore_experiment",
    rename_experiment: "rename_experiment get_experiment_by_name",
    experiment_tags: "set_experiment_tag delete_experiment_tag",
    search_experiments: "search_experiments",
    restore_run: "create_run get_run delete_run restore_run",
    log_values: "log_metric log_param set_tag delete_tag log_batch",
    history: "get_metric_history",
    set_terminated: "set_terminated update_run",
    parent_run: "get_parent_run",
    inputs_and_outputs: "log_inputs log_outputs",
    artifacts: "log_artifact log_artifacts log_text log_dict log_stream log_image list_artifacts download_artifacts",
    log_figure: "log_figure",
    tables: "log_table load_table",
    search_runs: "search_runs",
    logged_models: "create_logged_model get_logged_model finalize_logged_model delete_logged_model "
    "search_logged_models set_logged_model_tags delete_logged_model_tag log_model_params log_model_artifact "
    "log_model_artifacts list_logged_model_artifacts",
    registered_models: "create_registered_model get_registered_model update_registered_model "
    "rename_registered_model delete_registered_model search_registered_models set_registered_model_tag "
    "delete_registered_model_tag",
    versions: "create_model_version get_model_version update_model_version delete_model_version "
    "search_model_versions set_model_version_tag delete_model_version_tag get_model_version_download_uri",
    aliases: "set_registered_model_alias get_model_version_by_alias delete_registered_model_alias",
    stages: "transition_model_version_stage get_latest_versions get_model_version_stages",
    copies: "copy_model_version",
    webhooks: "create_webhook get_webhook list_webhooks update_webhook test_webhook delete_webhook",
    prompts: "create_prompt create_prompt_version register_prompt get_prompt get_prompt_version "
    "get_prompt_version_by_alias load_prompt search_prompts search_prompt_versions set_prompt_tag delete_prompt_tag "
    "set_prompt_alias delete_prompt_alias set_prompt_version_tag delete_prompt_version_tag delete_prompt_version "
    "delete_prompt",
    prompt_links: "link_prompt_version_to_run link_prompt_version_to_model list_logged_prompts "
    "detach_prompt_from_run",
    here_alone: "parse_prompt_uri",
}

REFUSED: dict[str, tuple[Any, ...]] = {
    "search_traces": (["0"],),
    "get_trace": ("tr-" + "0" * 32, False),
    "delete_traces": ("0", 1),
    "set_trace_tag": ("tr-1", "a", "b"),
    "delete_trace_tag": ("tr-1", "a"),
    "link_traces_to_run": (["tr-1"], "0" * 32),
    "create_dataset": ("d",),
    "get_dataset": ("d-1",),
    "delete_dataset": ("d-1",),
    "search_datasets": (),
    "set_dataset_tags": ("d-1", {"a": "b"}),
    "delete_dataset_tag": ("d-1", "a"),
    "add_dataset_to_experiments": ("d-1", ["0"]),
    "remove_dataset_from_experiments": ("d-1", ["0"]),
    "create_workspace": ("ws",),
    "get_workspace": ("ws",),
    "update_workspace": ("ws",),
    "delete_workspace": ("ws",),
    "list_workspaces": (),
    "create_mcp_server": ("s",),
    "create_mcp_server_version": ({"name": "io.x/s", "version": "1.0.0", "description": "d"},),
    "create_mcp_access_endpoint": ("s", "https://x.invalid"),
    "get_mcp_server": ("s",),
    "get_mcp_server_version": ("s", "1"),
    "get_mcp_server_version_by_alias": ("s", "a"),
    "get_latest_mcp_server_version": ("s",),
    "get_mcp_access_endpoint": ("s", "e"),
    "search_mcp_servers": (),
    "search_mcp_server_versions": ("s",),
    "search_mcp_access_endpoints": ("s",),
    "update_mcp_server": ("s", "n"),
    "update_mcp_server_version": ("s", "1"),
    "update_mcp_access_endpoint": ("s", "e", "https://x.invalid"),
    "refresh_mcp_server_version_tools": ("s", "1"),
    "delete_mcp_server": ("s",),
    "delete_mcp_server_version": ("s", "1"),
    "delete_mcp_access_endpoint": ("s", "e"),
    "delete_mcp_server_alias": ("s", "a"),
    "delete_mcp_server_tag": ("s", "k"),
    "delete_mcp_server_version_tag": ("s", "1", "k"),
    "set_mcp_server_alias": ("s", "a", "1"),
    "set_mcp_server_tag": ("s", "k", "v"),
    "set_mcp_server_version_tag": ("s", "1", "k", "v"),
}
"""Answered with an error of MLflow's shape."""

DROPPED = "start_trace end_trace start_span end_span link_prompt_versions_to_trace".split()
"""Work on the client's side; what they made is not kept."""
HERE_ALONE = "get_workspace_store_uri unlink_traces_from_run".split()
"""Tell of the client's configuration, or are refused by the client itself."""


@pytest.fixture(scope="module")
def case(mlflow: Any, tmp_path_factory: pytest.TempPathFactory) -> Case:
    client = MlflowClient()
    folder = tmp_path_factory.mktemp("swept") / "files"
    folder.mkdir()
    (folder / "a b+ü&'(1).txt").write_text("odd")
    experiment = client.create_experiment(f"sweep-{time.monotonic_ns()}")
    run = client.create_run(experiment).info.run_id
    model = client.create_logged_model(experiment, "model", run)
    (folder.parent / "MLmodel").write_text("flavors: {}\n")
    client.log_model_artifact(model.model_id, str(folder.parent / "MLmodel"))
    client.finalize_logged_model(model.model_id, "READY")
    return Case(client, folder, experiment, run, model.model_id)


@pytest.mark.parametrize("check", WORKS, ids=lambda check: check.__name__)
def test_it_works(case: Case, check: Check) -> None:
    assert check(case)


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_in_mlflows_shape(case: Case, name: str) -> None:
    began = time.monotonic()
    with pytest.raises(MlflowException) as caught:
        getattr(case.client, name)(*REFUSED[name])
    assert caught.value.error_code in ("ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED", "FEATURE_DISABLED"), caught.value
    assert time.monotonic() - began < QUICK_S


def test_every_method_is_in_a_table_and_in_the_reference() -> None:
    public = {
        name for name in dir(MlflowClient) if not name.startswith("_") and callable(getattr(MlflowClient, name))
    }
    working = {name for names in WORKS.values() for name in names.split()}
    assert public == working | REFUSED.keys() | set(DROPPED) | set(HERE_ALONE)
    assert len(public) == len(working) + len(REFUSED) + len(DROPPED) + len(HERE_ALONE)
    told = REFERENCE.read_text()
    assert [name for name in sorted(public) if f"`{name}`" not in told] == []
