"""A container build of one version, and the manifests that run it: written as text, no engine needed."""

import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from modelyard.domain.errors import ConfigError, MissingExtra

PORT = 8080
USER = 10001
NAME = re.compile(r"[^a-z0-9]+")
PINNED = re.compile(r"^\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*==\s*([^\s;#]+)")
DOCKERFILE = """\
# {name} v{version}, files {digest}
# syntax=docker/dockerfile:1
FROM python:{python}-slim AS build
WORKDIR /build
COPY requirements.lock ./
COPY wheels/ ./wheels/
RUN python -m venv /venv && \\
    /venv/bin/pip install --no-cache-dir --no-compile --no-deps --find-links wheels -r requirements.lock

FROM python:{python}-slim
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
COPY --from=build /venv /venv
COPY --chmod=0444 manifest.json /manifest.json
COPY --chmod=a=rX model/ /model/
USER {user}:{user}
EXPOSE {port}
VOLUME ["/tmp"]
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["/venv/bin/python", "-c", \\
    "import urllib.request as r; r.urlopen('http://127.0.0.1:{port}/ready', timeout=2)"]
ENTRYPOINT ["/venv/bin/modelyard", "serve", "/model", "--manifest", "/manifest.json", \\
    "--host", "0.0.0.0", "--port", "{port}", "--libraries", "shared"]
"""


@dataclass(frozen=True)
class Built:
    """What an image is made of."""

    model: str
    version: int
    digest: str
    python: str
    image: str

    @property
    def label(self) -> str:
        """The model's name as Kubernetes and registries take it."""
        return NAME.sub("-", self.model.lower()).strip("-")[:50] or "model"


def write(folder: Path, built: Built, requirements: str) -> list[Path]:
    """Write everything but the model's files, which the caller put into `folder`/model. The files written."""
    import yaml  # late: only where manifests are written

    texts = {
        "Dockerfile": DOCKERFILE.format(
            name=built.model, version=built.version, digest=built.digest, python=built.python, port=PORT, user=USER
        ),
        "requirements.lock": lock(requirements),
        ".dockerignore": "kubernetes/\nhelm/\n",
        "wheels/README": "Put modelyard's wheel here when it is not installed from a package index.\n",
        "kubernetes/deployment.yaml": yaml.safe_dump_all([deployment(built), service(built)], sort_keys=False),
        "kubernetes/kserve.yaml": yaml.safe_dump(inference_service(built), sort_keys=False),
        "helm/Chart.yaml": yaml.safe_dump(chart(built), sort_keys=False),
        "helm/values.yaml": yaml.safe_dump(values(built), sort_keys=False),
        "helm/templates/all.yaml": helm_template(built),
    }
    written: list[Path] = []
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        written.append(path)
    return written


def lock(requirements: str) -> str:
    """Every package that the image needs, pinned: the model's own pins, and what serving needs, as installed here.

    Raises ConfigError for a requirement of the model that names no exact version, MissingExtra when serving is not
    installed here.
    """
    pins: dict[str, str] = {}
    for line in requirements.splitlines():
        text = line.partition("#")[0].strip()
        if not text:
            continue
        found = PINNED.match(text)
        if found is None:
            raise ConfigError(
                f"The model's requirements name no exact version: {text!r}.",
                remedy="Log the model with pinned requirements (package==version) and register it again.",
            )
        pins[_canonical(found[1])] = found[2]
    wanted = [("modelyard", frozenset({"serve"})), *((name, frozenset[str]()) for name in pins)]
    seen: set[tuple[str, frozenset[str]]] = set()
    while wanted:
        name, extras = wanted.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            installed = metadata.distribution(name)
        except metadata.PackageNotFoundError as error:
            if name in pins:  # the model's own; what it needs in turn is its requirements' matter
                continue
            raise MissingExtra(name, "serve", "Building an image") from error
        pins.setdefault(name, installed.version)
        wanted += _needs(installed.requires or [], extras)
    return "".join(f"{name}=={version}\n" for name, version in sorted(pins.items()))


def _needs(requires: list[str], extras: frozenset[str]) -> list[tuple[str, frozenset[str]]]:
    """(name, extras) of what a distribution requires here."""
    from packaging.requirements import Requirement  # late: comes with the build extra's libraries

    found: list[tuple[str, frozenset[str]]] = []
    for text in requires:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in (extras or {""})):
            found.append((_canonical(requirement.name), frozenset(requirement.extras)))
    return found


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _container(built: Built) -> dict[str, Any]:
    """The container that every manifest runs: not root, read-only, without privileges, with probes and limits."""
    probe = {"path": "/ready", "port": PORT}
    tokens = {"secretKeyRef": {"name": f"{built.label}-tokens", "key": "digests"}}
    return {
        "name": built.label,
        "image": built.image,
        "ports": [{"containerPort": PORT, "protocol": "TCP"}],
        "env": [{"name": "MODELYARD_TOKEN_DIGESTS", "valueFrom": tokens}],
        "readinessProbe": {"httpGet": probe, "periodSeconds": 5},
        "livenessProbe": {"httpGet": {**probe, "path": "/health"}, "periodSeconds": 10},
        "startupProbe": {"httpGet": probe, "periodSeconds": 2, "failureThreshold": 60},
        "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }


def _pod(built: Built) -> dict[str, Any]:
    return {
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(built)],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }


def _labels(built: Built) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": built.label,
        "app.kubernetes.io/version": str(built.version),
        "app.kubernetes.io/managed-by": "modelyard",
    }


def _metadata(built: Built) -> dict[str, Any]:
    annotations = {"modelyard.dev/model": built.model, "modelyard.dev/digest": built.digest}
    return {"name": built.label, "labels": _labels(built), "annotations": annotations}


def deployment(built: Built) -> dict[str, Any]:
    """A Kubernetes Deployment: two replicas, replaced one by one without a gap."""
    selected = {"app.kubernetes.io/name": built.label}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(built),
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": selected},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {"metadata": {"labels": _labels(built)}, "spec": _pod(built)},
        },
    }


def service(built: Built) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": built.label, "labels": _labels(built)},
        "spec": {
            "selector": {"app.kubernetes.io/name": built.label},
            "ports": [{"name": "http", "port": 80, "targetPort": PORT, "protocol": "TCP"}],
        },
    }


def inference_service(built: Built) -> dict[str, Any]:
    """A KServe InferenceService with the image as a custom predictor; Open Inference v2 at /v2."""
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": _metadata(built),
        "spec": {"predictor": {"minReplicas": 1, "maxReplicas": 3, **_pod(built)}},
    }


def chart(built: Built) -> dict[str, Any]:
    return {
        "apiVersion": "v2",
        "name": built.label,
        "description": f"{built.model} served by modelyard",
        "type": "application",
        "version": f"0.{built.version}.0",
        "appVersion": str(built.version),
    }


def values(built: Built) -> dict[str, Any]:
    """What a release may set."""
    container = _container(built)
    return {"image": built.image, "replicas": 2, "resources": container["resources"]}


def helm_template(built: Built) -> str:
    """The Deployment and the Service with the chart's values in place."""
    import yaml  # late: see `write`

    made = deployment(built)
    text = yaml.safe_dump_all([made, service(built)], sort_keys=False)
    resources = yaml.safe_dump(_container(built)["resources"], sort_keys=False)
    indented = "".join(f"          {line}\n" for line in resources.splitlines())
    text = text.replace(indented, "          {{- toYaml .Values.resources | nindent 10 }}\n")
    text = text.replace(f"image: {built.image}", 'image: "{{ .Values.image }}"')
    return text.replace("replicas: 2", "replicas: {{ .Values.replicas }}")


def python_of(model_dir: Path) -> str:
    """The Python version (3.11) that the model was logged with; ours when it does not say."""
    import platform

    file = model_dir / "python_env.yaml"
    found = re.search(r"python:\s*['\"]?(\d+\.\d+)", file.read_text()) if file.exists() else None
    return found[1] if found else ".".join(platform.python_version_tuple()[:2])
