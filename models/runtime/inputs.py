"""The volumes of a run: whether they lie in one space, and what stands for one that lacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from models.manifest.roles import Role
from models.runtime.record import PipelineRefusal
from models.runtime.source_volume import SourceVolume

__all__ = ["frames_problem", "with_zeros"]


def frames_problem(
    roles: Mapping[str, Role], volumes: Mapping[str, SourceVolume]
) -> PipelineRefusal | None:
    """Return why volumes cannot be laid over each other: their frames of reference differ.

    Of roles that are registered nothing is demanded.
    """
    for name, role in roles.items():
        align = role.align
        if align is None or align.by != "same-frame" or name not in volumes:
            continue
        own, other = (volumes[one].frame_of_reference_uid for one in (name, align.to))
        if own != other:
            return PipelineRefusal(
                "frames_of_reference_differ",
                {"role": role.title, "other": roles[align.to].title},
            )
    return None


def with_zeros(
    roles: Mapping[str, Role], volumes: Mapping[str, SourceVolume]
) -> dict[str, SourceVolume]:
    """Return the volumes, and for each role that lacks one zeros as large as what it aligns to."""
    whole = dict(volumes)
    for name, role in roles.items():
        if name not in volumes and role.align is not None:
            like = volumes[role.align.to]
            zeros = np.broadcast_to(np.zeros((), np.int16), like.shape)
            whole[name] = replace(like, voxels=zeros, slope=1.0, intercept=0.0)
    return whole
