"""A catalogue with one real model, and builds that are said to be served; nothing is built."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Engine

from models.manifest import ServedBuild
from services.common.manifests import StoredManifests
from services.common.settings import Settings, TritonSettings
from services.common.store import StudyStore
from services.orchestrator.deployments import note_answer, read_deployments, register
from services.orchestrator.jobs import Measured
from services.orchestrator.stage_context import StageContext

CATALOGUE = Path(__file__).parents[2] / "models" / "catalogue"
MODEL = "brain-extraction"
DIGEST = "d" * 64


def served_build(
    folder: Path, model: str = MODEL, digest: str = DIGEST, requested_at: str = "2026-01-15"
) -> ServedBuild:
    """A build as the builder says that it wants it served."""
    return ServedBuild(model, digest, "1.0.0", "f32", "2026-01-15", requested_at, folder)


def serve(context: StageContext, model: str = MODEL, digest: str = DIGEST) -> None:
    """Has a build of a model of the context's catalogue serve, beside those that do."""
    text = (context.settings.catalogue_dir / model / "model.yaml").read_text(encoding="utf-8")
    context.manifests.put(digest, text)
    serve_only(context, [*_served(context, but=model), served_build(Path(), model, digest)])


def stop_serving(context: StageContext, model: str = MODEL) -> None:
    """Has no build of a model serve any more."""
    serve_only(context, _served(context, but=model))


def serve_only(context: StageContext, builds: Sequence[ServedBuild]) -> None:
    """Has these builds serve: they are registered, and have answered."""
    target = context.settings.triton.target
    register(context.engine, target, builds)
    wanted = {build.digest for build in builds}
    for deployment in read_deployments(context.engine, target):
        if deployment.digest in wanted:
            note_answer(context.engine, deployment)


def stage_context(engine: Engine, folder: Path) -> StageContext:
    """What stages work with, in a folder; there is nobody to infer or report, and no build."""
    shutil.copytree(CATALOGUE / MODEL, folder / "catalogue" / MODEL)
    store = StudyStore(folder / "store")
    return StageContext(
        settings=Settings(
            catalogue_dir=folder / "catalogue", triton=TritonSettings(repository=folder / "built")
        ),
        engine=engine,
        store=store,
        inference=cast(Any, None),
        reporting=cast(Any, None),
        manifests=StoredManifests(store),
    )


def measured(value: float = 1.5, label: str = "Brain", remark: str = "") -> Measured:
    """A volume in mL."""
    return Measured(
        output="labels",
        segment_number=1,
        segment_label=label,
        lesion=0,
        name="volume",
        value=value,
        low=None,
        high=None,
        unit="mL",
        why_unknown="",
        remark=remark,
    )


def _served(context: StageContext, but: str) -> list[ServedBuild]:
    return [
        served_build(Path(), each.model, each.digest)
        for each in read_deployments(context.engine, context.settings.triton.target)
        if each.model != but and each.state == "serving"
    ]
