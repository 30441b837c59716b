"""One training of nnU-Net, read and understood: its network, its labels, its configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from models.building.weights import NnunetCheckpoint
from models.importing.errors import NotImportableError
from models.importing.nnunet.folder import Trained, read_checkpoint
from models.importing.nnunet.labels import Labels, labels_of
from models.importing.nnunet.network import architecture_of, require_trainer
from models.importing.nnunet.published import Configuration
from models.manifest.networks import ArchitectureOf

__all__ = ["Training", "read_training"]


@dataclass(frozen=True, slots=True)
class Training:
    """A trained model, with what its plans come to.

    Attributes:
        trained: its files.
        first: the checkpoint of the first fold, which speaks for the others.
        configuration: of the plans.
        channels: their names, in the network's order.
        labels: and the decision that makes them.
        architecture: of its networks.
    """

    trained: Trained
    first: NnunetCheckpoint
    configuration: Configuration
    channels: tuple[str, ...]
    labels: Labels
    architecture: ArchitectureOf

    @property
    def called(self) -> str:
        """What people know the training by."""
        return self.trained.plans.dataset_name or self.trained.folder.name


def read_training(trained: Trained, trainer_like: str, report: Callable[[str], None]) -> Training:
    """Read the first fold's checkpoint, and what the plans say of its configuration.

    Args:
        trained: the files.
        trainer_like: a trainer of nnU-Net that infers as this one's does; empty: nobody said.
        report: told of what takes time.

    Raises:
        NotImportableError: a network, trainer or labels that cannot be said.
        WeightsError: the checkpoint names code, or is none.
    """
    fold = next(iter(trained.checkpoints))
    report(f"reading fold {fold}")
    first = read_checkpoint(trained, fold)
    require_trainer(first.trainer, trainer_like)
    plans, channels = trained.plans, trained.dataset.channels
    configuration = plans.configuration(first.configuration)
    if configuration.previous_stage is not None:
        raise NotImportableError(
            f"{first.configuration} is a cascade: it sees what {configuration.previous_stage} "
            "found, and a plan cannot say that yet. Import a configuration that stands alone, "
            "3d_fullres or 3d_lowres."
        )
    if plans.label_manager != "LabelManager":
        raise NotImportableError(
            f"plans.json: the label manager {plans.label_manager} is not known, only LabelManager."
        )
    schemes = len(configuration.normalization_schemes), len(configuration.use_mask_for_norm)
    if schemes != (len(channels), len(channels)):
        raise NotImportableError(
            f"dataset.json names {len(channels)} channels ({', '.join(channels)}), and plans.json "
            f"normalises {schemes[0]} and masks {schemes[1]}. They are not of one training."
        )
    labels = labels_of(trained.dataset)
    return Training(
        trained=trained,
        first=first,
        configuration=configuration,
        channels=channels,
        labels=labels,
        architecture=architecture_of(configuration, len(channels), labels.heads),
    )
