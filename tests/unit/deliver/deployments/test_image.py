"""Container builds: locked, hardened, and valid by Kubernetes' published schemas; and the process that they run."""

import hashlib
import http.client
import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from modelyard.deliver.deployments import image
from modelyard.deliver.deployments.image import Built
from modelyard.deliver.serving import standalone
from modelyard.domain.errors import ConfigError
from modelyard.kit.hashing import digest_file
from tests.conftest import wait_until
from tests.ports import free_port
from tests.unit.deliver.deployments.house import knob_model

BUILT = Built("Flight Delay", 3, "d" * 64, "3.11", "registry.example/flight-delay:3")
SCHEMA = "1.34"


def valid(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, SCHEMA, strict=True)


def test_the_manifests_hold_by_the_published_schemas() -> None:
    valid(image.deployment(BUILT))
    valid(image.service(BUILT))
    serving = image.inference_service(BUILT)
    assert serving["apiVersion"] == "serving.kserve.io/v1beta1" and serving["metadata"]["name"] == "flight-delay"
    predictor = {key: value for key, value in serving["spec"]["predictor"].items() if "Replicas" not in key}
    valid({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": predictor})


def test_a_schema_violation_would_be_seen() -> None:
    broken = image.deployment(BUILT)
    broken["spec"]["template"]["spec"]["containers"][0]["prots"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        valid(broken)


def test_the_container_is_hardened() -> None:
    pod = image.deployment(BUILT)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["automountServiceAccountToken"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_everything_is_written_and_twice_the_same(tmp_path: Path) -> None:
    needs = f"numpy=={__import__('numpy').__version__}\n"
    first = {
        path.relative_to(tmp_path / "a"): path.read_bytes() for path in image.write(tmp_path / "a", BUILT, needs)
    }
    again = {
        path.relative_to(tmp_path / "b"): path.read_bytes() for path in image.write(tmp_path / "b", BUILT, needs)
    }
    assert first == again
    dockerfile = first[Path("Dockerfile")].decode()
    assert "USER 10001:10001" in dockerfile and "HEALTHCHECK" in dockerfile and "--no-deps" in dockerfile
    assert "FROM python:3.11-slim" in dockerfile
    lines = first[Path("requirements.lock")].decode().splitlines()
    names = [line.partition("==")[0] for line in lines]
    assert names == sorted(set(names)) and all("==" in line for line in lines)
    assert {"modelyard", "numpy", "uvicorn", "msgspec", "skops"} <= set(names) and "mlflow-skinny" not in names
    manifests = [*yaml.safe_load_all(first[Path("kubernetes/deployment.yaml")])]
    for manifest in manifests:
        valid(manifest)


def test_the_chart_renders_to_the_same_manifests(tmp_path: Path) -> None:
    image.write(tmp_path, BUILT, "")
    values = yaml.safe_load((tmp_path / "helm" / "values.yaml").read_text())
    chart = yaml.safe_load((tmp_path / "helm" / "Chart.yaml").read_text())
    assert chart["apiVersion"] == "v2" and chart["name"] == "flight-delay" and chart["appVersion"] == "3"
    text = (tmp_path / "helm" / "templates" / "all.yaml").read_text()
    resources = "\n".join(f"          {line}" for line in yaml.safe_dump(values["resources"]).splitlines())
    rendered = text.replace("          {{- toYaml .Values.resources | nindent 10 }}", resources)
    for name in ("image", "replicas"):
        assert "{{ .Values." + name + " }}" in rendered
        rendered = rendered.replace("{{ .Values." + name + " }}", str(values[name]))
    assert "{{" not in rendered
    for manifest in yaml.safe_load_all(rendered):
        valid(manifest)


@pytest.mark.parametrize("line", ["scikit-learn", "numpy>=1.2", "git+https://example.org/x"])
def test_what_is_not_pinned_is_refused(line: str) -> None:
    with pytest.raises(ConfigError, match="no exact version"):
        image.lock(line)


def test_the_models_own_pins_win() -> None:
    assert "numpy==1.26.4\n" in image.lock("numpy==1.26.4  # as trained\nmodel-only-package==3.1\n")
    assert "model-only-package==3.1\n" in image.lock("model-only-package==3.1\n")


def test_a_digest_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="SHA-256"):
        standalone.access(["secret"], [])


@pytest.mark.timeout(200)
def test_what_the_image_runs_answers(tmp_path: Path) -> None:
    model = knob_model(tmp_path / "model", tmp_path / "knob", 3.0)
    files = {str(p.relative_to(model)): digest_file(p) for p in model.rglob("*") if p.is_file()}
    (tmp_path / "manifest.json").write_text(
        json.dumps({"model": "m", "version": 7, "digest": "d" * 64, "files": files})
    )
    token = "a-token-of-the-tests"
    environment = {**os.environ, "MODELYARD_TOKEN_DIGESTS": hashlib.sha256(token.encode()).hexdigest()}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    port = free_port()
    command = [sys.executable, "-m", "modelyard", "serve", str(model)]
    command += ["--manifest", str(tmp_path / "manifest.json"), "--host", "0.0.0.0", "--port", str(port)]
    process = subprocess.Popen(command, env=environment)

    def ask(secret: str, below: str = "/endpoints/m") -> tuple[int, str | None, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
        headers["host"] = "m-predictor.models.svc.cluster.local"  # whatever the cluster calls it
        try:
            connection.request("POST", f"{below}/invocations", b'{"inputs": {"x": [2.0]}}', headers)
            answer = connection.getresponse()
            return answer.status, answer.getheader("x-modelyard-version"), answer.read()
        except OSError:
            return 0, None, b""
        finally:
            connection.close()

    try:
        wait_until(lambda: ask(token)[0] == 200, "the model to answer", 120)
        assert ask(token) == (200, "7", b'{"predictions":[6.0]}')
        assert ask(token, "") == ask(token) and ask("another")[0] == 401
        request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics")
        request.add_header("authorization", f"Bearer {token}")
        told = urllib.request.urlopen(request, timeout=10).read().decode()
        assert f'modelyard_requests_total{{endpoint="m",deployment="{"d" * 32}",version="7"}}' in told
        for probe in ("health", "ready"):
            assert urllib.request.urlopen(f"http://127.0.0.1:{port}/{probe}", timeout=10).status == 200
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)

    # a file that is not as approved is not loaded
    (model / "code" / "knob.py").write_text("changed = True\n")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "does not match its approved digest" in done.stderr
