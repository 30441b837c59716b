"""The receive engine: what runs in a receiver, on Python's standard library and ISA-L's checksum.

A receiver accepts associations on a socket that the main process bound, negotiates (`negotiation`,
`admission`), reads C-STORE data sets straight from the socket into files (`association`, on PDUs
and commands of `services.dimse`), makes them durable (`spool`, `part10`) and tells the main
process of each over a socket pair (`stored`, `outbox`, `channel`). The main process registers,
assembles and announces. Nothing heavy is imported here: a receiver stays small, starts in a tenth
of a second, and one association costs a thread and a buffer.
"""

__all__: list[str] = []
