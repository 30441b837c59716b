"""MONAI bundles: their configuration is read, never run."""

from models.importing.monai.importing import import_monai_bundle

__all__ = ["import_monai_bundle"]
