"""Trained nnU-Nets (version 2) as models: plans, labels and checkpoints become a manifest."""

from models.importing.nnunet.importing import import_nnunet

__all__ = ["import_nnunet"]
