"""The ``axial`` command: run the stack, send, look, ask why.

What looks (`status`, `why`) asks the gateway over HTTP, so that it works from anywhere; what runs
(`up`, `demo`) starts processes on this machine. It decides nothing itself.
"""
