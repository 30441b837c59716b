"""Settings of the study store and of what is removed from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from services.common.settings.group import Group

_GIB = 1 << 30


class StoreSettings(Group):
    """The study store: a folder, or S3."""

    url: str | None = None
    """A folder, or `s3://bucket/prefix`. None: `<data_dir>/store`. Received instances are kept in
    the listener's spool until they are there."""
    endpoint: str | None = None
    """URL of the S3 server. None: the provider's own for the region. http:// is not encrypted."""
    region: str = "us-east-1"
    """Region of the bucket; most servers of one's own ignore it."""
    access_key_id_file: Path | None = None
    """File with the access key id. None: `AWS_ACCESS_KEY_ID`, or the machine's role."""
    secret_access_key_file: Path | None = None
    """File with the secret access key. None: `AWS_SECRET_ACCESS_KEY`, or the machine's role."""
    timeout_s: Annotated[float, Field(gt=0)] = 30.0
    """How long S3 may be silent within a request, and how long a request is tried again."""
    transfers: Annotated[int, Field(ge=1, le=64)] = 8
    """Objects on their way to or from S3 at once, per process."""
    cache_dir: Path | None = None
    """Where copies of S3 objects lie while they are worked on: a disk of this machine.
    None: `<data_dir>/cache`."""
    cache_bytes: Annotated[int, Field(ge=0)] = 4 * _GIB
    """What such copies may take together, beside those in use."""
    min_free_bytes: Annotated[int, Field(ge=0)] = _GIB
    """With less free on the disk of the spool, or of a store in a folder, the listener is not
    ready and takes no instances (A700: the sender keeps its copy), before the disk is full."""

    @model_validator(mode="after")
    def _names_both_credentials(self) -> StoreSettings:
        if (self.access_key_id_file is None) != (self.secret_access_key_file is None):
            raise ValueError("access_key_id_file and secret_access_key_file come together")
        return self


class RetentionSettings(Group):
    """What is removed from the study store: the oldest studies first, and never what a job or a
    delivery still needs. Nothing is removed by default."""

    max_age_d: Annotated[float, Field(gt=0)] | None = None
    """Images of studies that received nothing for this many days are removed."""
    max_bytes: Annotated[int, Field(ge=0)] | None = None
    """While all images together take more, the oldest studies' are removed."""
    min_free_bytes: Annotated[int, Field(gt=0)] | None = None
    """While less is free on the disk of a store in a folder, the oldest studies' are removed. To
    be above store.min_free_bytes, so that space is made before instances are declined."""
    results: Literal["keep", "with_images"] = "keep"
    """Whether labels and results of a study are removed with its images. Those that a dead
    delivery may still be sent from are kept."""
    interval_s: Annotated[float, Field(gt=0)] = 600.0
    """How often the listener looks."""

    @property
    def active(self) -> bool:
        """Whether anything may ever be removed."""
        return any(
            limit is not None for limit in (self.max_age_d, self.max_bytes, self.min_free_bytes)
        )
