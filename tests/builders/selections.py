"""What a selection holds, for tests of models that read one series."""

from __future__ import annotations

from services.orchestrator.considering import Chosen
from services.orchestrator.selection import ModelSelection


def chosen_in(selection: ModelSelection) -> list[Chosen]:
    """The volumes that were chosen, job after job and role after role."""
    return [chosen for job in selection.selections for chosen in job.inputs.values()]
