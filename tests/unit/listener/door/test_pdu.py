"""PDUs as bytes, with pynetdicom's reader and writer as the oracle."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context, build_role
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ, P_DATA_TF
from pynetdicom.pdu_primitives import A_ASSOCIATE, MaximumLengthNotification

from services.dimse import pdu
from services.dimse.commands import C_STORE_RQ, Command, parse_command, response
from services.listener.door.negotiation import answer_contexts, answer_roles
from tests.fuzz.make_corpus import command

MR = "1.2.840.10008.5.1.4.1.1.4"
SUPPORTED = {
    str(CTImageStorage): (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian)),
    "1.2.840.10008.1.1": (str(ImplicitVRLittleEndian),),
}


def request() -> bytes:
    """What pynetdicom sends to ask for four contexts."""
    entity = AE(ae_title="SENDER")
    primitive = A_ASSOCIATE()
    primitive.application_context_name = pdu.APPLICATION_CONTEXT
    primitive.calling_ae_title, primitive.called_ae_title = "SENDER", "AXIAL"
    contexts = [
        build_context(CTImageStorage, [ImplicitVRLittleEndian, ExplicitVRLittleEndian]),
        build_context(CTImageStorage, "1.2.840.10008.1.2.4.50"),
        build_context(MR),
        build_context("1.2.840.10008.1.1"),
    ]
    for number, context in enumerate(contexts):
        context.context_id = 2 * number + 1
    primitive.presentation_context_definition_list = contexts
    length = MaximumLengthNotification()
    length.maximum_length_received = 54321
    items: list[Any] = [length, build_role(CTImageStorage, scu_role=True, scp_role=True)]
    primitive.user_information = items
    encoded = A_ASSOCIATE_RQ()
    encoded.from_primitive(primitive)
    assert entity.ae_title == "SENDER"
    return encoded.encode()


def test_a_request_is_read_as_it_was_written() -> None:
    sent = request()
    kind, length = pdu.PDU_HEAD.unpack_from(sent)
    assert (kind, length) == (pdu.A_ASSOCIATE_RQ, len(sent) - 6)
    found = pdu.parse_associate_request(sent[6:])
    assert (found.calling_ae_title, found.called_ae_title) == ("SENDER", "AXIAL")
    assert found.application_context == pdu.APPLICATION_CONTEXT
    assert found.protocol_version == 1
    assert found.max_pdu_bytes == 54321
    assert found.roles == {str(CTImageStorage): (1, 1)}
    assert [(c.context_id, c.abstract_syntax) for c in found.contexts] == [
        (1, str(CTImageStorage)),
        (3, str(CTImageStorage)),
        (5, MR),
        (7, "1.2.840.10008.1.1"),
    ]


def test_an_accept_is_read_as_it_was_meant() -> None:
    body = request()[6:]
    asked = pdu.parse_associate_request(body)
    answers = answer_contexts(asked, SUPPORTED, lambda uid: uid != "1.2.840.10008.1.1")
    sent = pdu.associate_accept(
        body,
        answers,
        max_pdu_bytes=131072,
        implementation_class_uid="1.2.3",
        implementation_version="AXIAL",
        roles=answer_roles(asked, SUPPORTED),
    )
    read: Any = A_ASSOCIATE_AC()
    read.decode(sent)
    primitive = read.to_primitive()
    # Accepted in our order; transfer syntax, abstract syntax and peer's verbs are refused apart.
    assert [
        (context.context_id, context.result)
        for context in primitive.presentation_context_definition_results_list
    ] == [(1, 0), (3, 4), (5, 3), (7, 1)]
    first = primitive.presentation_context_definition_results_list[0]
    assert first.transfer_syntax == [ExplicitVRLittleEndian]
    assert primitive.maximum_length_received == 131072
    assert primitive.calling_ae_title == "SENDER"
    (role,) = [i for i in primitive.user_information if hasattr(i, "scu_role")]
    assert (role.scu_role, role.scp_role) == (True, False)


def test_reject_abort_and_data_are_read_as_they_were_meant() -> None:
    reject: Any = A_ASSOCIATE_RJ()
    reject.decode(pdu.associate_reject(1, 1, 7))
    assert (reject.result, reject.source, reject.reason_diagnostic) == (1, 1, 7)
    abort: Any = A_ABORT_RQ()
    abort.decode(pdu.abort(pdu.UNEXPECTED_PDU))
    assert (abort.source, abort.reason_diagnostic) == (2, 2)
    data: Any = P_DATA_TF()
    data.decode(pdu.p_data(5, b"command!"))
    ((context_id, fragment),) = data.to_primitive().presentation_data_value_list
    assert (context_id, fragment) == (5, b"\x03command!")


def test_a_command_is_answered_with_its_own_ids() -> None:
    asked = parse_command(command(C_STORE_RQ, sop_class=str(CTImageStorage), instance="1.2.3.4.5"))
    assert asked == Command(C_STORE_RQ, 7, True, str(CTImageStorage), "1.2.3.4.5", "")
    answered = parse_command(response(asked, 0xA700, "Full."))
    assert (answered.field, answered.has_data_set) == (0x8001, False)
    assert (answered.sop_class_uid, answered.sop_instance_uid) == (
        asked.sop_class_uid,
        asked.sop_instance_uid,
    )
    # (0000,0120) message id being responded to, (0000,0900) status.
    assert b"\x00\x00\x20\x01\x02\x00\x00\x00\x07\x00" in response(asked, 0xA700)
    assert b"\x00\x00\x00\x09\x02\x00\x00\x00\x00\xa7" in response(asked, 0xA700)


@pytest.mark.parametrize("cut", [5, 60, 68, 71, 100, 150, -1])
def test_a_request_that_is_cut_off_is_malformed(cut: int) -> None:
    with pytest.raises(pdu.MalformedPduError):
        pdu.parse_associate_request(request()[6:][:cut])


def test_contexts_with_even_or_equal_ids_are_malformed() -> None:
    body = bytearray(request()[6:])
    first = body.index(b"\x20\x00", 68)
    assert body[first + 4] == 1
    for wrong in (2, 3):
        body[first + 4] = wrong
        with pytest.raises(pdu.MalformedPduError):
            pdu.parse_associate_request(bytes(body))
