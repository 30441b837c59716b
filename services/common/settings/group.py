"""What the groups of the settings tree have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

AeTitle = Annotated[
    str, StringConstraints(min_length=1, max_length=16, pattern=r"^[\x20-\x5b\x5d-\x7e]+$")
]
Port = Annotated[int, Field(ge=0, le=65535)]


class Group(BaseModel):
    """Settings that belong together: frozen, unknown keys are errors, docstrings are the docs."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
