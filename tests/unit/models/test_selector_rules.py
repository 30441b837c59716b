"""Selectors decide by every condition, and say so in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.multival import MultiValue

from models.manifest import Condition, evaluate, load_manifest, rank
from models.manifest.attributes import SELECTOR_ATTRIBUTES
from models.manifest.roles import Preference

CATALOGUE = Path(__file__).resolve().parents[3] / "models" / "catalogue"
IMAGE = load_manifest(CATALOGUE / "brain-extraction").roles["image"]


def passes(**attributes: object) -> bool:
    return all(outcome.passed for outcome in evaluate(IMAGE.selector, attributes))


T1 = {"Modality": "MR", "SeriesDescription": "T1 MPRAGE SAG", "NumberOfInstances": 176}


@pytest.mark.parametrize(
    "attributes",
    [
        T1,
        T1 | {"BodyPartExamined": "HEAD"},
        T1 | {"BodyPartExamined": ""},
        T1 | {"SeriesDescription": "t1_mprage_sag_p2_iso", "ImageType": ["ORIGINAL", "PRIMARY"]},
        T1 | {"SeriesDescription": "Ax 3D T1 BRAVO", "Manufacturer": "GE MEDICAL SYSTEMS"},
        T1 | {"SeriesDescription": "FSPGR 3D", "ScanningSequence": "GR"},
        T1 | {"SeriesDescription": "sT1W_3D_TFE", "ScanningSequence": ["GR"]},
        T1 | {"SeriesDescription": "MP2RAGE_UNI", "ImageType": "ORIGINAL\\PRIMARY\\M\\ND"},
        T1 | {"BodyPartExamined": "Head"},
        T1 | {"SeriesDescription": "ADNI_Sag3D MPRAGE", "Modality": "mr"},
        T1 | {"SeriesDescription": "AX_T1"},
        T1 | {"SeriesDescription": "Sag3DT1"},
        T1 | {"SeriesDescription": "MP-RAGE"},
        T1 | {"SeriesDescription": "T1W_TSE_Sno_CSno_CSAIno", "AcquisitionContrast": "T1"},
    ],
)
def test_t1_heads_are_wanted(attributes: dict[str, object]) -> None:
    assert passes(**attributes)


@pytest.mark.parametrize(
    "change",
    [
        {"Modality": "CT"},
        {"Modality": None},
        {"BodyPartExamined": "KNEE"},
        {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
        {"ImageType": ["DERIVED", "SECONDARY", "MPR"]},
        {"ImageType": ["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE"]},
        {"ScanningSequence": ["EP", "GR"]},
        {"SeriesDescription": "localizer T1"},
        {"SeriesDescription": "gre_field_mapping"},
        {"SeriesDescription": "Ax T2 FLAIR"},
        {"SeriesDescription": "pcasl_3d"},
        {"SeriesDescription": ""},
        {"SeriesDescription": "REST1"},
        {"SeriesDescription": "REST1 w SMS PF7-8"},
        {"SeriesDescription": "TEST1"},
        {"SeriesDescription": "CEST1"},
        {"SeriesDescription": "T1_map"},
        {"SeriesDescription": "T1Map"},
        {"SeriesDescription": "tfl_b1map"},
        {"SeriesDescription": "T1rho"},
        {"SeriesDescription": "mp2rage_T1_Images"},
        {"SeriesDescription": "Spine T12"},
        {"SeriesDescription": "AxT2"},
        {"ScanningSequence": "ep"},
        {"AcquisitionContrast": "DIFFUSION"},
    ],
)
def test_other_series_are_not_wanted(change: dict[str, object]) -> None:
    assert not passes(**(T1 | change))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("philips-mr-mprage-classic", True),
        ("ge-ct-head-tilted", False),
        ("ge-mr-epi-4d", False),
        ("philips-ct-localizer", False),
        ("philips-mr-fieldmap-classic", False),
        ("philips-mr-asl-source-enhanced", False),
        ("siemens-mr-mosaic-axial", False),
        ("siemens-mr-xa30-classic", False),
        ("siemens-mr-xa10-rest1-enhanced", False),
        ("canon-mr-dwi-classic-first-uid-last", False),
        ("uih-mr-dti-vframe", False),
    ],
)
def test_real_scans_are_told_apart(scan: Any, name: str, wanted: bool) -> None:
    files = sorted(scan(name).glob("*.dcm"))
    header = pydicom.dcmread(files[0], stop_before_pixels=True)
    attributes: dict[str, object] = {"NumberOfInstances": len(files)}
    for keyword in set(SELECTOR_ATTRIBUTES) - {"NumberOfInstances"}:
        value = header.get(keyword)
        attributes[keyword] = list(value) if isinstance(value, MultiValue) else value
    assert passes(**attributes) is wanted


def test_a_name_is_not_mistaken_for_the_word_that_was_met() -> None:
    outcomes = evaluate(IMAGE.selector, T1 | {"SeriesDescription": "T1_map SAG"})
    (failed,) = (outcome for outcome in outcomes if not outcome.passed)
    assert 'the model takes nothing that is called "map"' in failed.sentence


def condition(**parts: Any) -> Condition:
    return Condition.model_validate({"why": "the reason", **parts})


def outcome_of(rule: Condition, value: object) -> bool:
    return evaluate([rule], {rule.attribute: value})[0].passed


@pytest.mark.parametrize(
    ("parts", "value", "passed"),
    [
        ({"attribute": "EchoTime", "at_most": 10.0}, "2.93", True),
        ({"attribute": "EchoTime", "at_most": 10.0}, "30", False),
        ({"attribute": "EchoTime", "at_least": 1.0, "at_most": 10.0}, 0.5, False),
        ({"attribute": "EchoTime", "at_most": 10.0}, "not a number", False),
        ({"attribute": "EchoTime", "at_most": 10.0}, None, False),
        ({"attribute": "EchoTime", "at_most": 10.0, "absent_ok": True}, None, True),
        ({"attribute": "EchoTime", "none_of": [0.0]}, "0", False),
        ({"attribute": "SamplesPerPixel", "any_of": [1.0]}, 1, True),
        ({"attribute": "ImageType", "any_of": ["M"]}, ["ORIGINAL", "PRIMARY", "M"], True),
        ({"attribute": "ImageType", "any_of": ["M"]}, "ORIGINAL\\PRIMARY\\MM", False),
        ({"attribute": "ImageType", "none_of": ["M"]}, [], True),
        ({"attribute": "ImageType", "none_of": ["M"], "absent_ok": False}, [], False),
        ({"attribute": "Manufacturer", "any_of": ["siemens"]}, "SIEMENS ", True),
        ({"attribute": "Modality", "any_of": ["MR"]}, " MR ", True),
        ({"attribute": "Modality", "any_of": ["MR"]}, "mr", True),
        ({"attribute": "BodyPartExamined", "none_of": ["KNEE"]}, "Knee", False),
        ({"attribute": "SeriesDescription", "words_match": r"\bt1"}, "AX_T1 (+C)", True),
        ({"attribute": "SeriesDescription", "words_match": r"\bt1"}, "REST1", False),
        ({"attribute": "SeriesDescription", "words_match": r"\bt1"}, None, False),
        ({"attribute": "SeriesDescription", "words_do_not_match": "field map"}, "Field-Map", False),
        ({"attribute": "SeriesDescription", "words_do_not_match": "field map"}, None, True),
        ({"attribute": "SeriesDescription", "matches": "^t1"}, "T1 tra", True),
        ({"attribute": "SeriesDescription", "not_matches": "t2"}, "T2 tra", False),
    ],
)
def test_each_form_decides(parts: dict[str, Any], value: object, passed: bool) -> None:
    assert outcome_of(condition(**parts), value) is passed


def test_all_conditions_are_decided_after_the_first_failure() -> None:
    rules = [
        condition(attribute="Modality", any_of=["MR"]),
        condition(attribute="BodyPartExamined", any_of=["HEAD"]),
    ]
    outcomes = evaluate(rules, {"Modality": "CT", "BodyPartExamined": "HEAD"})
    assert [outcome.passed for outcome in outcomes] == [False, True]


def test_a_sentence_names_what_is_found_and_wanted() -> None:
    rule = condition(attribute="BodyPartExamined", any_of=["HEAD", "BRAIN"])
    outcome = evaluate([rule], {"BodyPartExamined": "KNEE"})[0]
    assert outcome.found == "KNEE"
    assert outcome.expectation == "HEAD or BRAIN"
    assert outcome.sentence == (
        "Body part examined is KNEE, but the model wants HEAD or BRAIN (the reason)."
    )


def test_a_pattern_is_spoken_in_words_where_the_manifest_gives_them() -> None:
    rule = condition(attribute="SeriesDescription", matches="t1|mprage", wants="a T1 series")
    outcome = evaluate([rule], {"SeriesDescription": "flair"})[0]
    assert outcome.sentence == (
        "Series description is flair, but the model wants a T1 series (the reason)."
    )


def test_an_unwanted_value_is_named() -> None:
    rule = condition(attribute="ImageType", none_of=["MOSAIC"])
    outcome = evaluate([rule], {"ImageType": ["ORIGINAL", "MOSAIC"]})[0]
    assert outcome.sentence == (
        "Image type is ORIGINAL, MOSAIC, and the model does not take MOSAIC (the reason)."
    )


def test_preferences_order_series() -> None:
    series = [
        {"MRAcquisitionType": "2D", "NumberOfInstances": 300},
        {"MRAcquisitionType": "3D", "NumberOfInstances": 150},
        {"MRAcquisitionType": "3D", "NumberOfInstances": 170},
        {"NumberOfInstances": 999},
    ]
    best_first = sorted(series, key=lambda attributes: rank(IMAGE.prefer, attributes))
    assert [one["NumberOfInstances"] for one in best_first] == [170, 150, 300, 999]


def test_a_missing_number_comes_last() -> None:
    shortest = [Preference(attribute="EchoTime", order="lowest", why="less dephasing")]
    assert rank(shortest, {"EchoTime": "9"}) < rank(shortest, {})
    assert rank(shortest, {"EchoTime": "3"}) < rank(shortest, {"EchoTime": "9"})
