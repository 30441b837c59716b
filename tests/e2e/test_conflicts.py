"""Other bytes under known UIDs on a whole stack: told, decided, and lost files that come again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from services.common.identity import derived_uid
from tests.builders.series import edit
from tests.e2e.head_studies import study_uid, write_head
from tests.e2e.stack import SEG, StackUnderTest


def _reasons(study: dict[str, Any]) -> list[str]:
    return sorted(fate["reason"] for fate in study["fate"])


def test_the_right_patient_after_a_mix_up_supersedes_the_wrong_ones_result(
    stack: StackUnderTest, tmp_path: Path
) -> None:
    uid = study_uid("mix-up")
    files = write_head(tmp_path, "mix-up")
    stack.send_until_accepted(tmp_path)
    stack.wait_until_done(uid)
    for file in files:
        edit(file, PatientName="Recht^Ist", PatientID="RECHT-1")
    stack.send_until_accepted(tmp_path)
    study = stack.wait(uid, lambda s: s["conflicts"] == len(files), "tell of the conflicts")
    assert study["revision"] == 1
    (fate,) = study["fate"]
    assert "came again with another patient" in fate["conflicts"][0]
    decided = stack.client.post("/api/v1/conflicts/resolve", uid=uid, keep="latest")
    assert decided["count"] == len(files)
    stack.wait(
        uid,
        lambda s: (
            (s["state"], s["conflicts"]) == ("done", 0)
            and s["jobs"][0]["revision"] == s["revision"] > 1
        ),
        "have the right patient's result",
    )
    patients = [segmentation.PatientID for segmentation in stack.in_pacs(uid, SEG)]
    assert "RECHT-1" in patients


def test_a_copy_under_another_study_is_listed_and_says_why_nothing_came_of_it(
    stack: StackUnderTest, tmp_path: Path
) -> None:
    uid, copy = study_uid("original"), derived_uid("e2e", "copy")
    files = write_head(tmp_path, "original")
    stack.send_until_accepted(tmp_path)
    stack.wait_until_done(uid)
    for file in files:
        edit(file, StudyInstanceUID=copy, SeriesInstanceUID=derived_uid("e2e", "copy", "t1"))
    stack.send_until_accepted(tmp_path)
    study = stack.wait(copy, lambda s: s["conflicts"] == len(files), "be known")
    assert (study["state"], _reasons(study)) == ("done", ["known_elsewhere"])
    assert uid in study["fate"][0]["sentence"]


def test_two_slices_under_one_uid_have_their_series_refused_by_name(
    stack: StackUnderTest, tmp_path: Path
) -> None:
    uid = study_uid("doubled")
    files = write_head(tmp_path, "doubled")
    edit(files[-1], SOPInstanceUID=derived_uid("e2e", "doubled", "one"))
    edit(files[-2], SOPInstanceUID=derived_uid("e2e", "doubled", "one"))
    stack.send_until_accepted(tmp_path)
    study = stack.wait_until_done(uid)
    assert _reasons(study) == ["conflicting_images"]
    assert not stack.in_pacs(uid, SEG)


def test_a_study_whose_files_were_lost_goes_on_when_it_is_sent_again(
    stack: StackUnderTest, tmp_path: Path
) -> None:
    uid = study_uid("lost")
    files = write_head(tmp_path, "lost")
    stack.crash_at("orchestrator.select.done")
    stack.send_until_accepted(tmp_path)
    store = stack.settings.data_dir / "store" / "studies" / uid
    stack.wait(uid, lambda s: s["revision"] == 1, "be frozen")
    stack.wait_for_crash()
    lost = sorted(store.rglob("*.dcm"))[::7]
    for file in lost:
        file.unlink()
    study = stack.wait_until_done(uid)
    assert _reasons(study) == ["source_missing"], study
    stack.send_until_accepted(tmp_path)
    study = stack.wait_until_done(uid, revision=2)
    assert _reasons(study) == ["segmented"]
    assert len(sorted(store.rglob("*.dcm"))) == len(files)
