"""What is accepted of the presentation contexts that a sender proposes (PS3.8 9.3.3.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from services.dimse.pdu import AnsweredContext, AssociateRequest

ACCEPTED = 0
USER_REJECTION = 1
ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
TRANSFER_SYNTAXES_NOT_SUPPORTED = 4

# Stands where a context is not accepted: the field has no meaning then (PS3.8 table 9-18).
_NO_SYNTAX = "1.2.840.10008.1.2"


def answer_contexts(
    request: AssociateRequest,
    supported: Mapping[str, tuple[str, ...]],
    may_negotiate: Callable[[str], bool],
) -> list[AnsweredContext]:
    """One answer for each proposed context, in the order proposed.

    Of several transfer syntaxes in one context the first in our own order is taken: instances are
    stored as they are sent, and ours prefers what needs no decoding.

    Args:
        supported: abstract syntax -> transfer syntaxes, preferred ones first.
        may_negotiate: whether the peer may use an abstract syntax.
    """
    answers: list[AnsweredContext] = []
    for context in request.contexts:
        syntaxes = supported.get(context.abstract_syntax)
        chosen = next((uid for uid in syntaxes or () if uid in context.transfer_syntaxes), None)
        if syntaxes is None:
            result = ABSTRACT_SYNTAX_NOT_SUPPORTED
        elif not may_negotiate(context.abstract_syntax):
            result = USER_REJECTION
        elif chosen is None:
            result = TRANSFER_SYNTAXES_NOT_SUPPORTED
        else:
            result = ACCEPTED
        syntax = chosen if result == ACCEPTED and chosen is not None else _NO_SYNTAX
        answers.append(AnsweredContext(context.context_id, result, syntax))
    return answers


def answer_roles(
    request: AssociateRequest, supported: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[int, int]]:
    """The role selections that are answered: the requestor is SCU, never SCP (PS3.7 D.3.3.4)."""
    return {
        uid: (scu, 0)
        for uid, (scu, _scp) in request.roles.items()
        if uid in supported and any(uid == c.abstract_syntax for c in request.contexts)
    }
