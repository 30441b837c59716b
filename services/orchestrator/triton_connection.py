"""The connection to Triton: how it is opened, and one request over it."""

from __future__ import annotations

from typing import Any

import numpy as np
import tritonclient.grpc as triton
from axial.v1 import inference_pb2
from tritonclient.grpc import InferenceServerClientPlugin

from models.manifest import ANSWER_TENSOR, REQUEST_TENSOR, grpc_control_header
from services.common.rpc import channel_credentials, channel_options
from services.common.settings import TritonSettings
from services.common.trust import Credentials

# A server that was restarted is found again within a second, as our own services are. Giving any
# argument replaces the library's own, so those are repeated.
_KEEPALIVE = triton.KeepAliveOptions()
CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", 2**31 - 1),
    ("grpc.max_receive_message_length", 2**31 - 1),
    ("grpc.keepalive_time_ms", _KEEPALIVE.keepalive_time_ms),
    ("grpc.keepalive_timeout_ms", _KEEPALIVE.keepalive_timeout_ms),
    ("grpc.keepalive_permit_without_calls", _KEEPALIVE.keepalive_permit_without_calls),
    ("grpc.http2.max_pings_without_data", _KEEPALIVE.http2_max_pings_without_data),
    *channel_options("triton"),
]


class ControlKey(InferenceServerClientPlugin):
    """Adds the key that Triton wants to every call of a client."""

    def __init__(self, key: str) -> None:
        self._header = {grpc_control_header(): key}

    def __call__(self, request: Any) -> None:
        request.headers = {**(request.headers or {}), **self._header}


def connect(settings: TritonSettings, credentials: Credentials) -> triton.InferenceServerClient:
    """The library's client of Triton. No connection is made before the first call.

    Args:
        settings: where Triton is, and the key that it wants.
        credentials: who asks.

    Raises:
        TrustError: a file of the credentials is missing.
    """
    client = triton.InferenceServerClient(
        settings.grpc_address,
        creds=channel_credentials(credentials),
        channel_args=CHANNEL_OPTIONS,
    )
    if settings.control_key is not None:
        client.register_plugin(ControlKey(settings.control_key.get_secret_value()))
    return client


def ask(
    client: triton.InferenceServerClient,
    model: str,
    request: inference_pb2.InferenceRequest,
    inputs: list[triton.InferInput],
    outputs: list[triton.InferRequestedOutput],
    deadline_s: float,
) -> Any:
    """Sends a model one request and waits for the answer.

    Args:
        client: the library's client of Triton.
        model: the build's name in Triton.
        request: goes beside the volumes, in a tensor of its own.
        inputs: the volumes.
        outputs: the arrays that are asked for, beside the answer's message.
        deadline_s: how long the answer is waited for.

    Returns:
        The library's result.

    Raises:
        InferenceServerException: Triton does not answer in time, or answers with an error.
    """
    message = np.frombuffer(request.SerializeToString(), np.uint8)
    header = triton.InferInput(REQUEST_TENSOR, list(message.shape), "UINT8")
    header.set_data_from_numpy(message)
    return client.infer(
        model,
        [header, *inputs],
        outputs=[*outputs, triton.InferRequestedOutput(ANSWER_TENSOR)],
        client_timeout=deadline_s,
        request_id=request.job_uid,
    )
