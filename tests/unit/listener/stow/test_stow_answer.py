"""What is answered at the STOW-RS door: in which media type, and with which status."""

from __future__ import annotations

import pytest

from services.listener.stow.response import (
    JSON_TYPE,
    XML_TYPE,
    Failed,
    FailureReason,
    Stored,
    negotiate,
    status_of,
)

STORED = Stored("1.2", "1.2.3.1", "1.2.3", "1.2.4", 100)
FULL = Failed(FailureReason.OUT_OF_RESOURCES, "The disk is nearly full.")
TOO_LARGE = Failed(FailureReason.OUT_OF_RESOURCES, "It is too large.", too_large=True)
NO_DICOM = Failed(FailureReason.CANNOT_UNDERSTAND, "The part has no DICOM prefix.")


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, JSON_TYPE),
        ("", JSON_TYPE),
        ("*/*", JSON_TYPE),
        ("application/*", JSON_TYPE),
        ("application/json", JSON_TYPE),
        ("application/dicom+xml", XML_TYPE),
        ("application/dicom+xml, */*;q=0.1", XML_TYPE),
        ("application/dicom+xml, application/dicom+json", XML_TYPE),
        ("application/dicom+xml;q=0.5, application/dicom+json", JSON_TYPE),
        ("application/dicom+json;q=0, application/dicom+xml;q=0.5", XML_TYPE),
        ("application/dicom+json;q=abc, application/dicom+xml;q=0.5", XML_TYPE),
        ("text/html", None),
        ("*/*;q=0", None),
    ],
)
def test_the_answer_has_the_type_that_is_accepted_most(
    accept: str | None, media_type: str | None
) -> None:
    assert negotiate(accept) == media_type


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*, application/dicom+json;q=0", XML_TYPE),
        ("application/dicom+json;q=0, */*", XML_TYPE),
        ("application/dicom+json;q=0.1, application/*;q=0.9", XML_TYPE),
        ("*/*, application/*;q=0", None),
        ("application/*;q=0, application/dicom+xml;q=0.1", XML_TYPE),
    ],
)
def test_the_most_specific_range_decides_about_a_type(accept: str, media_type: str | None) -> None:
    assert negotiate(accept) == media_type


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        ([], 400),
        ([STORED], 200),
        ([STORED, TOO_LARGE], 202),
        ([FULL], 503),
        ([FULL, TOO_LARGE], 503),
        ([TOO_LARGE], 409),
        ([TOO_LARGE, NO_DICOM], 409),
    ],
)
def test_to_come_again_is_asked_only_where_it_can_help(
    outcomes: list[Stored | Failed], status: int
) -> None:
    assert status_of(outcomes) == status
