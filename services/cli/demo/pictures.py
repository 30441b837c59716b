"""Results as files: SEG and SR as the PACS holds them, and the montage."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from services.cli.demo.montage import Overlay, draw_montage
from services.cli.demo.received import ReceivedObject, find_results, read_segments
from services.cli.output import CommandError
from services.common.fates import Refusal
from services.common.headers import read_registration
from services.dimse.files import find_instances
from services.imaging import GeometryLimits, Volume, read_series


def write_pictures(
    studies: list[dict[str, Any]], source: Path, pacs: Path, results: Path
) -> dict[str, list[Path]]:
    """Copies every job's objects out of the PACS and draws its montage.

    Returns:
        a title per job -> its files.

    Raises:
        CommandError: the PACS does not hold what it acknowledged.
    """
    written: dict[str, list[Path]] = {}
    for study in studies:
        for job in study["jobs"]:
            if job["state"] != "processed" or not job["results"]:
                continue
            wanted = {item["sop_instance_uid"] for item in job["results"]}
            found = find_results(pacs, wanted)
            if {str(item.dataset.SOPInstanceUID) for item in found} != wanted:
                raise CommandError(f"The PACS holds {len(found)} of {len(wanted)} results.")
            files = _copy(found, job["model"], results)
            segs = [item for item in found if item.kind == "SEG"]
            if segs:
                files.append(_montage(job, segs[0], source, results))
            written[f"{job['model']} {job['model_version']}, as the PACS received it:"] = files
    return written


def _copy(found: list[ReceivedObject], model: str, results: Path) -> list[Path]:
    results.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    for item in found:
        target = results / f"{model}.{item.kind.lower()}.dcm"
        shutil.copyfile(item.file, target)
        files.append(target)
    return files


def _montage(job: dict[str, Any], seg: ReceivedObject, source: Path, results: Path) -> Path:
    series_uid = next(iter(job["series"].values()))
    volume = _source_volume(source, series_uid)
    overlays = [
        Overlay(segment.label, segment.colour, _stacked(volume, segment.masks))
        for segment in read_segments(seg.dataset)
    ]
    measured = ", ".join(
        f"{item['segment_label']} {item['value']:.1f} {item['unit']}"
        for item in job["measurements"]
        if item["value"] is not None
    )
    lines = [
        f"{job['model']} {job['model_version']}",
        f"digest {job['model_digest'][:12]}",
        f"series {series_uid[-12:]}",
    ]
    file = results / f"{job['model']}.montage.png"
    draw_montage(volume, overlays, measured, lines, file)
    return file


def _source_volume(source: Path, series_uid: str) -> Volume:
    files: list[Path] = []
    for item in find_instances(source):
        with item.file.open("rb") as file:
            if read_registration(file).header.series_uid == series_uid:
                files.append(item.file)
    volume = read_series(files, GeometryLimits(model="montage"))
    if isinstance(volume, Refusal):
        raise CommandError(f"Series {series_uid} cannot be drawn: {volume.sentence}")
    return volume


def _stacked(volume: Volume, masks: dict[str, npt.NDArray[np.bool_]]) -> npt.NDArray[np.bool_]:
    stacked = np.zeros(volume.array.shape, bool)
    for plane, uid in enumerate(volume.instances):
        if uid in masks:
            stacked[plane] = masks[uid]
    return stacked
