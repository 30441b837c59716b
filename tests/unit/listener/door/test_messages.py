"""Messages of receivers and the main process arrive as they were sent, whatever the version."""

from __future__ import annotations

import marshal
from typing import Any, get_args

import pytest
from structlog.testing import capture_logs

from services.common.header_scan import Scanned
from services.common.headers import scheme
from services.listener.door.admission import AdmissionRules, PeerRule
from services.listener.door.config import DoorConfig
from services.listener.door.encoding import Plain, decode, encode
from services.listener.door.messages import (
    Answer,
    AssociationClosed,
    AssociationMalformed,
    AssociationOpened,
    AssociationRejected,
    AssociationsAborted,
    Begin,
    ConnectionFailed,
    Ended,
    Failed,
    InstanceRefused,
    Message,
    Ping,
    Pong,
    Question,
    Ready,
    RequestEnded,
    Stop,
    Stored,
    TlsFilesChanged,
    TlsRefused,
    Unknown,
)
from services.listener.door.part10 import FileMeta
from services.listener.door.spool import SpooledFile
from services.listener.receiving.door_events import DoorEvents

_STORED = Stored(
    file=SpooledFile("/spool/1.dcm", FileMeta("1.2", "1.3", "1.4", "CT1"), 10, "abc-10", 1.5),
    study_uid="1.5",
    series_uid="1.6",
    scanned=Scanned({"Modality": "CT", "ImageType": ["A", "B"]}, 100, 50, False, True),
    peer="ct",
    priority="high",
    association="door-0.1",
)
_CONFIG = DoorConfig(
    admission=AdmissionRules("AXIAL", (PeerRule("ct", ("CT1",)),)),
    scheme=scheme(),
    contexts={"1.2": ("1.3",)},
    spool="/spool",
    watermark_bytes=1,
    max_pdu_bytes=2,
    max_instance_bytes=3,
    request_timeout_s=4.0,
    idle_timeout_s=5.0,
)
_MESSAGES: tuple[Message, ...] = (
    _STORED,
    InstanceRefused("A700", "full", "hash", "CT1"),
    AssociationOpened("ct", "CT1", "10.0.0.1", "ab"),
    AssociationClosed(
        "door-0.1", "ct", "CT1", "10.0.0.1", True, 2, 9, 0.5, "released", {"1.5": {"1.2": 2}}, True
    ),
    AssociationRejected("local_limit_exceeded", "AXIAL", "CT1", "10.0.0.1"),
    AssociationMalformed("no", "CT1", "10.0.0.1"),
    AssociationsAborted(3),
    ConnectionFailed("OSError"),
    TlsRefused("closed", "no", "10.0.0.1"),
    TlsFilesChanged("no PEM"),
    RequestEnded("stow.1", False),
    Question(1, "1.3", "abc-10", "1.4"),
    Pong(1),
    Ready(),
    Failed("no spool"),
    Ended(),
    Begin(_CONFIG),
    Ping(1),
    Answer(1, None),
    Stop(2.0),
    Unknown("Sung"),
)


def _sent(message: Message) -> Plain:
    written: Any = encode(message)
    return marshal.loads(marshal.dumps(written))


def test_every_message_arrives_as_it_was_sent() -> None:
    assert {type(message) for message in _MESSAGES} == set(get_args(Message))
    for message in _MESSAGES:
        assert decode(_sent(message)) == message


def test_fields_of_a_newer_version_are_left_out_and_those_of_an_older_one_have_defaults() -> None:
    name, values = _sent(AssociationOpened("ct", "CT1", "10.0.0.1", "ab"))
    newer = {**values, "country": "CH"}
    older = {key: value for key, value in values.items() if key != "certificate_sha256"}
    assert decode((name, newer)) == AssociationOpened("ct", "CT1", "10.0.0.1", "ab")
    assert decode((name, older)) == AssociationOpened("ct", "CT1", "10.0.0.1", "")


@pytest.mark.parametrize(
    "plain",
    [
        ("Sung", {"song": 1}),
        ("Stored", {"file": None}),
        ("Stored", {**encode(_STORED)[1], "file": ("/spool/1.dcm",)}),
        ("Begin", {"config": {}}),
        ("Pong", {}),
    ],
)
def test_what_cannot_be_read_is_unknown_and_logged_and_ends_nothing(plain: Plain) -> None:
    message = decode(plain)
    assert isinstance(message, Unknown)
    with capture_logs() as logged:
        DoorEvents("AXIAL", lambda: 0).note(message)
    assert [(line["event"], line["message"]) for line in logged] == [
        ("receiver_message_unknown", plain[0])
    ]
