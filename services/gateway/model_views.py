"""Which builds of the models are served."""

from __future__ import annotations

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from services.common.database import DeploymentRow
from services.gateway import answers


def deployments(engine: Engine) -> list[answers.Deployment]:
    """Every build that is or was served, by model, the build that was asked for last first."""
    with Session(engine.execution_options(axial_readonly=True)) as session:
        rows = session.scalars(
            select(DeploymentRow).order_by(
                DeploymentRow.model_name, DeploymentRow.requested_at.desc()
            )
        )
        return [
            answers.Deployment(
                model=row.model_name,
                version=row.model_version,
                digest=row.model_digest,
                target=row.target,
                precision=row.precision,
                state=row.state,
                share=row.share,
                problem=row.problem,
                requested_at=row.requested_at,
                changed_at=row.changed_at,
            )
            for row in rows
        ]
