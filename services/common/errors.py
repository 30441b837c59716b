"""The root of the services' exceptions.

AxialError
 |- SettingsError         a setting is unknown or wrong (services.common.settings)
 |- StoreError            the study store cannot read or write (services.common.store)
 |- HeaderError           a data set lacks what registration needs (services.common.headers)
 |- TranscodingError      a data set cannot be written in another transfer syntax (here)
 |- LifecycleError        a forbidden change of state (services.common.lifecycle)
 `- one root exception per room

Exceptions are for what nobody planned. What the field's data can legitimately do (a missing
slice, a model that is not wanted) is a `Refusal`, a value: see services.common.fates.
"""

from __future__ import annotations


class AxialError(Exception):
    """An error that names its subject and says whether trying again can help.

    Args:
        message: names the thing, the value and the remedy; no patient data.
        retryable: whether the same call may succeed later.
        retry_after_s: the shortest sensible wait before the next try, in seconds.
    """

    def __init__(
        self, message: str, *, retryable: bool = False, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.retry_after_s = retry_after_s


class TranscodingError(AxialError):
    """A data set cannot be written in another transfer syntax; the message quotes no value."""
