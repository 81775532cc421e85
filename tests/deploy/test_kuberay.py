"""deploy/kuberay names options, settings and packages that exist, and restricts its pods."""

import re
import shlex
from typing import Any

import pytest
import typer
import yaml

from operations.cli import make_app
from tests import ROOT

FOLDER = ROOT / "deploy" / "kuberay"
IMAGE = ROOT / "deploy" / "images" / "train"
JOB: dict[str, Any] = yaml.safe_load((FOLDER / "rayjob.yaml").read_text())
CLUSTER = JOB["spec"]["rayClusterSpec"]
HEAD, WORKERS = CLUSTER["headGroupSpec"], CLUSTER["workerGroupSpecs"]
PODS = [group["template"]["spec"] for group in (HEAD, *WORKERS)]
README = (FOLDER / "README.md").read_text()
COMMAND = shlex.split(JOB["spec"]["entrypoint"])


def options() -> dict[str, str]:
    words = COMMAND[2:]
    return {
        word: words[k + 1] if words[k + 1 : k + 2] and not words[k + 1].startswith("--") else ""
        for k, word in enumerate(words)
        if word.startswith("--")
    }


def test_the_command_has_these_options() -> None:
    """The verb accepts all of them; a pod would find out after its cluster has started."""
    assert COMMAND[:2] == ["cesta", "build"]
    verb = typer.main.get_command(make_app()).commands["build"]  # type: ignore[attr-defined]
    known = {name for option in verb.params for name in (*option.opts, *option.secondary_opts)}
    assert options().keys() <= known


def test_as_many_partitions_are_computed_at_once_as_there_are_processors() -> None:
    """The processors of the workers: the head has none for Ray, because it runs the stages."""
    assert HEAD["rayStartParams"]["num-cpus"] == "0"
    cpus = sum(
        group["replicas"] * int(group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
        for group in WORKERS
    )
    assert options()["--workers"] == str(cpus)


def test_every_path_of_the_command_is_mounted() -> None:
    (container,) = HEAD["template"]["spec"]["containers"]
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    variables = {variable["name"]: variable["value"] for variable in container["env"]}
    paths = [options()["--out"], options()["--settings"], variables["CESTA_SIGNING_KEY_FILE"]]
    for path in paths:
        assert any(path == mount or path.startswith(f"{mount}/") for mount in mounts), path


@pytest.mark.parametrize("pod", PODS, ids=["head", "worker"])
def test_a_pod_can_do_no_more_than_it_must(pod: dict[str, Any]) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    dockerfile = (IMAGE / "Dockerfile").read_text()
    assert f"\nUSER {pod['securityContext']['runAsUser']}\n" in dockerfile
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"memory", "ephemeral-storage"} <= container["resources"]["limits"].keys()
        assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"]


def test_a_pod_is_asked_by_the_kubelet_itself() -> None:
    """KubeRay 1.5 asks by wget inside the pod where the manifest has no probes, and the image has no wget."""
    for container in (container for pod in PODS for container in pod["containers"]):
        for probe in ("readinessProbe", "livenessProbe"):
            assert container[probe]["httpGet"] == {"path": "/api/healthz", "port": 52365}


def test_all_nodes_have_the_image_that_the_readme_builds() -> None:
    images = {container["image"] for pod in PODS for container in pod["containers"]}
    (built,) = re.findall(r"--build-arg ENGINE=ray --tag (\S+) \.", README)
    assert images == {built}


def test_ray_has_one_version_and_asks_for_a_token() -> None:
    assert f"\nray=={CLUSTER['rayVersion']} " in (IMAGE / "ray.lock").read_text()
    assert CLUSTER["authOptions"] == {"mode": "token"}


def test_the_readme_says_how_to_make_everything_that_is_mounted() -> None:
    volumes = HEAD["template"]["spec"]["volumes"]
    names = [
        volume.get("persistentVolumeClaim", {}).get("claimName")
        or volume.get("configMap", {}).get("name")
        or volume.get("secret", {}).get("secretName")
        for volume in volumes
    ]
    (container,) = HEAD["template"]["spec"]["containers"]
    names += [source["secretRef"]["name"] for source in container["envFrom"]]
    for name in names:
        assert f"`{name}`" in README
