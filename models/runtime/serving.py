"""From a request's bytes and volumes to labels and an answer: the contract, without Triton."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import numpy as np
from axial.v1 import inference_pb2 as pb
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from models.manifest import Manifest
from models.runtime.errors import RequestError
from models.runtime.pipeline import Pipeline
from models.runtime.record import PipelineRefusal, PipelineResult

__all__ = ["answer_request"]

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


def answer_request(
    pipeline: Pipeline,
    digest: str,
    request: bytes,
    volumes: Mapping[str, F32],
    busy: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> tuple[U8, pb.InferenceAnswer]:
    """Answer one `InferenceRequest`.

    `volumes`: per role float32 [k, j, i]. `busy` is held while the networks run; a request for
    another build is declined without it, so that asking whether a model answers costs nothing and
    keeps no memory from being given back. Returns labels uint8 [k, j, i] on the grid of the
    first role and the answer; labels are all zero where the answer holds a refusal. Raises
    RequestError for a request that cannot be understood.
    """
    message = _parsed(request)
    answer = pb.InferenceAnswer(model_digest=digest)
    shape = volumes[next(iter(pipeline.manifest.roles))].shape
    if message.model_digest != digest:
        refusal = PipelineRefusal(
            "model_digest_mismatch", {"wanted": message.model_digest, "served": digest}
        )
        _set_refusal(answer, refusal)
        return np.zeros(shape, np.uint8), answer
    affines = {volume.role: _affine(volume) for volume in message.roles}
    with busy():
        result = pipeline.run(volumes, affines)
    _fill(answer, result, pipeline.manifest)
    labels = np.zeros(shape, np.uint8) if result.labels is None else result.labels
    return labels, answer


def _parsed(request: bytes) -> pb.InferenceRequest:
    try:
        return pb.InferenceRequest.FromString(request)
    except DecodeError as error:
        raise RequestError(
            f"REQUEST ({len(request)} bytes) is no InferenceRequest: {error}. "
            "Send the serialised message as UINT8."
        ) from error


def _affine(volume: pb.RoleVolume) -> NDArray[np.float64]:
    if len(volume.affine_lps) != 16:
        raise RequestError(
            f"Role {volume.role}: the affine has {len(volume.affine_lps)} numbers, not 16. "
            "Send it row by row, 4 x 4."
        )
    return np.array(volume.affine_lps, np.float64).reshape(4, 4)


def _fill(answer: pb.InferenceAnswer, result: PipelineResult, manifest: Manifest) -> None:
    for network in result.networks:
        answer.networks.add(
            network=network.network,
            target=network.target,
            precision=network.precision,
            seconds=network.seconds,
        )
    for stage in result.stages:
        answer.stages.add(stage=stage.stage, seconds=stage.seconds)
    if result.refusal is not None:
        _set_refusal(answer, result.refusal)
        return
    for segment in manifest.segments:
        answer.segments.add(number=segment.number, voxels=result.voxels[segment.number])


def _set_refusal(answer: pb.InferenceAnswer, refusal: PipelineRefusal) -> None:
    answer.refusal.reason = refusal.reason
    answer.refusal.values.update(refusal.values)
