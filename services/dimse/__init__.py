"""DICOM's network protocol, for the door, deliveries and the command: on Python's standard library.

Protocol data units (`pdu`) and command sets (`commands`) as bytes, PDUs read from a connection
(`wire`), and TLS by the profiles of PS3.15 (`tls`). Nothing heavy is imported here: what runs in
a receiver stays small.
"""

__all__: list[str] = []
