"""Which roles of a model lie in one frame of reference, and which are registered into it."""

from __future__ import annotations

from collections.abc import Mapping

from models.manifest.roles import Align, Role

__all__ = ["aligns_of", "frame_of", "grid_role_of", "require_alignment"]


def aligns_of(roles: Mapping[str, Role]) -> dict[str, Align]:
    """Return how each role that is brought onto another lies to it."""
    return {name: role.align for name, role in roles.items() if role.align is not None}


def frame_of(role: str, aligns: Mapping[str, Align]) -> str:
    """Return the role in whose frame of reference the images of a role lie as they are sent."""
    while role in aligns and aligns[role].by == "same-frame":
        role = aligns[role].to
    return role


def grid_role_of(roles: Mapping[str, Role]) -> str:
    """Return the role to whose slices labels return.

    Raises:
        ValueError: there is none, or there are several.
    """
    grids = [name for name, role in roles.items() if role.use == "grid"]
    if len(grids) != 1:
        raise ValueError(
            "labels return to the slices of one role: exactly one has use: grid, not "
            f"{', '.join(grids) or 'none'}"
        )
    return grids[0]


def require_alignment(roles: Mapping[str, Role]) -> None:
    """Check that every role is brought onto another one that is there, in the end onto the grid.

    Raises:
        ValueError: names the role that is not.
    """
    grid, aligns = grid_role_of(roles), aligns_of(roles)
    for name, align in aligns.items():
        if align.to not in roles:
            raise ValueError(
                f"roles.{name}.align: there is no role {align.to} among {', '.join(roles)}"
            )
        if roles[align.to].if_missing != "refuse":
            raise ValueError(
                f"roles.{name}.align: a study may lack {align.to}, so that there is nothing to be "
                "brought onto"
            )
    for name in aligns:
        passed = [name]
        while passed[-1] != grid:
            passed.append(aligns[passed[-1]].to)
            if passed[-1] in passed[:-1]:
                raise ValueError(
                    f"roles.{name}.align: {' to '.join(passed)} goes round and never reaches {grid}"
                )
