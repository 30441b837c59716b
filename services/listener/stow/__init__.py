"""The HTTP door: store instances by STOW-RS (PS3.18 10.5), as durably as by C-STORE.

`app` is the ASGI application, `server` runs it in the listener's main process. A request's body
goes through `multipart`, a streaming parser, part by part into `instance`, which writes it to the
spool as it arrives; `response` says what became of each. Memory does not grow with the request:
what is read is written before more is read.
"""

__all__: list[str] = []
