"""Looking at what is built: listing it, and proving that it still is what was built."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from models.building.errors import BuildError
from models.building.repository import altered_files, repository_folder
from models.manifest import BuildRecord, Target, load_build_record, load_catalogue
from models.manifest.record import BUILD_RECORD_FILE

__all__ = ["ListedModel", "Verification", "list_models", "verify_model"]

_THREADS = 2


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model of the catalogue, with its build for one target if there is one.

    `stale` is true when the manifest (or the runtime's code) has changed since the build.
    """

    name: str
    version: str
    title: str
    record: BuildRecord | None
    stale: bool


@dataclass(frozen=True, slots=True)
class Verification:
    """`known_answer_dice` is None for plans, which only Triton can run."""

    record: BuildRecord
    files: int
    known_answer_dice: float | None


def list_models(catalogue: Path, target: Target | str, output_root: Path) -> list[ListedModel]:
    """Return every model of a catalogue with what is built of it, sorted by name."""
    repository = repository_folder(output_root, Target(target))
    listed: list[ListedModel] = []
    for manifest in load_catalogue(catalogue):
        folder = repository / manifest.name
        record = load_build_record(folder) if (folder / BUILD_RECORD_FILE).exists() else None
        stale = record is not None and record.digest != manifest.digest_for(
            record.precision, record.target
        )
        listed.append(
            ListedModel(manifest.name, manifest.version, manifest.identity.title, record, stale)
        )
    return listed


def verify_model(name: str, target: Target | str, output_root: Path) -> Verification:
    """Hash every file of a build again and run its known answer.

    Raises BuildError naming the files that are missing or altered, PipelineError when the
    networks do not give the known answer.
    """
    repository = repository_folder(output_root, Target(target))
    record = load_build_record(repository / name)
    altered = altered_files(record, repository)
    if altered:
        raise BuildError(
            f"{name}: {', '.join(altered)} differ from the build record. Build the model again."
        )
    if record.target is Target.TENSORRT:
        return Verification(record, len(record.files), None)
    from models.runtime.assembly import assemble
    from models.runtime.known_answer import KNOWN_ANSWER_FILE, KnownAnswer, check_known_answer

    pipeline, _ = assemble(repository / name, _THREADS)
    known = KnownAnswer.load(repository / name / "1" / KNOWN_ANSWER_FILE)
    return Verification(record, len(record.files), check_known_answer(pipeline, known))
