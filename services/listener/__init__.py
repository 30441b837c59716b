"""The front door: receives instances, keeps them, and hands studies on as revisions.

An instance goes through the corridors in this order. A receiver process takes it from its sender
and makes its file durable in a spool before it is acknowledged (`door`; over HTTP `stow`). The main
process starts and watches the receivers and hears from them (`receiving`), writes rows and brings
files into the store (`registering`), freezes studies as numbered revisions and announces them to
the orchestrator (`assembling`), and looks after what is stored: shipping, conflicts, retention
(`keeping`). `peers` says who may send and what is agreed with each; `conformance` renders the
statement from the tables by which the doors decide. `service` joins them as a process; `intake` is
its gRPC door.

Corridors import only what stands below them: import-linter holds the order (pyproject.toml).

This room alone writes the tables study, series, instance, revision, revision_instance, conflict and
expectation. Run it with ``python -m services.listener``.
"""

__all__: list[str] = []
