"""DICOM's network protocol, for the door, deliveries and the command: on Python's standard library.

Both sides: protocol data units (`pdu`) and command sets (`commands`) as bytes, PDUs read from and
written to a connection (`wire`), and TLS by the profiles of PS3.15 (`tls`). The requestor's side:
whom to call (`line`), what is proposed (`proposal`), one association with its operations
(`requestor`), files over one or several of them (`files`, `sending`), and what answers and ends
mean (`statuses`, `endings`, `errors`). Nothing heavy is imported here: what runs in a receiver
stays small, and `axial send` starts at once.
"""

__all__: list[str] = []
