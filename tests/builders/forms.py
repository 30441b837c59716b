"""Forms of results, by their options."""

from __future__ import annotations

from services.reporting.objects.forms import Form


def form_of(*options: str) -> Form:
    """The form with these options."""
    return Form(frozenset(options))
