"""Which builds a study is given to, with their manifests; and models that have none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from models.manifest import Manifest, ModelError, load_manifest
from services.common.manifests import ManifestMissing, StoredManifests
from services.common.settings import Settings
from services.orchestrator.deployments import Deployment, given_to, read_deployments
from services.orchestrator.errors import OrchestratorError


@dataclass(frozen=True, slots=True)
class Offer:
    """A build that a study is given to, with the manifest of the build."""

    manifest: Manifest
    digest: str

    @property
    def model(self) -> str:
        """The model's name."""
        return self.manifest.identity.name


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A model of the catalogue that no study can be given to.

    Attributes:
        problem: why, without a full stop.
    """

    model: str
    title: str
    problem: str


def offers_for(
    engine: Engine, settings: Settings, manifests: StoredManifests, study_uid: str
) -> list[Offer | Unavailable]:
    """The builds that a study is given to, by the models' names.

    Served builds count, not what the catalogue says today: a manifest that was edited since, or
    is broken, changes nothing until it is built.

    Args:
        engine: the database.
        settings: name the catalogue and the target.
        manifests: of the builds.
        study_uid: decides between builds that serve a model together.

    Raises:
        OrchestratorError: there is no catalogue.
        StoreError: the store does not answer.
    """
    found: dict[str, Offer | Unavailable] = {
        name: _offer(deployment, manifests)
        for name, deployment in given_to(
            study_uid, read_deployments(engine, settings.triton.target)
        ).items()
    }
    for folder in model_folders(settings.catalogue_dir):
        if folder.name not in found:
            found[folder.name] = _not_built(folder, settings.triton.target)
    return [found[name] for name in sorted(found)]


def model_folders(catalogue: Path) -> Sequence[Path]:
    """The folders of a catalogue's models, whatever their manifests hold.

    Raises:
        OrchestratorError: there is no catalogue.
    """
    if not catalogue.is_dir():
        raise OrchestratorError(f"{catalogue} is not a folder. Set catalogue_dir.")
    return sorted(file.parent for file in catalogue.glob("*/model.yaml"))


def _offer(deployment: Deployment, manifests: StoredManifests) -> Offer | Unavailable:
    try:
        return Offer(manifests.of(deployment.digest), deployment.digest)
    except ManifestMissing as error:
        return Unavailable(deployment.model, deployment.model, str(error).rstrip("."))


def _not_built(folder: Path, target: str) -> Unavailable:
    problem = f"no build of it is served for {target}; run `axial models build`"
    try:
        return Unavailable(folder.name, load_manifest(folder).identity.title, problem)
    except ModelError as error:
        return Unavailable(folder.name, folder.name, str(error).rstrip("."))
