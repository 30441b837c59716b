"""The main process's side of the receivers: starts, watches and replaces them, and hears of all
that they do.

`Receivers` (`receivers`) binds the DICOM ports and keeps one process for each receiver; what they
say of instances goes to `registering`, and of associations to log, counters and audit trail
(`door_events`). Public: `receivers.Receivers`, `door_events.DoorEvents`.
"""

__all__: list[str] = []
