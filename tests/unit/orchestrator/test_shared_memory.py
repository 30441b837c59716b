"""Regions that Triton does not let go of are asked for again. A Triton that refuses stands in."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from services.common.settings import TritonSettings
from services.imaging import Volume
from services.orchestrator import regions
from services.orchestrator.errors import InferenceFailed
from services.orchestrator.inference import InferenceClient, request_for
from services.orchestrator.sent_volumes import sent
from tests.builders.trust import credentials


class BusyTriton:
    """Runs into every deadline, and keeps the regions of a request while its model works."""

    def __init__(self, *registered: str) -> None:
        self.registered = set(registered)
        self.busy = True

    def is_model_ready(self, *_: Any, **__: Any) -> bool:
        return True

    def load_model(self, *_: Any, **__: Any) -> None:
        pass

    def unload_model(self, *_: Any, **__: Any) -> None:
        pass

    def close(self) -> None:
        pass

    def register_system_shared_memory(self, name: str, *_: Any, **__: Any) -> None:
        self.registered.add(name)

    def unregister_system_shared_memory(self, name: str, **_: Any) -> None:
        if self.busy:
            raise InferenceServerException("in use", status="StatusCode.INTERNAL")
        self.registered.discard(name)

    def get_system_shared_memory_status(self, **_: Any) -> Any:
        return SimpleNamespace(regions=dict.fromkeys(self.registered))

    def infer(self, *_: Any, **__: Any) -> Any:
        raise InferenceServerException("Deadline Exceeded", status="StatusCode.DEADLINE_EXCEEDED")


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regions, "_RELEASE_WAIT_S", 0.0)


def _client(server: BusyTriton, owner: str, monkeypatch: pytest.MonkeyPatch) -> InferenceClient:
    def connect(*_: Any, **__: Any) -> BusyTriton:
        return server

    monkeypatch.setattr(triton, "InferenceServerClient", connect)
    return InferenceClient(
        TritonSettings(transport="shared_memory"), owner, credentials("orchestrator")
    )


def _infer(client: InferenceClient) -> None:
    volumes = {"image": sent("image", Volume(np.zeros((2, 3, 4), np.float32), np.eye(4)))}
    with pytest.raises(InferenceFailed):
        client.infer("m", request_for("2.25.1", "d" * 64, "image", volumes, ""), volumes)


def test_regions_of_a_request_past_its_deadline_are_let_go_of_before_the_next_job(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = BusyTriton()
    with _client(server, tmp_path.name, monkeypatch) as client:
        _infer(client)
        first = set(server.registered)
        assert len(first) == 2
        server.busy = False
        _infer(client)
        assert server.registered == set()


def test_registrations_of_a_dead_process_are_let_go_of_though_its_files_are_gone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own, other = "axial-here.0123abcd-image", "axial-here-1.0123abcd-image"
    server = BusyTriton(own, other)
    with _client(server, "here", monkeypatch) as client:
        assert server.registered == {own, other}
        server.busy = False
        _infer(client)
        assert server.registered == {other}
    server.registered = {own, other}
    with _client(server, "here", monkeypatch):
        assert server.registered == {other}
