"""The chart lints, renders, and every object is one that Kubernetes takes."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, cast

import kubernetes_validate
import pytest
import yaml

from services.common.settings import load_settings

CHART = Path(__file__).parents[2] / "helm" / "axial"
KUBERNETES = "1.34"
SERVICES = ("listener", "orchestrator", "reporting", "gateway")
VARIANTS: dict[str, list[str]] = {
    "defaults": [],
    "cpu": ["--set=triton.target=cpu,triton.gpus=0"],
    "registry": ["--set=imageRegistry=registry.example/axial,listener.replicas=3"],
    "s3": ["--set=s3.url=s3://hospital/axial,s3.endpoint=https://s3.example,s3.existingSecret=k"],
    "claims": ["--set=store.existingClaim=s,models.existingClaim=m,networkPolicy.enabled=false"],
}


def _helm(helm: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(helm), *arguments], capture_output=True, text=True, check=False, env={"HOME": "/tmp"}
    )


def _render(helm: Path, *arguments: str) -> list[dict[str, Any]]:
    ended = _helm(helm, "template", "ax", str(CHART), *arguments)
    assert ended.returncode == 0, ended.stderr
    return [item for item in yaml.safe_load_all(ended.stdout) if item]


def _workloads(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    kinds = ("Deployment", "StatefulSet")
    return {o["metadata"]["name"]: o["spec"]["template"] for o in objects if o["kind"] in kinds}


def test_chart_lints_strictly(helm: Path) -> None:
    ended = _helm(helm, "lint", "--strict", str(CHART))
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_rendered_object_is_valid(helm: Path, variant: str) -> None:
    objects = _render(helm, *VARIANTS[variant])
    assert len(objects) >= 10
    for item in objects:
        kubernetes_validate.validate(item, KUBERNETES, strict=True)


def test_unknown_value_is_refused(helm: Path) -> None:
    ended = _helm(helm, "template", "ax", str(CHART), "--set=listner.replicas=2")
    assert ended.returncode != 0
    assert "listner" in ended.stderr


def test_rendered_settings_are_settings_of_axial(helm: Path, tmp_path: Path) -> None:
    (config,) = [o for o in _render(helm) if o["kind"] == "ConfigMap"]
    file = tmp_path / "axial.yaml"
    file.write_text(config["data"]["axial.yaml"], encoding="utf-8")
    settings = load_settings(file, {}).settings
    assert settings.triton.transport == "grpc"
    assert settings.listener.host == "0.0.0.0"
    assert settings.listener.accept_unknown_peers is False


def test_variables_of_the_pods_are_settings_of_axial(helm: Path) -> None:
    for name, template in _workloads(_render(helm)).items():
        (container,) = template["spec"]["containers"]
        variables = {
            item["name"]: item.get("value", "postgresql+psycopg://a@b/c")
            for item in container.get("env", [])
            if item["name"] != "AXIAL_CONFIG"
        }
        load_settings(None, variables)
        assert variables or name == "ax-triton"


def test_nothing_runs_as_root_or_writes_outside_its_volumes(helm: Path) -> None:
    for name, template in _workloads(_render(helm)).items():
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True, name
            assert security["allowPrivilegeEscalation"] is False, name
            assert security["capabilities"] == {"drop": ["ALL"]}, name


def test_every_container_has_probes_and_resources(helm: Path) -> None:
    workloads = _workloads(_render(helm))
    assert set(workloads) == {f"ax-{name}" for name in (*SERVICES, "triton")}
    for name, template in workloads.items():
        (container,) = template["spec"]["containers"]
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container), name
        assert container["resources"]["requests"]["memory"], name
        assert container["resources"]["limits"]["memory"], name


def test_triton_asks_for_gpus_only_where_it_needs_them(helm: Path) -> None:
    def triton(*arguments: str) -> dict[str, Any]:
        return cast(dict[str, Any], _workloads(_render(helm, *arguments))["ax-triton"]["spec"])

    gpu, cpu = triton(), triton(*VARIANTS["cpu"])
    assert gpu["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert gpu["nodeSelector"]
    assert "nvidia.com/gpu" not in cpu["containers"][0]["resources"]["limits"]
    assert "nodeSelector" not in cpu


@pytest.mark.parametrize(
    ("component", "own", "anybody"),
    [
        ("listener", 51051, {11112, 51061}),
        ("orchestrator", 51052, {51062}),
        ("reporting", 51053, {51063}),
        ("triton", 8001, {8002}),
        ("gateway", 8042, set[int]()),
    ],
)
def test_only_axials_own_pods_reach_what_is_not_for_everybody(
    helm: Path, component: str, own: int, anybody: set[int]
) -> None:
    policies = {o["metadata"]["name"]: o for o in _render(helm) if o["kind"] == "NetworkPolicy"}
    first, *rest = policies[f"ax-{component}"]["spec"]["ingress"]
    assert first["ports"] == [{"port": own}]
    labels = [peer["podSelector"]["matchLabels"] for peer in first["from"]]
    assert labels == [{"app.kubernetes.io/name": "axial", "app.kubernetes.io/instance": "ax"}]
    assert {port["port"] for rule in rest for port in rule["ports"]} == anybody


def test_gateway_is_opened_to_whom_the_site_names(helm: Path) -> None:
    peer = "networkPolicy.gatewayFrom[0].podSelector.matchLabels.app=prometheus"
    (policy,) = [
        o
        for o in _render(helm, f"--set={peer}")
        if o["kind"] == "NetworkPolicy" and o["metadata"]["name"] == "ax-gateway"
    ]
    assert len(policy["spec"]["ingress"][0]["from"]) == 2


def test_services_select_pods_that_exist(helm: Path) -> None:
    objects = _render(helm)
    labels = [t["metadata"]["labels"] for t in _workloads(objects).values()]
    for service in (o for o in objects if o["kind"] == "Service"):
        selector = service["spec"]["selector"].items()
        assert any(selector <= label.items() for label in labels), service["metadata"]["name"]


def test_orchestrators_have_fixed_names(helm: Path) -> None:
    template = _workloads(_render(helm))["ax-orchestrator"]
    env = {item["name"]: item for item in template["spec"]["containers"][0]["env"]}
    source = env["AXIAL_ORCHESTRATOR__EXECUTOR_ID"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert source == "metadata.name"


def test_with_s3_no_volume_is_shared_and_listeners_keep_their_own(
    helm: Path, tmp_path: Path
) -> None:
    objects = _render(helm, *VARIANTS["s3"])
    claims = [o["metadata"]["name"] for o in objects if o["kind"] == "PersistentVolumeClaim"]
    assert claims == ["ax-models"]
    (config,) = [o for o in objects if o["kind"] == "ConfigMap"]
    file = tmp_path / "axial.yaml"
    file.write_text(config["data"]["axial.yaml"], encoding="utf-8")
    store = load_settings(file, {}).settings.store
    assert (store.url, store.endpoint) == ("s3://hospital/axial", "https://s3.example")
    assert store.cache_bytes == 4 << 30
    (listener,) = [o for o in objects if o["kind"] == "StatefulSet" and "listener" in str(o)[:400]]
    (own,) = listener["spec"]["volumeClaimTemplates"]
    assert own["spec"]["accessModes"] == ["ReadWriteOnce"]
    for name in SERVICES:
        spec = _workloads(objects)[f"ax-{name}"]["spec"]
        (container,) = spec["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "k"}}], name
        (mount,) = [m for m in container["volumeMounts"] if m["mountPath"] == "/var/lib/axial"]
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        if name == "listener":
            assert mount["name"] == own["metadata"]["name"]
            assert mount["name"] not in volumes
        else:
            assert "emptyDir" in volumes[mount["name"]], name


def test_url_that_is_no_bucket_is_refused(helm: Path) -> None:
    assert _helm(helm, "template", "ax", str(CHART), "--set=s3.url=/folder").returncode != 0
