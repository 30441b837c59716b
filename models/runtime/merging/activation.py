"""Scores to probabilities: classes that exclude each other, or regions each by itself."""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace

__all__ = ["sigmoid", "softmax"]


def softmax(logits: Any) -> Any:
    """Return probabilities [k, ...] that add up to one over the classes."""
    xp = array_namespace(logits)
    powers = xp.exp(logits - xp.max(logits, axis=0, keepdims=True))
    powers /= xp.sum(powers, axis=0, keepdims=True)
    return powers


def sigmoid(logits: Any) -> Any:
    """Return the probability of each region [r, ...]; without overflow for large logits."""
    xp = array_namespace(logits)
    # exp of what is never positive; the other side by symmetry.
    powers = xp.exp(-xp.abs(logits))
    return xp.where(logits >= 0, 1.0 / (1.0 + powers), powers / (1.0 + powers))
