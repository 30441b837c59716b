"""From an acknowledged instance in a spool to its row in the database and its object in the store.

`registrar` gathers what is offered (`arrivals`) and registers it in batches (`registry`); `placing`
then brings each file where it belongs, after comparing it with what is known under its UID
(`comparing`, `displaced`). Other bytes under a known UID become rows of `conflicts`; a sender of
whom none are taken has `refusing` asked before it is answered. After a crash `recovery` takes up
what lies in the spool, and `quarantine` keeps what is no instance. Public: `registrar.Registrar`,
`arrivals.Offered`, `recovery.recover_spool`, `refusing.KnownOtherwise`, `quarantine.Quarantine`,
and the functions of `registry` and `conflicts`.
"""

__all__: list[str] = []
