"""Looking at what is built: listing it, and proving that it still is what was built."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from models.building.errors import BuildError
from models.building.repository import altered_files
from models.manifest import (
    BuildRecord,
    Manifest,
    ModelError,
    ServedBuild,
    Target,
    build_folder,
    load_build_record,
    load_catalogue,
    repository_folder,
    served_builds,
    triton_model_name,
)
from models.manifest.record import BUILD_RECORD_FILE

__all__ = [
    "ListedBuild",
    "ListedModel",
    "Verification",
    "find_builds",
    "list_builds",
    "list_models",
    "verify_build",
]

_THREADS = 2


@dataclass(frozen=True, slots=True)
class ListedBuild:
    """A build in the repository.

    `stale` is true when the catalogue's manifest (or the runtime's code) would be another build
    now, or the catalogue has no such model.
    """

    record: BuildRecord
    served: bool
    stale: bool

    @property
    def triton_name(self) -> str:
        """The build's name in Triton."""
        return triton_model_name(self.record.model, self.record.digest)


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model of the catalogue with its builds for one target, the newest first."""

    manifest: Manifest
    builds: tuple[ListedBuild, ...]

    @property
    def name(self) -> str:
        """The model's name."""
        return self.manifest.name

    @property
    def served(self) -> BuildRecord | None:
        """The build that is to be served, if there is one."""
        return next((build.record for build in self.builds if build.served), None)


@dataclass(frozen=True, slots=True)
class Verification:
    """`known_answer_dice` is None for plans, which only Triton can run."""

    record: BuildRecord
    files: int
    known_answer_dice: float | None


def list_models(catalogue: Path, target: Target | str, output_root: Path) -> list[ListedModel]:
    """Return every model of a catalogue with what is built of it, sorted by name."""
    manifests = load_catalogue(catalogue)
    builds = list_builds(target, output_root, manifests)
    return [
        ListedModel(
            manifest, tuple(build for build in builds if build.record.model == manifest.name)
        )
        for manifest in manifests
    ]


def list_builds(
    target: Target | str, output_root: Path, manifests: list[Manifest]
) -> list[ListedBuild]:
    """Return every build of a target with a readable record, the newest first.

    `manifests` are the catalogue's.
    """
    served = {
        one.digest for one in served_builds(output_root, target) if isinstance(one, ServedBuild)
    }
    known = {manifest.name: manifest for manifest in manifests}
    found: list[ListedBuild] = []
    for file in repository_folder(output_root, target).glob(f"*/{BUILD_RECORD_FILE}"):
        try:
            record = load_build_record(file.parent)
        except ModelError:
            continue
        if file.parent.name != triton_model_name(record.model, record.digest):
            continue
        manifest = known.get(record.model)
        stale = manifest is None or record.digest != manifest.digest_for(
            record.precision, record.target
        )
        found.append(ListedBuild(record, record.digest in served, stale))
    return sorted(found, key=lambda build: (build.record.built_at, build.triton_name), reverse=True)


def find_builds(builds: list[ListedBuild], wanted: str) -> list[ListedBuild]:
    """Return the builds that a person means: by a digest's beginning, or a name in Triton.

    Raises:
        BuildError: there is none, or the beginning is too short to tell two apart.
    """
    found = [
        build
        for build in builds
        if build.triton_name == wanted or build.record.digest.startswith(wanted)
    ]
    if not found:
        raise BuildError(f"No build is called {wanted}. See axial models list.")
    if len(found) > 1:
        names = ", ".join(build.triton_name for build in found)
        raise BuildError(f"{wanted} may be any of {names}. Give more of the digest.")
    return found


def verify_build(model: str, digest: str, target: Target | str, output_root: Path) -> Verification:
    """Hash every file of a build again and run its known answer.

    Raises:
        BuildError: files are missing or altered; they are named.
        PipelineError: the networks do not give the known answer.
    """
    folder = build_folder(output_root, target, model, digest)
    record = load_build_record(folder)
    altered = altered_files(record, folder.parent)
    if altered:
        raise BuildError(
            f"{folder.name}: {', '.join(altered)} differ from the build record. Remove the build "
            "(axial models prune) and build the model again."
        )
    if record.target is Target.TENSORRT:
        return Verification(record, len(record.files), None)
    from models.runtime.assembly import assemble
    from models.runtime.known_answer import KNOWN_ANSWER_FILE, KnownAnswer, check_known_answer

    pipeline, _ = assemble(folder, _THREADS)
    known = KnownAnswer.load(folder / "1" / KNOWN_ANSWER_FILE)
    return Verification(record, len(record.files), check_known_answer(pipeline, known))
