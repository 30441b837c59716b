"""From a request's bytes and volumes to labels and an answer: the contract, without Triton."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from axial.v1 import inference_pb2 as pb
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from models.manifest import LABELS_TENSOR, TRITON_DATATYPES, Manifest, volume_tensor_name
from models.runtime.errors import RequestError
from models.runtime.numbers import Numbers
from models.runtime.pipeline import Pipeline
from models.runtime.progress import NOBODY, Caller
from models.runtime.record import PipelineRefusal, PipelineResult
from models.runtime.source_volume import SourceVolume

__all__ = ["answer_request"]

U8 = NDArray[np.uint8]


def answer_request(
    pipeline: Pipeline,
    digest: str,
    request: bytes,
    tensors: Mapping[str, NDArray[Any]],
    busy: Callable[[], AbstractContextManager[None]] = nullcontext,
    caller: Caller = NOBODY,
) -> tuple[U8, pb.InferenceAnswer]:
    """Answer one `InferenceRequest`.

    `tensors`: what came beside it, by name: of each role's three, the one that the request names.
    `busy` is held while the networks run; a request for another build is declined without it, so
    that asking whether a model answers costs nothing, needs no volume, and keeps no memory from
    being given back. `caller` hears how far it has come. Returns labels uint8
    [k, j, i] on the grid of the manifest's `grid_role` (of one voxel where its volume is not there)
    and the answer; labels are all zero where the answer holds a refusal.

    Raises:
        RequestError: the request cannot be understood.
        Cancelled: nobody waits any more.
    """
    message = _parsed(request)
    answer = pb.InferenceAnswer(model_digest=digest)
    if message.model_digest != digest:
        refusal = PipelineRefusal(
            "model_digest_mismatch", {"wanted": message.model_digest, "served": digest}
        )
        _set_refusal(answer, refusal)
        return np.zeros(_grid_shape(pipeline.manifest, tensors), np.uint8), answer
    _require_grid_role(pipeline.manifest, message.grid_role)
    volumes = _volumes(pipeline.manifest, message.roles, tensors)
    with busy():
        result = pipeline.run(volumes, caller, message.job_uid)
    _fill(answer, result, pipeline.manifest)
    if result.labels is not None:
        return result.labels, answer
    return np.zeros(volumes[pipeline.manifest.grid_role].shape, np.uint8), answer


def _parsed(request: bytes) -> pb.InferenceRequest:
    try:
        return pb.InferenceRequest.FromString(request)
    except DecodeError as error:
        raise RequestError(
            f"REQUEST ({len(request)} bytes) is no InferenceRequest: {error}. "
            "Send the serialised message as UINT8."
        ) from error


def _grid_shape(manifest: Manifest, tensors: Mapping[str, NDArray[Any]]) -> tuple[int, ...]:
    names = (volume_tensor_name(manifest.grid_role, dtype) for dtype in TRITON_DATATYPES)
    return next((tensors[name].shape for name in names if name in tensors), (1, 1, 1))


def _require_grid_role(manifest: Manifest, asked: str) -> None:
    if asked == manifest.grid_role:
        return
    known = f"{manifest.name} answers on the grid of {manifest.grid_role}"
    if asked in manifest.roles:
        raise RequestError(f"grid_role is {asked}, but {known}. Ask for that, and resample.")
    raise RequestError(
        f"grid_role is {asked!r}, which is none of the roles {', '.join(manifest.roles)}; {known}."
    )


def _volumes(
    manifest: Manifest, described: Iterable[pb.RoleVolume], tensors: Mapping[str, NDArray[Any]]
) -> dict[str, SourceVolume]:
    """Join what the request says of each role with the tensor that it names."""
    volumes: dict[str, SourceVolume] = {}
    for volume in described:
        if volume.role not in manifest.roles or volume.role in volumes:
            how = "stands twice" if volume.role in volumes else "is none of the model's"
            raise RequestError(f"The role {volume.role!r} {how}. Send {', '.join(manifest.roles)}.")
        try:
            volumes[volume.role] = SourceVolume(
                _voxels(volume, tensors),
                _affine(volume),
                volume.slope,
                volume.intercept,
                volume.frame_of_reference_uid,
            )
        except RequestError as error:
            raise RequestError(f"Role {volume.role}: {error}") from error
    missing = [
        name
        for name, role in manifest.roles.items()
        if name not in volumes and role.if_missing == "refuse"
    ]
    if missing:
        raise RequestError(f"The roles {', '.join(missing)} are missing. Send them.")
    return volumes


def _voxels(volume: pb.RoleVolume, tensors: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    known = {volume_tensor_name(volume.role, dtype): dtype for dtype in TRITON_DATATYPES}
    if known.get(volume.tensor) != volume.dtype:
        raise RequestError(
            f"the tensor {volume.tensor!r} of {volume.dtype!r} voxels is none of "
            f"{', '.join(known)}."
        )
    if volume.tensor not in tensors:
        raise RequestError(f"the tensor {volume.tensor} is missing. Send it with the request.")
    return tensors[volume.tensor]


def _affine(volume: pb.RoleVolume) -> NDArray[np.float64]:
    if len(volume.affine_lps) != 16:
        raise RequestError(
            f"the affine has {len(volume.affine_lps)} numbers, not 16. Send it row by row, 4 x 4."
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
    for output in manifest.outputs:
        if output.kind == "values":
            _add_numbers(answer, output.name, result.numbers.get(output.name, Numbers()))
            continue
        answer.outputs.add(
            name=output.name,
            kind=output.kind,
            tensor=LABELS_TENSOR,
            dtype="uint8",
            grid_role=manifest.grid_role,
        )
    for segment in manifest.segments:
        answer.segments.add(number=segment.number, voxels=result.voxels[segment.number])


def _add_numbers(answer: pb.InferenceAnswer, name: str, numbers: Numbers) -> None:
    output = answer.outputs.add(name=name, kind="values", values=numbers.whole)
    for number, by_segment in numbers.of_segments.items():
        output.segment_values.add(name=number, by_segment=by_segment)


def _set_refusal(answer: pb.InferenceAnswer, refusal: PipelineRefusal) -> None:
    answer.refusal.reason = refusal.reason
    answer.refusal.values.update(refusal.values)
