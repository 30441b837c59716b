"""What was answered of an instance that never came is not held against the next one."""

from __future__ import annotations

from sqlalchemy import Engine

from services.listener.registering.refusing import KnownOtherwise

UID, SYNTAX = "1.2.3.4", "1.2.840.10008.1.2.1"


def test_a_second_sender_of_other_bytes_is_refused_while_the_first_may_be_on_its_way(
    lite_engine: Engine,
) -> None:
    now = [0.0]
    known = KnownOtherwise(lite_engine, lambda _seconds: True, lambda: now[0])
    assert not known(UID, "first", SYNTAX)
    assert not known(UID, "first", SYNTAX)
    assert known(UID, "second", SYNTAX)


def test_and_registered_when_the_first_did_not_come(lite_engine: Engine) -> None:
    """The disk may have refused it: "duplicate" would let the second sender drop its copy."""
    now = [0.0]
    known = KnownOtherwise(lite_engine, lambda _seconds: True, lambda: now[0])
    assert not known(UID, "first", SYNTAX)
    now[0] += 120.0
    assert not known(UID, "second", SYNTAX)
    assert known(UID, "first", SYNTAX)
