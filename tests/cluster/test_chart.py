"""The chart lints, renders, and every object is one that Kubernetes takes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, cast

import kubernetes_validate
import pytest
import yaml

from services.common.settings import ListenerSettings, load_settings

CHART = Path(__file__).parents[2] / "helm" / "axial"
KUBERNETES = "1.34"
SERVICES = ("listener", "orchestrator", "reporting", "gateway")
# What stands in the Secrets that variables come from.
SECRET_VALUES = {
    "AXIAL_DATABASE_URL": "postgresql+psycopg://a@b/c",
    "AXIAL_ACCESS__TOKENS": json.dumps(
        [
            {
                "name": "worklist",
                "sha256": "0" * 64,
                "actions": ["read"],
                "expires": "2099-01-01T00:00:00+00:00",
            }
        ]
    ),
}
VARIANTS: dict[str, list[str]] = {
    "defaults": [],
    "cpu": ["--set=triton.target=cpu,triton.gpus=0"],
    "registry": ["--set=imageRegistry=registry.example/axial,listener.replicas=3"],
    "s3": ["--set=s3.url=s3://hospital/axial,s3.endpoint=https://s3.example,s3.existingSecret=k"],
    "doors": [
        "--set=listener.tls.enabled=true,listener.tls.existingSecret=pem,listener.receivers=4",
        "--set=listener.tls.revocationList=true,listener.tls.profile=bcp195_extended",
        "--set=listener.stow.enabled=true,listener.stow.tls=true,listener.stow.tokensSecret=t",
    ],
    "claims": ["--set=store.existingClaim=s,models.existingClaim=m,networkPolicy.enabled=false"],
}


def run_helm(helm: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(helm), *arguments], capture_output=True, text=True, check=False, env={"HOME": "/tmp"}
    )


def render(helm: Path, *arguments: str) -> list[dict[str, Any]]:
    ended = run_helm(helm, "template", "ax", str(CHART), *arguments)
    assert ended.returncode == 0, ended.stderr
    return [item for item in yaml.safe_load_all(ended.stdout) if item]


def workloads(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    kinds = ("Deployment", "StatefulSet")
    return {o["metadata"]["name"]: o["spec"]["template"] for o in objects if o["kind"] in kinds}


def test_chart_lints_strictly(helm: Path) -> None:
    ended = run_helm(helm, "lint", "--strict", str(CHART))
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_rendered_object_is_valid(helm: Path, variant: str) -> None:
    objects = render(helm, *VARIANTS[variant])
    assert len(objects) >= 10
    for item in objects:
        kubernetes_validate.validate(item, KUBERNETES, strict=True)


def test_unknown_value_is_refused(helm: Path) -> None:
    ended = run_helm(helm, "template", "ax", str(CHART), "--set=listner.replicas=2")
    assert ended.returncode != 0
    assert "listner" in ended.stderr


def test_rendered_settings_are_settings_of_axial(helm: Path, tmp_path: Path) -> None:
    (config,) = [o for o in render(helm) if o["kind"] == "ConfigMap"]
    file = tmp_path / "axial.yaml"
    file.write_text(config["data"]["axial.yaml"], encoding="utf-8")
    settings = load_settings(file, {}).settings
    assert settings.triton.transport == "grpc"
    assert settings.listener.host == "0.0.0.0"
    assert settings.listener.accept_unknown_peers is False


def test_variables_of_the_pods_are_settings_of_axial(helm: Path) -> None:
    for name, template in workloads(render(helm)).items():
        (container,) = template["spec"]["containers"]
        variables = {
            item["name"]: item.get("value", SECRET_VALUES.get(item["name"], "from-a-secret"))
            for item in container.get("env", [])
            if item["name"].startswith("AXIAL_") and item["name"] != "AXIAL_CONFIG"
        }
        load_settings(None, variables)
        assert variables or name == "ax-triton"


def test_nothing_runs_as_root_or_writes_outside_its_volumes(helm: Path) -> None:
    for name, template in workloads(render(helm)).items():
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True, name
            assert security["allowPrivilegeEscalation"] is False, name
            assert security["capabilities"] == {"drop": ["ALL"]}, name


def test_every_container_has_probes_and_resources(helm: Path) -> None:
    every = workloads(render(helm))
    assert set(every) == {f"ax-{name}" for name in (*SERVICES, "triton")}
    for name, template in every.items():
        (container,) = template["spec"]["containers"]
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container), name
        assert container["resources"]["requests"]["memory"], name
        assert container["resources"]["limits"]["memory"], name


def test_triton_starts_without_models_and_can_be_reached_to_load_them(helm: Path) -> None:
    """Builds are named for their digests, which the orchestrator reads and the chart cannot."""
    (container,) = workloads(render(helm))["ax-triton"]["spec"]["containers"]
    assert "--model-control-mode=explicit" in container["args"]
    assert not [word for word in container["args"] if word.startswith("--load-model")]
    assert container["readinessProbe"]["httpGet"]["path"] == "/v2/health/live"


def test_triton_asks_for_gpus_only_where_it_needs_them(helm: Path) -> None:
    def triton(*arguments: str) -> dict[str, Any]:
        return cast(dict[str, Any], workloads(render(helm, *arguments))["ax-triton"]["spec"])

    gpu, cpu = triton(), triton(*VARIANTS["cpu"])
    assert gpu["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert gpu["nodeSelector"]
    assert "nvidia.com/gpu" not in cpu["containers"][0]["resources"]["limits"]
    assert "nodeSelector" not in cpu


def _listener_service(objects: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = [
        o for o in objects if (o["kind"], o["metadata"]["name"]) == ("Service", "ax-listener")
    ]
    return cast(dict[str, Any], found["spec"])


def _settings(objects: list[dict[str, Any]], folder: Path) -> ListenerSettings:
    (config,) = [o for o in objects if o["kind"] == "ConfigMap"]
    file = folder / "axial.yaml"
    file.write_text(config["data"]["axial.yaml"], encoding="utf-8")
    return load_settings(file, {}).settings.listener


def test_only_dicom_is_open_unless_more_is_asked_for(helm: Path, tmp_path: Path) -> None:
    objects = render(helm)
    assert [port["name"] for port in _listener_service(objects)["ports"]] == ["dicom"]
    settings = _settings(objects, tmp_path)
    assert (settings.tls.port, settings.stow.port, settings.receivers) == (None, None, 2)


def test_every_door_that_is_asked_for_is_open_from_service_to_settings(
    helm: Path, tmp_path: Path
) -> None:
    objects = render(helm, *VARIANTS["doors"])
    settings = _settings(objects, tmp_path)
    assert settings.receivers == 4
    spec = workloads(objects)["ax-listener"]["spec"]
    (container,) = spec["containers"]
    pods = {port["name"]: port["containerPort"] for port in container["ports"]}
    doors = {"dicom": settings.port, "dicom-tls": settings.tls.port, "stow": settings.stow.port}
    assert pods.items() >= doors.items()
    service = _listener_service(objects)
    outside = {port["targetPort"]: port["port"] for port in service["ports"]}
    assert outside == {"dicom": 11112, "dicom-tls": 2762, "stow": 8080}
    (policy,) = [
        o for o in objects if (o["kind"], o["metadata"]["name"]) == ("NetworkPolicy", "ax-listener")
    ]
    opened = {port["port"] for port in policy["spec"]["ingress"][1]["ports"]}
    assert opened == {*doors.values(), settings.health_port}
    assert (settings.stow.host, settings.stow.tls) == ("0.0.0.0", True)
    assert settings.stow.hosts[0] == "ax-listener"  # what callers inside the cluster call it


def test_certificates_are_mounted_where_the_settings_look(helm: Path, tmp_path: Path) -> None:
    objects = render(helm, *VARIANTS["doors"])
    tls = _settings(objects, tmp_path).tls
    assert tls.profile == "bcp195_extended"
    spec = workloads(objects)["ax-listener"]["spec"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    (container,) = spec["containers"]
    (mount,) = [m for m in container["volumeMounts"] if m["name"] == "tls"]
    assert mount["readOnly"] is True
    # Readable by the pod's group, not by everybody.
    assert volumes["tls"]["secret"] == {"secretName": "pem", "defaultMode": 0o440}
    files = (tls.certificate, tls.key, tls.trusted_certificates, tls.revocation_list)
    found = {str(file.relative_to(mount["mountPath"])) for file in files if file is not None}
    assert found == {"tls.crt", "tls.key", "ca.crt", "ca.crl"}
    for name in SERVICES[1:]:
        mounts = workloads(objects)[f"ax-{name}"]["spec"]["containers"][0]["volumeMounts"]
        assert "tls" not in [m["name"] for m in mounts], name


def test_stow_tokens_come_from_a_secret(helm: Path) -> None:
    template = workloads(render(helm, *VARIANTS["doors"]))["ax-listener"]
    env = {item["name"]: item for item in template["spec"]["containers"][0]["env"]}
    name = "AXIAL_LISTENER__STOW__TOKENS"
    assert env[name]["valueFrom"]["secretKeyRef"] == {"name": "t", "key": "tokens"}
    settings = load_settings(None, {name: '["one", "two"]'}).settings
    assert len(settings.listener.stow.tokens) == 2


@pytest.mark.parametrize("door", ["listener.tls", "listener.stow"])
def test_tls_without_a_secret_is_refused(helm: Path, door: str) -> None:
    asked = f"--set={door}.enabled=true,listener.stow.tls=true"
    ended = run_helm(helm, "template", "ax", str(CHART), asked)
    assert ended.returncode != 0
    assert "listener.tls.existingSecret" in ended.stderr


@pytest.mark.parametrize("kind", ["LoadBalancer", "NodePort", "ClusterIP"])
def test_listeners_see_the_addresses_that_peers_are_known_by(helm: Path, kind: str) -> None:
    service = _listener_service(render(helm, f"--set=listener.service.type={kind}"))
    assert service.get("externalTrafficPolicy") == (None if kind == "ClusterIP" else "Local")


def test_a_listeners_spool_lies_on_the_volume_of_the_store(helm: Path, tmp_path: Path) -> None:
    # Files go from the spool into the store by renaming, which no other volume allows; the
    # listener's name, by which it finds its spool again, is its pod's.
    for variant in ("defaults", "s3"):
        objects = render(helm, *VARIANTS[variant])
        _settings(objects, tmp_path)
        settings = load_settings(tmp_path / "axial.yaml", {}).settings
        template = workloads(objects)["ax-listener"]
        mounts = template["spec"]["containers"][0]["volumeMounts"]
        (store,) = [Path(m["mountPath"]) for m in mounts if m["name"] == "store"]
        assert settings.spool_dir.is_relative_to(store), variant
        assert any(
            o["kind"] == "StatefulSet" and o["metadata"]["name"] == "ax-listener" for o in objects
        )


def test_services_select_pods_that_exist(helm: Path) -> None:
    objects = render(helm)
    labels = [t["metadata"]["labels"] for t in workloads(objects).values()]
    for service in (o for o in objects if o["kind"] == "Service"):
        selector = service["spec"]["selector"].items()
        assert any(selector <= label.items() for label in labels), service["metadata"]["name"]


def test_orchestrators_have_fixed_names(helm: Path) -> None:
    template = workloads(render(helm))["ax-orchestrator"]
    env = {item["name"]: item for item in template["spec"]["containers"][0]["env"]}
    source = env["AXIAL_ORCHESTRATOR__EXECUTOR_ID"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert source == "metadata.name"


def test_with_s3_no_volume_is_shared_and_listeners_keep_their_own(
    helm: Path, tmp_path: Path
) -> None:
    objects = render(helm, *VARIANTS["s3"])
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
        spec = workloads(objects)[f"ax-{name}"]["spec"]
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
    assert run_helm(helm, "template", "ax", str(CHART), "--set=s3.url=/folder").returncode != 0
