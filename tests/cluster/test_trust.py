"""What the chart closes: who reaches whom, who is known by what, and what Triton does for whom."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from models.building.triton_server import TritonDoor, tritonserver_command
from services.common.settings import load_settings
from services.common.trust import COMPONENTS, Credentials, host_name
from tests.cluster.test_chart import CHART, KUBERNETES, SECRET_VALUES, render, run_helm, workloads

PACS = "--set=config.reporting.destinations[0].name=p,config.reporting.destinations[0].port=104"
# (caller, callee): the calls that there are.
CALLS = {
    ("listener", "orchestrator"),
    ("gateway", "listener"),
    ("gateway", "orchestrator"),
    ("gateway", "reporting"),
    ("orchestrator", "reporting"),
    ("orchestrator", "triton"),
}
PORTS = {"listener": 51051, "orchestrator": 51052, "reporting": 51053, "triton": 8001}
# Open to anybody in the cluster, and asked by one of ours: how far a job has come is a metric.
METRICS = {"orchestrator": {("triton", 8002)}}
OPEN = {
    "listener": {11112, 51061},
    "orchestrator": {51062},
    "reporting": {51063},
    "triton": {8002},
    "gateway": set[int](),
}


def _policies(helm: Path, *arguments: str) -> dict[str, dict[str, Any]]:
    return {
        o["metadata"]["name"].removeprefix("ax-"): o["spec"]
        for o in render(helm, *arguments)
        if o["kind"] == "NetworkPolicy"
    }


def _component(peer: dict[str, Any]) -> str:
    labels = peer["podSelector"]["matchLabels"]
    assert labels["app.kubernetes.io/name"] == "axial"
    assert labels["app.kubernetes.io/instance"] == "ax"
    return str(labels["app.kubernetes.io/component"])


def _ports(rule: dict[str, Any]) -> set[int]:
    return {port["port"] for port in rule["ports"]}


def _secrets(objects: list[dict[str, Any]]) -> dict[str, dict[str, bytes]]:
    return {
        o["metadata"]["name"]: {k: base64.b64decode(v) for k, v in o["data"].items()}
        for o in objects
        if o["kind"] == "Secret"
    }


def _container(objects: list[dict[str, Any]], component: str) -> dict[str, Any]:
    (container,) = workloads(objects)[f"ax-{component}"]["spec"]["containers"]
    return container


def test_every_component_has_a_policy_in_both_directions(helm: Path) -> None:
    policies = _policies(helm)
    assert set(policies) == set(COMPONENTS)
    for component, spec in policies.items():
        assert spec["policyTypes"] == ["Ingress", "Egress"], component
        assert "ingress" in spec, component
        assert "egress" in spec, component


def test_components_are_reached_by_those_that_call_them_and_no_other(helm: Path) -> None:
    for component, spec in _policies(helm).items():
        callers: set[str] = set()
        opened: set[int] = set()
        for rule in spec["ingress"]:
            if "from" in rule:
                assert _ports(rule) == {PORTS[component]}, component
                callers |= {_component(peer) for peer in rule["from"]}
            else:
                opened |= _ports(rule)
        assert callers == {one for one, other in CALLS if other == component}, component
        assert opened == OPEN[component], component


def test_components_reach_those_that_they_call_and_no_other(helm: Path) -> None:
    for component, spec in _policies(helm, PACS).items():
        called = {
            (_component(peer), port)
            for rule in spec["egress"]
            for peer in rule.get("to", [])
            for port in _ports(rule)
        }
        expected = {(other, PORTS[other]) for one, other in CALLS if one == component}
        assert called == expected | METRICS.get(component, set()), component
        outside = {port for rule in spec["egress"] if "to" not in rule for port in _ports(rule)}
        known = {53, 5432} | ({104} if component == "reporting" else set())
        assert outside == (set() if component == "triton" else known), component


def test_triton_reaches_nobody(helm: Path) -> None:
    for variant in ([], ["--set=s3.url=s3://b/p"], ["--set=config.telemetry.traces=otlp"]):
        assert _policies(helm, *variant)["triton"]["egress"] == []


def test_who_reaches_the_gateway_is_named_by_the_site(helm: Path) -> None:
    assert _policies(helm)["gateway"]["ingress"] == []
    peer = "networkPolicy.gatewayFrom[0].podSelector.matchLabels.app=ingress"
    (rule,) = _policies(helm, f"--set={peer}")["gateway"]["ingress"]
    assert rule["from"] == [{"podSelector": {"matchLabels": {"app": "ingress"}}}]
    assert _ports(rule) == {8042}


def test_the_chart_makes_one_authority_and_a_certificate_for_each(helm: Path) -> None:
    secrets = _secrets(render(helm))
    authorities = {secrets[f"ax-{component}-trust"]["ca.crt"] for component in COMPONENTS}
    assert len(authorities) == 1
    authority = x509.load_pem_x509_certificate(authorities.pop())
    for component in COMPONENTS:
        files = secrets[f"ax-{component}-trust"]
        certificate = x509.load_pem_x509_certificate(files["tls.crt"])
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        assert names.value.get_values_for_type(x509.DNSName) == [host_name(component)]
        key = authority.public_key()
        assert isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)
        if isinstance(key, rsa.RSAPublicKey):
            assert certificate.signature_hash_algorithm is not None
            key.verify(
                certificate.signature,
                certificate.tbs_certificate_bytes,
                padding.PKCS1v15(),
                certificate.signature_hash_algorithm,
            )


def test_what_the_chart_makes_is_accepted_by_the_services(helm: Path, tmp_path: Path) -> None:
    """A call with the chart's own certificates, as the pods make it."""
    from tests.integration.common.test_trust import calls_with

    for name, files in _secrets(render(helm)).items():
        if name.endswith("-trust"):
            own = tmp_path / name.removeprefix("ax-").removesuffix("-trust")
            own.mkdir()
            for file, content in files.items():
                (own / file).write_bytes(content)
    assert calls_with(
        Credentials("reporting", tmp_path / "reporting"),
        Credentials("orchestrator", tmp_path / "orchestrator"),
    )


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_pod_has_its_own_certificate_and_no_other(helm: Path, component: str) -> None:
    objects = render(helm)
    spec = workloads(objects)[f"ax-{component}"]["spec"]
    mounted = {volume["secret"]["secretName"] for volume in spec["volumes"] if "secret" in volume}
    assert mounted == {f"ax-{component}-trust"}
    paths = [m["mountPath"] for m in spec["containers"][0]["volumeMounts"] if m["name"] == "trust"]
    assert paths == [f"/etc/axial-trust/{component}"]


def test_only_triton_and_the_orchestrator_have_the_key(helm: Path) -> None:
    objects = render(helm)
    have = {
        component
        for component in COMPONENTS
        for variable in _container(objects, component).get("env", [])
        if variable.get("valueFrom", {}).get("secretKeyRef", {}).get("name") == "ax-triton-key"
    }
    assert have == {"triton", "orchestrator"}
    assert len(_secrets(objects)["ax-triton-key"]["key"]) >= 40


def test_triton_is_closed_as_the_local_one_is(helm: Path, tmp_path: Path) -> None:
    arguments = _container(render(helm), "triton")["args"]
    door = TritonDoor(tmp_path / "a", tmp_path / "b", tmp_path / "c", "$(CONTROL_KEY)")
    local, _ = tritonserver_command(
        tmp_path,
        [],
        door,
        grpc_port=1,
        metrics_port=2,
        cache=Path(__file__).resolve().parents[2] / "build" / "cache",
    )
    for option in ("--grpc-restricted-protocol", "--grpc-use-ssl-mutual"):
        (there,) = [word for word in arguments if word.startswith(option)]
        assert there in local
    # Probes ask over HTTP: what gRPC wants the key for, HTTP wants the key for.
    restricted = {word.partition("=")[0]: word.partition("=")[2] for word in arguments}
    assert restricted["--http-restricted-api"] == restricted["--grpc-restricted-protocol"]
    for file in (
        "server-cert=/etc/axial-trust/triton/tls.crt",
        "root-cert=/etc/axial-trust/triton/ca.crt",
    ):
        assert f"--grpc-{file}" in arguments


def test_certificates_and_the_key_may_come_from_elsewhere(helm: Path) -> None:
    given = "--set=internalTls.mode=existing,internalTls.existingPrefix=site"
    objects = render(helm, given, "--set=triton.controlKeySecret=site-key")
    assert _secrets(objects) == {}
    for component in COMPONENTS:
        spec = workloads(objects)[f"ax-{component}"]["spec"]
        names = [v["secret"]["secretName"] for v in spec["volumes"] if "secret" in v]
        assert names == [f"site-{component}"]
    ended = run_helm(helm, "template", "ax", str(CHART), "--set=internalTls.mode=existing")
    assert ended.returncode != 0
    assert "internalTls.existingPrefix" in ended.stderr


def test_cert_manager_may_make_them(helm: Path) -> None:
    given = "--set=internalTls.mode=certManager,internalTls.issuerRef.name=site"
    made = [o for o in render(helm, given) if o["kind"] == "Certificate"]
    assert {tuple(o["spec"]["dnsNames"]) for o in made} == {
        (host_name(component),) for component in COMPONENTS
    }
    assert {o["spec"]["secretName"] for o in made} == {f"ax-{c}-trust" for c in COMPONENTS}
    ended = run_helm(helm, "template", "ax", str(CHART), "--set=internalTls.mode=certManager")
    assert ended.returncode != 0
    assert "issuerRef" in ended.stderr


def test_the_gateway_is_called_by_its_services_names_and_wants_tokens(helm: Path) -> None:
    objects = render(helm, "--set=gateway.hosts[0]=axial.hospital.example")
    env = {item["name"]: item for item in _container(objects, "gateway")["env"]}
    assert env["AXIAL_ACCESS__TOKENS"]["valueFrom"]["secretKeyRef"]["name"] == "axial-tokens"
    variables = {
        name: env[name].get("value", SECRET_VALUES.get(name, ""))
        for name in ("AXIAL_GATEWAY__HOST", "AXIAL_GATEWAY__HOSTS", "AXIAL_ACCESS__TOKENS")
    }
    gateway = load_settings(None, variables).settings.gateway
    assert not gateway.on_loopback
    assert {"ax-gateway", "ax-gateway.default.svc", "axial.hospital.example"} <= set(gateway.hosts)
    assert json.loads(variables["AXIAL_ACCESS__TOKENS"])
    for component in ("listener", "orchestrator", "reporting"):
        names = {item["name"] for item in _container(objects, component)["env"]}
        assert "AXIAL_GATEWAY__HOST" not in names


def test_secrets_are_valid(helm: Path) -> None:
    for item in render(helm):
        if item["kind"] in ("Secret", "NetworkPolicy"):
            kubernetes_validate.validate(item, KUBERNETES, strict=True)
