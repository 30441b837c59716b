"""Which presentation contexts an association proposes, and which instances it carries."""

from __future__ import annotations

from pathlib import Path

from services.common.transcoding import ALTERNATIVES, EXPLICIT, IMPLICIT
from services.dimse.files import FoundInstance
from services.dimse.sending import plan

JPEG = "1.2.840.10008.1.2.4.70"


def found(number: int, sop_class: str, syntax: str) -> FoundInstance:
    return FoundInstance(Path(f"{number}.dcm"), sop_class, f"1.{number}", syntax, "1.2", 400, 10)


def test_each_kind_that_occurs_is_a_context_of_its_own() -> None:
    instances = [found(1, "1.1", EXPLICIT), found(2, "1.1", JPEG), found(3, "1.1", EXPLICIT)]
    (batch,) = plan(instances)
    assert [(c.context_id, c.abstract_syntax, c.transfer_syntaxes) for c in batch.contexts] == [
        (1, "1.1", (EXPLICIT,)),
        (3, "1.1", (JPEG,)),
    ]
    assert batch.instances == tuple(instances)


def test_what_is_not_compressed_is_offered_in_implicit_too() -> None:
    (batch,) = plan([found(1, "1.1", EXPLICIT), found(2, "1.1", JPEG)], ALTERNATIVES)
    assert [c.transfer_syntaxes for c in batch.contexts] == [(EXPLICIT,), (IMPLICIT,), (JPEG,)]


def test_more_kinds_than_contexts_are_split_over_associations() -> None:
    instances = [found(n, f"1.{n % 300}", (EXPLICIT, JPEG)[n % 2]) for n in range(900)]
    batches = plan(instances, ALTERNATIVES)
    assert all(len(batch.contexts) <= 128 for batch in batches)
    assert sum(len(batch.instances) for batch in batches) == 900
    for batch in batches:
        proposed = {(c.abstract_syntax, *c.transfer_syntaxes) for c in batch.contexts}
        assert {(i.sop_class_uid, i.transfer_syntax_uid) for i in batch.instances} <= proposed
        assert [c.context_id for c in batch.contexts] == list(range(1, 2 * len(proposed), 2))
    assert 3 <= len(batches) <= 5
