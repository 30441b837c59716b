"""The requestor's PDUs and commands, with pynetdicom's readers and writers as the oracle."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from pynetdicom.dimse_messages import C_ECHO_RQ, C_STORE_RQ
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, P_DATA, MaximumLengthNotification
from pynetdicom.presentation import PresentationContext

from services.common.transcoding import EXPLICIT, IMPLICIT
from services.dimse import pdu
from services.dimse.commands import (
    MalformedCommandError,
    echo_request,
    parse_response,
    store_request,
)
from services.dimse.endings import abort_in_words, context_result_in_words, rejection_in_words
from services.dimse.pdu import MalformedPduError, ProposedContext
from services.dimse.proposal import associate_request, parse_associate_accept

CT = "1.2.840.10008.5.1.4.1.1.2"


def test_a_request_says_what_it_was_given() -> None:
    contexts = [ProposedContext(1, CT, (EXPLICIT,)), ProposedContext(3, CT, (IMPLICIT, EXPLICIT))]
    encoded = associate_request(
        "PACS",
        "AXIAL-SEND",
        contexts,
        max_pdu_bytes=65536,
        implementation_class_uid="1.2.3",
        implementation_version="AXIAL",
    )
    read = A_ASSOCIATE_RQ()
    read.decode(encoded)
    primitive = read.to_primitive()
    assert (primitive.called_ae_title, primitive.calling_ae_title) == ("PACS", "AXIAL-SEND")
    assert primitive.application_context_name == pdu.APPLICATION_CONTEXT
    found = [
        (context.context_id, context.abstract_syntax, tuple(context.transfer_syntax))
        for context in primitive.presentation_context_definition_list
    ]
    assert found == [(c.context_id, c.abstract_syntax, c.transfer_syntaxes) for c in contexts]
    user: list[Any] = primitive.user_information
    assert user[0].maximum_length_received == 65536
    # And by our own reader.
    parsed = pdu.parse_associate_request(encoded[6:])
    assert parsed.contexts == tuple(contexts)


def accept(*contexts: tuple[int, int, str], longest: int = 12345) -> bytes:
    primitive = A_ASSOCIATE()
    primitive.application_context_name = pdu.APPLICATION_CONTEXT
    primitive.calling_ae_title, primitive.called_ae_title = "AXIAL", "PACS"
    primitive.result, primitive.result_source = 0, 1
    answered: list[Any] = []
    for context_id, result, syntax in contexts:
        context = PresentationContext()
        context.context_id, context.result = context_id, result
        context.transfer_syntax = [syntax]
        answered.append(context)
    primitive.presentation_context_definition_results_list = answered
    length = MaximumLengthNotification()
    length.maximum_length_received = longest
    user: list[Any] = [length]
    primitive.user_information = user
    encoded = A_ASSOCIATE_AC()
    encoded.from_primitive(primitive)
    return encoded.encode()[6:]


def test_an_acceptance_is_read_as_it_was_written() -> None:
    answer = parse_associate_accept(accept((1, 0, EXPLICIT), (3, 3, IMPLICIT), (5, 4, IMPLICIT)))
    assert answer.max_pdu_bytes == 12345
    assert [(c.context_id, c.result) for c in answer.contexts] == [(1, 0), (3, 3), (5, 4)]
    assert answer.contexts[0].transfer_syntax == EXPLICIT


@pytest.mark.parametrize("length", range(0, 120, 7))
def test_an_acceptance_that_is_cut_off_is_malformed(length: int) -> None:
    body = accept((1, 0, EXPLICIT))
    try:
        answer = parse_associate_accept(body[:length])
    except MalformedPduError:
        return
    # Cut between two items: fewer of them.
    assert len(answer.contexts) <= 1


def test_pdus_into_which_nothing_fits_are_malformed() -> None:
    with pytest.raises(MalformedPduError, match="7 bytes at most"):
        parse_associate_accept(accept((1, 0, EXPLICIT), longest=7))


def read_command(message: Any, command: bytes) -> Any:
    primitive = P_DATA()
    values: Any = [[1, b"\x03" + command]]
    primitive.presentation_data_value_list = values
    message.decode_msg(primitive)
    return message.command_set


def test_commands_say_what_they_were_given() -> None:
    found = read_command(C_STORE_RQ(), store_request(7, CT, "1.2.3.4.5"))
    assert (found.CommandField, found.MessageID, found.Priority) == (0x0001, 7, 0)
    assert (found.AffectedSOPClassUID, found.AffectedSOPInstanceUID) == (CT, "1.2.3.4.5")
    assert found.CommandDataSetType != 0x0101
    found = read_command(C_ECHO_RQ(), echo_request(65535, "1.2.840.10008.1.1"))
    assert (found.CommandField, found.MessageID) == (0x0030, 65535)
    assert found.CommandDataSetType == 0x0101


def element(tag: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, tag, len(value)) + value


def test_a_response_may_leave_out_what_it_does_not_need() -> None:
    response = parse_response(element(0x0100, b"\x01\x80"))
    assert (response.field, response.status, response.message_id) == (0x8001, None, None)
    assert not response.has_data_set
    with pytest.raises(MalformedCommandError):
        parse_response(element(0x0900, b"\0\0"))


def test_every_number_of_the_standard_has_words() -> None:
    rejected = {
        rejection_in_words(1, source, reason)
        for source, reason in ((1, 1), (1, 2), (1, 3), (1, 7), (2, 2), (3, 1), (3, 2))
    }
    assert len(rejected) == 7
    assert not any("does not know" in words for words in rejected)
    assert len({abort_in_words(2, reason) for reason in (0, 1, 2, 4, 5, 6)}) == 6
    assert len({context_result_in_words(result) for result in (1, 2, 3, 4)}) == 4
