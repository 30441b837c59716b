"""Names, numbers and texts of results."""

from __future__ import annotations

import datetime as dt

from pydicom.dataset import Dataset

from services.common.identity import is_strict_uid
from services.reporting.kinds.registry import KINDS
from services.reporting.kinds.report import SR
from services.reporting.kinds.segmentation import SEG
from services.reporting.kinds.segmentation.names import dimension_organization_uid
from services.reporting.objects.forms import PLAIN, Form
from services.reporting.objects.naming import content_label, device_uid, tracking_uid
from services.reporting.objects.texts import ascii_text, datetime_text, local_time
from services.reporting.orders import forms_wanted
from tests.builders.forms import form_of
from tests.builders.peers import destination
from tests.builders.reporting import brain_manifest


def test_uids_differ_and_are_uids() -> None:
    job = "2.25.1"
    uids = [
        maker(job, form)
        for names in (SEG, SR)
        for maker in (names.sop_instance_uid, names.series_uid)
        for form in (PLAIN, form_of("keep_empty_frames"))
    ] + [tracking_uid(job, 1), tracking_uid(job, 2), device_uid("a"), device_uid("b"),
         dimension_organization_uid(job, PLAIN)]  # fmt: skip
    assert len(set(uids)) == len(uids)
    assert all(is_strict_uid(uid) for uid in uids)


def test_air_20_a_new_job_has_new_tracking_uids() -> None:
    assert tracking_uid("2.25.1", 1) == tracking_uid("2.25.1", 1)
    assert tracking_uid("2.25.1", 1) != tracking_uid("2.25.2", 1)


def test_the_plain_form_is_always_made_and_every_other_once() -> None:
    report, segmentation = KINDS["SR"], KINDS["SEG"]
    assert forms_wanted(report, KINDS, []) == (PLAIN,)
    viewer = destination(104, "viewer", key_slice_regions=True)
    old = destination(104, "old", keep_empty_frames=True)
    wanted = forms_wanted(report, KINDS, [viewer, old, viewer])
    assert set(wanted) == {PLAIN, form_of("key_slice"), form_of("keep_empty_frames")}
    assert len(forms_wanted(segmentation, KINDS, [viewer, old])) == 2


def test_form_names_fit_the_table() -> None:
    both = ("keep_empty_frames", "key_slice")
    for options in ((), both[:1], both[1:], both):
        for follows in ("", "2.25.340282366920938463463374607431768211455"):
            form = Form(frozenset(options), follows)
            assert len(SR.form_name(form)) <= 32
            assert SEG.form_name(form) in ("", "keep_empty_frames")


def test_a_form_that_names_a_predecessor_is_an_object_of_its_own() -> None:
    forms = [PLAIN, Form(follows="2.25.1"), Form(follows="2.25.2")]
    assert len({SR.sop_instance_uid("2.25.9", form) for form in forms}) == 3
    assert len({SR.form_name(form) for form in forms}) == 3
    assert len({SEG.sop_instance_uid("2.25.9", form) for form in forms}) == 1


def test_content_label_is_a_code_string() -> None:
    manifest = brain_manifest()
    identity = manifest.identity.model_copy(update={"name": "lung-nodules-in-chest-ct"})
    label = content_label(manifest.model_copy(update={"identity": identity}))
    assert label == "LUNG_NODULES_IN_"
    assert len(label) <= 16


def test_text_is_ascii_and_has_no_value_separators() -> None:
    assert ascii_text("Größe\\  Übermaß", 64) == "Grosse/ Ubermass"
    assert ascii_text("x" * 100, 16) == "x" * 16


def test_times_have_their_offset() -> None:
    moment = dt.datetime(2024, 1, 31, 23, 30, tzinfo=dt.timezone(dt.timedelta(hours=-5)))
    assert datetime_text(moment) == "20240131233000.000000-0500"
    source = Dataset()
    assert local_time(source, moment) == moment
    source.TimezoneOffsetFromUTC = "+0530"
    assert datetime_text(local_time(source, moment)) == "20240201100000.000000+0530"
