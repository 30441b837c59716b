"""Removing builds that nobody needs any more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from models.building.errors import BuildError
from models.building.repository import staging
from models.building.verifying import ListedBuild, find_builds, list_builds
from models.manifest import Target, repository_folder

__all__ = ["KEPT_DAYS", "KEPT_OF_A_NAME", "prune_builds"]

# So many of a model stay: what is served, what was before it, and what was tried beside it.
KEPT_OF_A_NAME: Final = 3
# A job is pinned to a digest; none is under way for so long.
KEPT_DAYS: Final = 7


def prune_builds(
    target: Target | str,
    output_root: Path,
    wanted: Sequence[str] = (),
    *,
    younger_too: bool = False,
    now: datetime | None = None,
) -> list[ListedBuild]:
    """Remove builds of a target and return them.

    Without `wanted`: all that are not served, not among the newest `KEPT_OF_A_NAME` of their
    model, and older than `KEPT_DAYS` days. `wanted` names builds (see `find_builds`) that go also
    when they are among the newest. `younger_too` lifts the age.

    Raises:
        BuildError: a build that is named is served, or too young; nothing is removed.
    """
    target = Target(target)
    with staging(output_root, target) as away:
        builds = list_builds(target, output_root, [])
        oldest_kept = (now or datetime.now(UTC)) - timedelta(days=KEPT_DAYS)
        young = set() if younger_too else {b.triton_name for b in builds if _at(b) > oldest_kept}
        if wanted:
            chosen = [build for one in wanted for build in find_builds(builds, one)]
            _require_removable(chosen, young)
        else:
            chosen = [b for b in _beyond_newest(builds) if b.triton_name not in young]
        repository = repository_folder(output_root, target)
        for build in chosen:
            _move_away(build, repository, away)
    return chosen


def _at(build: ListedBuild) -> datetime:
    built = datetime.fromisoformat(build.record.built_at)
    return built if built.tzinfo else built.replace(tzinfo=UTC)


def _beyond_newest(builds: Sequence[ListedBuild]) -> list[ListedBuild]:
    """`builds` are the newest first."""
    seen: Counter[str] = Counter()
    beyond: list[ListedBuild] = []
    for build in builds:
        seen[build.record.model] += 1
        if seen[build.record.model] > KEPT_OF_A_NAME and not build.served:
            beyond.append(build)
    return beyond


def _require_removable(chosen: Sequence[ListedBuild], young: set[str]) -> None:
    for build in chosen:
        if build.served:
            raise BuildError(
                f"{build.triton_name} is served. Have another build of {build.record.model} served "
                "first (axial models build)."
            )
        if build.triton_name in young:
            raise BuildError(
                f"{build.triton_name} is younger than {KEPT_DAYS} days, and a job may still want "
                "it. Remove it with --all."
            )


def _move_away(build: ListedBuild, repository: Path, away: Path) -> None:
    """The record's folder goes first: what is named in a record is there as long as it is."""
    (repository / build.triton_name).rename(away / build.triton_name)
    for plan in repository.glob(f"{build.triton_name}--*"):
        plan.rename(away / plan.name)
