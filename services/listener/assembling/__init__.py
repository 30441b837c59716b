"""From registered instances to revisions that the orchestrator works on.

`assembly` decides when a study is complete: by count (`expectations`), because somebody said so, or
because it is quiet; `wanting` freezes it earlier for what models want (`examination` asks the
orchestrator). Before all of them stands `under_way`: what an association still sends is not
complete. `revisions` holds the transactions, `announce` tells the orchestrator until it has
confirmed. Public: `assembly.Assembly`, `wanting.Wanting`, `announce.Announcer`,
`under_way.SeriesUnderWay`, `examination.Examiner`, and the functions of `revisions` and
`expectations`.
"""

__all__: list[str] = []
