"""The inference client finds a server that was away for a while as soon as it is back."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import grpc

from services.common.settings import TritonSettings
from services.orchestrator.inference import InferenceClient
from tests.builders.network import free_port
from tests.builders.trust import credentials

# By default gRPC asks about 1, 3, 5 and 9 seconds after it first failed.
AWAY_S = 5.7
BACK_WITHIN_S = 2.0


def test_server_that_is_back_is_found_within_two_seconds() -> None:
    address = f"127.0.0.1:{free_port()}"
    with InferenceClient(
        TritonSettings(grpc_address=address), "reconnecting", credentials("orchestrator")
    ) as client:
        away_until = time.monotonic() + AWAY_S
        while time.monotonic() < away_until:
            assert "UNAVAILABLE" in (client.problem() or "")
            time.sleep(0.1)
        server = grpc.server(ThreadPoolExecutor(1), options=(("grpc.so_reuseport", 0),))
        key, certificate, authority = credentials("triton").read()
        secured = grpc.ssl_server_credentials(
            [(key, certificate)], authority, require_client_auth=True
        )
        server.add_secure_port(address, secured)
        server.start()
        try:
            deadline = time.monotonic() + BACK_WITHIN_S
            # The server has no services: any other answer than silence is one.
            while "UNAVAILABLE" in (client.problem() or ""):
                assert time.monotonic() < deadline
                time.sleep(0.05)
        finally:
            server.stop(0)
