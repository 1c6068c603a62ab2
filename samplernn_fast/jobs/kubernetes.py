"""Files for Kubernetes: an Indexed Job, whose pods are the shards of a command, and the Dockerfile of their image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samplernn_fast import files
from samplernn_fast.errors import ConfigError, DataError, exists

JOB_FILE, DOCKER_FILE = "job.yaml", "Dockerfile"
_USER = 10001  # of the image; no name is needed, and Kubernetes checks that it is not root

DOCKERFILE = f"""\
# The image of samplernn-fast. Build it in a checkout of the project: docker build -f {DOCKER_FILE} -t IMAGE .
FROM python:3.12-slim AS build
RUN apt-get update \\
 && apt-get install -y --no-install-recommends g++=4:* \\
 && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN python -m venv /venv \\
 && /venv/bin/pip install --no-cache-dir -c constraints.txt ".[audio]"

FROM python:3.12-slim
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH
USER {_USER}
ENTRYPOINT ["samplernn-fast"]
"""


@dataclass(frozen=True)
class Pods:
    """What each pod of a job is."""

    name: str
    image: str
    claim: str
    """The PersistentVolumeClaim that holds what all pods read and write."""
    mount: str
    """Where a container has it."""
    cpus: float
    gpus: int
    memory_gb: float


def job(words: Sequence[str], pods: Pods, shards: int, at_once: int, restarts: int) -> dict[str, Any]:
    """The Indexed Job of a command's shards, as the values of its YAML.

    Kubernetes gives each pod JOB_COMPLETION_INDEX, from which the command reads its shard. A pod that is evicted or
    preempted does not count as a restart.
    """
    resources: dict[str, Any] = {"cpu": f"{pods.cpus:g}", "memory": f"{round(pods.memory_gb * 1024)}Mi"}
    limits = {"memory": resources["memory"]} | ({"nvidia.com/gpu": pods.gpus} if pods.gpus else {})
    container = {
        "name": "samplernn-fast",
        "image": pods.image,
        "args": [*words, "--num-shards", str(shards)],
        "workingDir": pods.mount,
        "env": [{"name": "SAMPLERNN_FAST_CACHE", "value": "/cache"}, {"name": "HOME", "value": "/cache"}],
        "resources": {"requests": resources, "limits": limits},
        "volumeMounts": [{"name": "work", "mountPath": pods.mount}, {"name": "cache", "mountPath": "/cache"}],
        "securityContext": {"allowPrivilegeEscalation": False},
    }
    volumes = [
        {"name": "work", "persistentVolumeClaim": {"claimName": pods.claim}},
        {"name": "cache", "emptyDir": {}},
    ]
    disrupted = {"type": "DisruptionTarget", "status": "True"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": pods.name},
        "spec": {
            "completionMode": "Indexed",
            "completions": shards,
            "parallelism": at_once,
            "backoffLimitPerIndex": restarts,
            "podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": [disrupted]}]},
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "securityContext": {"runAsNonRoot": True, "runAsUser": _USER, "fsGroup": _USER},
                    "containers": [container],
                    "volumes": volumes,
                }
            },
        },
    }


def write(
    folder: Path,
    words: Sequence[str],
    pods: Pods,
    shards: int,
    at_once: int,
    restarts: int,
    *,
    overwrite: bool = False,
) -> list[Path]:
    """Writes job.yaml and the Dockerfile into a folder, and returns their paths.

    Raises ConfigError for a name that Kubernetes does not take, DataError where the files cannot be written, or others
    are there and `overwrite` does not replace them.
    """
    import re

    import yaml

    for title, name in (("name", pods.name), ("claim", pods.claim)):
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?", name):
            raise ConfigError(f"{title} must be 1 to 52 small letters, digits and dashes, got {name!r}")
    if not pods.mount.startswith("/"):
        raise ConfigError(f"mount must be an absolute path, got {pods.mount!r}")
    text = yaml.safe_dump(job(words, pods, shards, at_once, restarts), sort_keys=False)
    content = {folder / JOB_FILE: text, folder / DOCKER_FILE: DOCKERFILE}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in content:
            if not overwrite and path.exists() and path.read_bytes() != content[path].encode():
                raise DataError(exists(path))
        for path, written in content.items():
            files.write_text(path, written)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror or error}") from None
    return list(content)
