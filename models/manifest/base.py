"""The strictness that every part of a manifest shares, and coded concepts."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

__all__ = ["Code", "Name", "Part", "Sha256"]

# Names become folder names, tensor names and Triton model names.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=64)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Part(BaseModel):
    """A frozen piece of a manifest; a key that is not in the schema is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Code(Part):
    """A coded concept (PS3.3 8.8): value, scheme designator, meaning within the VR's limits."""

    scheme: Annotated[str, StringConstraints(pattern=r"^([A-Z0-9_]{2,16}|NCIt)$")]
    value: Annotated[str, Field(min_length=1, max_length=16)]
    meaning: Annotated[str, Field(min_length=1, max_length=64)]
