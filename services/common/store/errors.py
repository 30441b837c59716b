"""What can go wrong with the study store.

StoreError                the study store cannot do what was asked
 |- ObjectMissing         there is no object under the key
 `- ObjectDiffers         another object lies under the key, and it was not to be replaced

A `StoreError` is retryable where the place may answer later (a full disk, a server that is away).
Its message names the key: it holds UIDs and belongs into no log.
"""

from __future__ import annotations

from services.common.errors import AxialError


class StoreError(AxialError):
    """The study store cannot do what was asked."""


class ObjectMissing(StoreError):
    """There is no object under `key`."""

    def __init__(self, key: str) -> None:
        super().__init__(f"There is no {key} in the store.")
        self.key = key


class ObjectDiffers(StoreError):
    """Another object lies under `key` and stays there."""

    def __init__(self, key: str) -> None:
        super().__init__(f"The store holds another object under {key}; it was not replaced.")
        self.key = key
