"""The front door: receives instances, keeps them, and hands studies on as revisions.

An instance is acknowledged when its file is synced and its row is committed (`reception`,
`registry`); a study that was quiet, or is told to be complete, is frozen as a numbered revision
(`assembly`), and the orchestrator is told of it until it has confirmed (`announce`). The DICOM door
is `scp`, who may use it `peers`, what it takes `presentation_contexts`; the gRPC door is `intake`.
`recovery` brings store and database together after a crash, `conformance` renders the conformance
statement from the same tables, and `sender` is the counterpart that people and tests send with.

This room alone writes the tables study, series, instance, revision and revision_instance. Run it
with ``python -m services.listener``.
"""

__all__: list[str] = []
