"""Selection, the durable workflow, the inference client.

Takes over a frozen revision, decides which models want which series, has the volume inferred and
the results made and released, and writes down the fate of every series. It makes no result and
sends nothing itself. Entry: ``python -m services.orchestrator``.
"""

from services.orchestrator.errors import OrchestratorError

__all__ = ["OrchestratorError"]
