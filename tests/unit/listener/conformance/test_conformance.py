"""The conformance statement is current, and says what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, AllTransferSyntaxes
from pynetdicom.presentation import AllStoragePresentationContexts
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import uid_to_service_class

from services.dimse.statuses import STORE_STATUSES
from services.dimse.tls import PROFILES, Profile
from services.listener.conformance.statement import (
    SENT_SOP_CLASSES,
    render_conformance,
)
from services.listener.conformance.stow import STATUSES
from services.listener.door.admission import Rejection
from services.listener.peers.presentation_contexts import (
    TRANSFER_SYNTAXES,
    VERIFICATION,
    accepted_contexts,
)
from services.listener.stow.response import FailureReason

CHECKOUT = Path(__file__).resolve().parents[4]


def decodable(uid: UID) -> bool:
    try:
        return get_decoder(uid).is_available
    except NotImplementedError:
        return False


def test_every_storage_sop_class_is_accepted_and_is_served_as_storage() -> None:
    accepted = {context.sop_class_uid for context in accepted_contexts()}
    known = {str(context.abstract_syntax) for context in AllStoragePresentationContexts}
    assert accepted == known | {VERIFICATION}
    for uid in known:
        assert uid_to_service_class(uid) is StorageServiceClass


def test_accepted_transfer_syntaxes_are_exactly_those_that_can_be_decoded() -> None:
    assert set(TRANSFER_SYNTAXES) == {str(uid) for uid in AllTransferSyntaxes if decodable(uid)}
    assert len(TRANSFER_SYNTAXES) == len(set(TRANSFER_SYNTAXES))


def test_statement_names_every_class_and_syntax_by_name() -> None:
    rendered = render_conformance()
    for context in accepted_contexts():
        assert f"| {context.name} | `{context.sop_class_uid}` |" in rendered
        assert context.name != context.sop_class_uid
    for uid in TRANSFER_SYNTAXES:
        assert f"`{uid}`" in rendered


def test_statement_says_of_every_answer_what_the_delivery_does() -> None:
    rendered = render_conformance()
    for entry in STORE_STATUSES:
        assert f"| {entry.first:04X}" in rendered
        assert f" | {entry.meaning} | " in rendered


def test_statement_names_the_sop_classes_of_our_results() -> None:
    assert [UID(uid).keyword for uid, _ in SENT_SOP_CLASSES] == [
        "SegmentationStorage",
        "Comprehensive3DSRStorage",
    ]


def test_statement_has_a_row_for_every_rejection() -> None:
    rendered = render_conformance()
    for rejection in Rejection:
        result, source, reason = rejection.code
        lasting = "permanent" if result == 1 else "transient"
        assert f"| {result} ({lasting}) | {source} | {reason} (" in rendered
    rows = [line for line in rendered.splitlines() if line.startswith(("| 1 (perm", "| 2 (tran"))]
    assert len(rows) == len(Rejection)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=list(PROFILES))
def test_statement_names_every_tls_profile_with_its_suites(profile: Profile) -> None:
    rendered = render_conformance()
    assert f"| {profile.name} | {profile.section} |" in rendered
    assert ", ".join(profile.suites) in rendered


def test_statement_has_every_status_and_failure_reason_of_stow() -> None:
    rendered = render_conformance()
    for status, _ in STATUSES:
        assert f"| {status} | " in rendered
    for reason in FailureReason:
        assert f"| {reason:04X} | " in rendered
