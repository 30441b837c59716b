"""What Triton says, in our words: which errors mean what."""

from __future__ import annotations

from tritonclient.utils import InferenceServerException

from services.orchestrator.errors import InferenceFailed, ModelDied, ModelUnavailable

# gRPC states in which the request itself may be fine.
_UNREACHABLE = ("UNAVAILABLE", "CANCELLED")
# What Triton says while a model is loading or unloading.
_NOT_SERVING = (
    "is not ready",
    "not found",
    "unknown model",
    "no available versions",
    "failed to connect",
)
# What it says of a model whose process has ended; it goes on calling the model ready.
_DEAD = ("stub process", "is not healthy")
# What it says when it wants the key (triton.control_key) and gets none, or another one.
_RESTRICTED = "protocol is restricted"


def explained(error: InferenceServerException) -> ModelUnavailable | InferenceFailed:
    """The error as one of ours; a `ModelUnavailable` may pass, an `InferenceFailed` will not."""
    text = first_line(error)
    lower = text.lower()
    if any(sign in lower for sign in _DEAD):
        return ModelDied(text)
    if _RESTRICTED in lower:
        return ModelUnavailable("Triton wants another key than triton.control_key")
    unreachable = any(state in status_of(error) for state in _UNREACHABLE)
    if unreachable or any(sign in lower for sign in _NOT_SERVING):
        return ModelUnavailable(text)
    return InferenceFailed(text)


def is_past_deadline(error: InferenceServerException) -> bool:
    """Whether no answer came in time."""
    return "DEADLINE_EXCEEDED" in status_of(error)


def status_of(error: InferenceServerException) -> str:
    """The gRPC state."""
    return str(error.status() or "no status")


def first_line(error: InferenceServerException) -> str:
    """What was said, without what may follow of a traceback."""
    return str(error.message() or "no message").splitlines()[0][:300]
