"""Triton does nothing for those who have not both a certificate and the key."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from services.common.rpc import channel_options
from services.imaging import Volume
from services.orchestrator.inference import InferenceClient, request_for
from services.orchestrator.sent_volumes import sent
from tests.builders.triton import CONTROL_KEY, TritonUnderTest, open_client, running_triton
from tests.builders.trust import CERTIFICATES, credentials

CHECKOUT = Path(__file__).resolve().parents[3]
# A model that would be run as the stack's user when it is loaded.
EVIL = "import pathlib; pathlib.Path('{proof}').touch()\nclass TritonPythonModel: pass\n"
HEADER = "axial-key"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[TritonUnderTest]:
    folder = tmp_path_factory.mktemp("door")
    (folder / "repository").mkdir()
    with running_triton(folder / "repository", [], folder / "log", http=True) as running:
        yield running


# What is restricted, over gRPC: everything that Triton's client can ask but health.
RESTRICTED: dict[str, Callable[[Any], Any]] = {
    "server metadata": lambda c: c.get_server_metadata(client_timeout=5),
    "model metadata": lambda c: c.get_model_metadata("x", client_timeout=5),
    "model config": lambda c: c.get_model_config("x", client_timeout=5),
    "repository index": lambda c: c.get_model_repository_index(client_timeout=5),
    "load": lambda c: c.load_model("x", client_timeout=5),
    "unload": lambda c: c.unload_model("x", client_timeout=5),
    "statistics": lambda c: c.get_inference_statistics(client_timeout=5),
    "trace settings": lambda c: c.get_trace_settings(client_timeout=5),
    "changed trace settings": lambda c: c.update_trace_settings(
        settings={"trace_file": "/tmp/axial-trace"},
        client_timeout=5,
    ),
    "log settings": lambda c: c.get_log_settings(client_timeout=5),
    "changed log settings": lambda c: c.update_log_settings(
        {"log_file": "/tmp/axial-log"},
        client_timeout=5,
    ),
    "shared memory status": lambda c: c.get_system_shared_memory_status(client_timeout=5),
    "shared memory": lambda c: c.register_system_shared_memory("r", "/r", 8, client_timeout=5),
    "shared memory away": lambda c: c.unregister_system_shared_memory("r", client_timeout=5),
    "device memory": lambda c: c.get_cuda_shared_memory_status(client_timeout=5),
    "inference": lambda c: c.infer("x", [_tensor()], client_timeout=5),
}
# The same over HTTP.
OVER_HTTP = [
    ("GET", "/v2"),
    ("GET", "/v2/models/x"),
    ("GET", "/v2/models/x/config"),
    ("GET", "/v2/models/stats"),
    ("GET", "/v2/models/x/stats"),
    ("POST", "/v2/models/x/infer"),
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/repository/models/x/load"),
    ("POST", "/v2/repository/models/x/unload"),
    ("GET", "/v2/trace/setting"),
    ("POST", "/v2/trace/setting"),
    ("GET", "/v2/logging"),
    ("POST", "/v2/logging"),
    ("GET", "/v2/systemsharedmemory/status"),
    ("POST", "/v2/systemsharedmemory/region/r/register"),
    ("POST", "/v2/systemsharedmemory/unregister"),
    ("GET", "/v2/cudasharedmemory/status"),
    ("POST", "/v2/cudasharedmemory/unregister"),
]


def _tensor() -> Any:
    tensor = triton.InferInput("REQUEST", [1], "UINT8")
    tensor.set_data_from_numpy(np.zeros(1, np.uint8))
    return tensor


def _is_restricted(call: Callable[[], Any]) -> bool:
    try:
        call()
    except InferenceServerException as error:
        return "restricted" in str(error.message())
    return False


@pytest.mark.parametrize("key", [None, "", "guessed", CONTROL_KEY.upper(), CONTROL_KEY[:-1]])
def test_without_the_key_nothing_but_health_is_told_over_grpc(
    server: TritonUnderTest, key: str | None
) -> None:
    client = open_client(server.grpc_port, key=key)
    assert client.is_server_live(client_timeout=5)
    let_through = [
        name for name, ask in RESTRICTED.items() if not _is_restricted(lambda ask=ask: ask(client))
    ]
    client.close()
    assert let_through == []


def test_with_the_key_it_works(server: TritonUnderTest) -> None:
    refused = [n for n, ask in RESTRICTED.items() if _is_restricted(lambda a=ask: a(server.client))]
    assert refused == []
    assert server.client.get_server_metadata(client_timeout=5).name == "triton"


@pytest.mark.parametrize("with_key", [True, False])
def test_without_a_certificate_there_is_no_connection(
    server: TritonUnderTest, with_key: bool
) -> None:
    """The key can be read in the list of processes: it is worth nothing by itself."""
    address = f"127.0.0.1:{server.grpc_port}"
    headers = {f"triton-grpc-protocol-{HEADER}": CONTROL_KEY} if with_key else None
    authority = str(credentials("triton").authority)
    for client in (
        triton.InferenceServerClient(address),
        triton.InferenceServerClient(
            address,
            ssl=True,
            root_certificates=authority,
            channel_args=channel_options("triton"),
        ),
    ):
        with client, pytest.raises(InferenceServerException) as error:
            client.get_model_repository_index(headers=headers, client_timeout=5)
        assert "UNAVAILABLE" in str(error.value.status())


@pytest.mark.parametrize(("method", "path"), OVER_HTTP)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        # What a page in a browser on this machine can send without being asked first.
        {"Content-Type": "text/plain", "Origin": "http://evil.example", "Host": "evil.example"},
        {"Content-Type": "application/x-www-form-urlencoded", "Origin": "null"},
        {HEADER: "guessed"},
    ],
    ids=["bare", "web page", "form", "wrong key"],
)
def test_over_http_nothing_but_health_is_told(
    server: TritonUnderTest, method: str, path: str, headers: dict[str, str]
) -> None:
    answer = httpx.request(
        method, f"http://127.0.0.1:{server.http_port}{path}", headers=headers, content="{}"
    )
    assert answer.status_code == 403, answer.text
    health = httpx.get(f"http://127.0.0.1:{server.http_port}/v2/health/live", headers=headers)
    assert health.status_code == 200


def test_a_model_that_comes_with_the_request_is_not_run(
    server: TritonUnderTest, tmp_path: Path
) -> None:
    proof = tmp_path / "it-ran"
    body = json.dumps(
        {
            "parameters": {
                "config": json.dumps({"backend": "python", "max_batch_size": 0}),
                "file:1/model.py": EVIL.format(proof=proof),
            }
        }
    )
    url = f"http://127.0.0.1:{server.http_port}/v2/repository/models/x/load"
    httpx.post(url, content=body, headers={"Content-Type": "text/plain"}, timeout=30)
    without_key = open_client(server.grpc_port, key=None)
    with without_key, pytest.raises(InferenceServerException):
        without_key.load_model(
            "x",
            config=json.dumps({"backend": "python", "max_batch_size": 0}),
            files={"file:1/model.py": EVIL.format(proof=proof).encode()},
            client_timeout=30,
        )
    assert not proof.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_another_user_of_the_machine_gets_nothing(server: TritonUnderTest) -> None:
    """Who may read every command line still has neither certificate nor connection."""
    program = """
import json, os, sys
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException
os.setgid(65534); os.setuid(65534)
seen = open(f"/proc/{sys.argv[1]}/cmdline").read()
key = seen.split("axial-key=")[1].split("\\0")[0]
got = {"key": key}
try:
    open(sys.argv[3] + "/orchestrator/tls.key").read()
    got["certificate"] = True
except PermissionError:
    got["certificate"] = False
client = triton.InferenceServerClient(f"127.0.0.1:{sys.argv[2]}")
headers = {"triton-grpc-protocol-axial-key": key}
try:
    client.load_model("x", headers=headers, client_timeout=5)
    got["loaded"] = True
except InferenceServerException:
    got["loaded"] = False
print(json.dumps(got))
"""
    arguments = [str(server.process.pid), str(server.grpc_port), str(CERTIFICATES)]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"key": CONTROL_KEY, "certificate": False, "loaded": False}


def test_the_orchestrator_works_with_what_it_was_handed(small_triton: TritonUnderTest) -> None:
    volumes = {"image": sent("image", Volume(np.ones((2, 3, 4), np.float32), np.eye(4)))}
    request = request_for("2.25.1", "d" * 64, "image", volumes, "")
    for transport in ("shared_memory", "grpc"):
        settings = small_triton.settings(transport)
        with InferenceClient(settings, "door", credentials("orchestrator")) as client:
            assert client.problem() is None
            (output,) = client.infer("right", request, volumes).outputs
            assert output.array is not None
            assert output.array.all()


def test_a_key_of_an_earlier_start_is_worth_nothing(
    server: TritonUnderTest, tmp_path: Path
) -> None:
    (tmp_path / "repository").mkdir()
    with running_triton(
        tmp_path / "repository", [], tmp_path / "log", control_key="the-next-key"
    ) as later:
        old = open_client(later.grpc_port, key=CONTROL_KEY)
        with old:
            for name, ask in RESTRICTED.items():
                assert _is_restricted(lambda ask=ask: ask(old)), name
        assert later.client.get_server_metadata(client_timeout=5).name == "triton"
