"""Which volume of a series that holds several a model takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from models.manifest import Condition, Manifest
from models.manifest.roles import Preference
from services.orchestrator.revision import SeriesOfRevision
from services.orchestrator.selection import select_series, selection_digest
from tests.builders import broken_series
from tests.builders.revisions import series_of
from tests.builders.selections import chosen_in
from tests.builders.series import edit, sound_series

ANY_MR = Condition(attribute="Modality", any_of=("MR",), why="test")
FIRST_ECHO = Condition(attribute="EchoTime", at_most=5.0, why="short echoes only")


def wanting(manifest: Manifest, *conditions: Condition, **gate: Any) -> Manifest:
    """The manifest with one role that wants what `conditions` say, of any size."""
    (name, role), *_ = manifest.roles.items()
    open_gate = role.gate.model_copy(update={"min_slices": 1, "min_extent_mm": 0.0, **gate})
    update = {"selector": (ANY_MR, *conditions), "prefer": (), "gate": open_gate}
    return manifest.model_copy(update={"roles": {name: role.model_copy(update=update)}})


@pytest.fixture
def echoes(tmp_path: Path) -> SeriesOfRevision:
    return series_of(broken_series.several_echoes(tmp_path), Modality="MR")


def test_the_volume_that_passes_the_selector_is_chosen(
    manifest: Manifest, echoes: SeriesOfRevision
) -> None:
    (chosen,) = chosen_in(select_series(wanting(manifest, FIRST_ECHO), [echoes]))
    assert chosen.attributes["EchoTime"] == "4.6"
    assert chosen.geometry.shape == (7, 12, 10)


@pytest.mark.parametrize("absent_ok", [True, False])
def test_no_volume_inherits_what_another_says(
    manifest: Manifest, tmp_path: Path, absent_ok: bool
) -> None:
    """The first instance by UID is of the volume that is not wanted."""
    files = broken_series.several_echoes(tmp_path)
    for n, file in enumerate(files):
        edit(file, SOPInstanceUID=f"2.25.{n + 1}", DiffusionBValue=0.0 if n < 7 else 1500.0)
    series = series_of(files, Modality="MR")
    strong = Condition(
        attribute="DiffusionBValue", at_least=500.0, absent_ok=absent_ok, why="diffusion only"
    )
    (chosen,) = chosen_in(select_series(wanting(manifest, strong), [series]))
    assert chosen.attributes["DiffusionBValue"] == "1500.0"
    assert {p.sop_instance_uid for p in chosen.geometry.planes} == {
        f"2.25.{n}" for n in range(8, 15)
    }


def test_a_condition_holds_for_every_image_of_a_volume(manifest: Manifest, tmp_path: Path) -> None:
    files = sound_series(tmp_path)
    edit(files[-1], ImageType=["DERIVED", "PRIMARY", "OTHER"])
    original = Condition(attribute="ImageType", none_of=("DERIVED",), why="originals only")
    series = series_of(files, Modality="MR")
    verdict = select_series(wanting(manifest, original), [series]).verdicts[series.series_uid]
    assert (verdict.reason, verdict.values["attribute"]) == ("attribute_mismatch", "ImageType")


def test_two_volumes_that_fit_equally_are_refused_with_what_tells_them_apart(
    manifest: Manifest, echoes: SeriesOfRevision
) -> None:
    refusal = select_series(wanting(manifest), [echoes]).verdicts[echoes.series_uid]
    assert refusal.reason == "several_volumes_fit"
    assert (refusal.values["fitting"], refusal.values["volumes"]) == (2, 2)
    assert refusal.values["attribute"] == "EchoTime"


def test_a_preference_decides_between_volumes(manifest: Manifest, echoes: SeriesOfRevision) -> None:
    wants = wanting(manifest)
    (name, role), *_ = wants.roles.items()
    longest = Preference(attribute="EchoTime", order="highest", why="test")
    wants = wants.model_copy(
        update={"roles": {name: role.model_copy(update={"prefer": (longest,)})}}
    )
    (chosen,) = chosen_in(select_series(wants, [echoes]))
    assert chosen.attributes["EchoTime"] == "9.2"


def test_a_model_that_accepts_it_gets_the_first_volume(manifest: Manifest, tmp_path: Path) -> None:
    series = series_of(broken_series.time_series(tmp_path), Modality="MR")
    (role,) = manifest.roles.values()
    accepts = role.gate.accepts.model_copy(update={"several_volumes": "first"})
    (chosen,) = chosen_in(select_series(wanting(manifest, accepts=accepts), [series]))
    numbers = {
        header.text("InstanceNumber")
        for header in series.headers
        if header.sop_instance_uid in {p.sop_instance_uid for p in chosen.geometry.planes}
    }
    assert numbers == {str(n) for n in range(1, 8)}


def test_no_volume_that_fits_is_an_attribute_mismatch(
    manifest: Manifest, echoes: SeriesOfRevision
) -> None:
    longer = Condition(attribute="EchoTime", at_least=50.0, why="test")
    verdict = select_series(wanting(manifest, longer), [echoes]).verdicts[echoes.series_uid]
    assert (verdict.reason, verdict.values["attribute"]) == ("attribute_mismatch", "EchoTime")


def test_a_wanted_volume_that_lacks_a_slice_is_incomplete(
    manifest: Manifest, tmp_path: Path
) -> None:
    files = broken_series.several_echoes(tmp_path)
    series = series_of(files[1:], Modality="MR")  # the first echo lacks its first slice
    verdict = select_series(wanting(manifest, FIRST_ECHO), [series]).verdicts[series.series_uid]
    assert verdict.reason == "incomplete_volume"
    assert (verdict.values["slices"], verdict.values["expected"]) == (6, 7)


@pytest.mark.parametrize("left", [2, 3, 6])
def test_a_wanted_volume_that_lacks_half_of_its_slices_is_incomplete(
    manifest: Manifest, tmp_path: Path, left: int
) -> None:
    files = broken_series.several_echoes(tmp_path)
    series = series_of(files[: 7 + left], Modality="MR")
    second = Condition(attribute="EchoTime", at_least=5.0, why="test")
    verdict = select_series(wanting(manifest, second), [series]).verdicts[series.series_uid]
    assert verdict.reason == "incomplete_volume"
    assert (verdict.values["slices"], verdict.values["expected"]) == (left, 7)
    assert "slices: images 1" in verdict.sentence
    # The other echo is whole, and can be had.
    (chosen,) = chosen_in(select_series(wanting(manifest, FIRST_ECHO), [series]))
    assert chosen.geometry.shape == (7, 12, 10)


def test_volumes_that_nothing_tells_apart_are_refused_as_before(
    manifest: Manifest, tmp_path: Path
) -> None:
    series = series_of(broken_series.incomplete_time_series(tmp_path), Modality="MR")
    verdict = select_series(wanting(manifest), [series]).verdicts[series.series_uid]
    assert verdict.reason == "several_volumes"


def test_two_volumes_of_one_series_are_two_inputs(
    manifest: Manifest, echoes: SeriesOfRevision
) -> None:
    second = Condition(attribute="EchoTime", at_least=5.0, why="test")
    (one,) = select_series(wanting(manifest, FIRST_ECHO), [echoes]).selections
    (other,) = select_series(wanting(manifest, second), [echoes]).selections
    assert selection_digest(one) != selection_digest(other)
