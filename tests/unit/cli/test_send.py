"""`axial send` and `axial echo`: what is sent, what a person reads, what a machine reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from services.cli.calling import Receiver
from services.cli.commands.send import _usual  # pyright: ignore[reportPrivateUsage]
from services.cli.tree import app
from services.dimse import pdu
from tests.builders.acceptor import Caller, acceptor
from tests.builders.certificates import Authority
from tests.builders.series import sound_series


def run(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def where(port: int) -> list[str]:
    return ["--host", "127.0.0.1", "--port", str(port), "--called", "PACS"]


def accepts_all(caller: Caller) -> None:
    caller.accept()
    caller.store_all()


def refuses(caller: Caller) -> None:
    caller.accept()
    for status in (0x0000, 0xB007, 0xA700):
        command, context_id, _ = caller.read_request()
        caller.answer(command, context_id, status, "because")
    caller.store_all()


def test_a_folder_is_sent_and_what_to_do_next_is_said(tmp_path: Path) -> None:
    files = sound_series(tmp_path / "dicom")
    (tmp_path / "dicom" / "notes.txt").write_text("not DICOM")
    with acceptor(accepts_all) as port:
        result = run("send", tmp_path / "dicom", *where(port))
    assert result.exit_code == 0, result.output
    assert f"{len(files)} instance(s) sent" in result.output
    assert "1 other file(s) left out." in result.output
    assert "axial status 2.25." in result.output


def test_several_paths_are_sent_and_no_file_twice(tmp_path: Path) -> None:
    files = sound_series(tmp_path / "dicom")
    with acceptor(accepts_all) as port:
        result = run("send", tmp_path / "dicom", files[0], *where(port), "--json")
    assert json.loads(result.output)["sent"] == len(files)


def test_statuses_are_counted_and_what_was_not_stored_is_named(tmp_path: Path) -> None:
    files = sorted(sound_series(tmp_path / "dicom"))
    with acceptor(refuses) as port:
        result = run("send", tmp_path / "dicom", *where(port))
    assert result.exit_code == 1
    assert f"{len(files) - 1} instance(s) sent" in result.output
    assert "1 x 0xA700 out of resources" in result.output
    assert f"not sent: {files[2]}: status 0xA700: out of resources (because)\n" in result.output


def test_for_machines_all_is_there(tmp_path: Path) -> None:
    files = sorted(sound_series(tmp_path / "dicom"))
    with acceptor(refuses) as port:
        result = run("send", tmp_path / "dicom", *where(port), "--json")
    told = json.loads(result.output)
    assert result.exit_code == 1
    assert told["failed"] == [
        {"file": str(files[2]), "problem": "status 0xA700: out of resources (because)"}
    ]
    assert [remark["file"] for remark in told["remarks"]] == [str(files[1])]
    assert told["statuses"] == [
        {"status": "0x0000", "meaning": "success", "count": len(files) - 2},
        {"status": "0xA700", "meaning": "out of resources", "count": 1},
        {
            "status": "0xB007",
            "meaning": "warning: stored, data set does not match SOP class",
            "count": 1,
        },
    ]
    assert told["associations"] == 1
    assert told["bytes"] > 0


def test_a_rejection_is_one_line_with_the_reason(tmp_path: Path) -> None:
    sound_series(tmp_path / "dicom")

    def rejects(caller: Caller) -> None:
        caller.read()
        caller.send(pdu.associate_reject(1, 1, 3))
        caller.read()

    with acceptor(rejects) as port:
        result = run("send", tmp_path / "dicom", *where(port))
    assert result.exit_code == 1
    assert "rejected the association permanently: calling AE title not recognised" in result.output


def test_nothing_to_send_is_said(tmp_path: Path) -> None:
    result = run("send", tmp_path, *where(1))
    assert (result.exit_code, "holds no DICOM file" in result.output) == (1, True)
    result = run("send", tmp_path / "nowhere", *where(1))
    assert (result.exit_code, "does not exist" in result.output) == (1, True)


def test_options_that_cannot_be_meant_are_refused_before_anything_is_sent(tmp_path: Path) -> None:
    sound_series(tmp_path / "dicom")
    authority = Authority(tmp_path / "authority")
    for options, words in (
        (["--tls"], "--tls needs --tls-trust"),
        (["--tls-trust", authority.certificate], "without --tls"),
        (["--tls", "--tls-trust", tmp_path / "none.pem"], "cannot be used"),
        (["--tls", "--tls-trust", authority.certificate, "--tls-profile", "x"], "none of"),
        (["--calling", "SEVENTEEN-LETTERS"], "is no AE title"),
    ):
        result = run("send", tmp_path / "dicom", *where(1), *options)
        assert result.exit_code == 1
        assert words in result.output.replace("\n", " "), result.output


def test_echo_says_whether_somebody_answers() -> None:
    with acceptor(accepts_all) as port:
        result = run("echo", *where(port))
    assert (result.exit_code, "answers: status 0x0000" in result.output) == (0, True)
    with acceptor(accepts_all) as port:
        result = run("echo", *where(port), "--json")
    assert json.loads(result.output) == {"status": 0, "implementation": "SCRIPT"}


def test_help_has_examples() -> None:
    for command in ("send", "echo"):
        assert "Examples:" in run(command, "--help").output


def test_our_own_listener_gets_many_files_over_several_associations() -> None:
    assert _usual(Receiver(), 100) == 4
    assert _usual(Receiver(), 99) == 1
    assert _usual(Receiver(host="pacs"), 1000) == 1
    assert _usual(Receiver(called="PACS"), 1000) == 1
