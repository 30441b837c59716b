"""The ways by which results reach a destination: one module for each.

`registry` (`TRANSPORTS`, `transport_for`) lists them by the tag that settings name; `transport`
(`Transport`, `Line`, `Attempt`, `NotReached`) is what each offers: a line to a destination over
which objects are sent, a probe whether it is there, what it carries. `cstore` is C-STORE. A
transport knows no queue: it says how an attempt ended, and the queue decides what follows.
"""
