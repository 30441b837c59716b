"""Published models -> a folder of the catalogue that a person can read, correct, build and serve.

An importer reads what a system publishes beside its weights, says it as a plan, converts the
weights once to tensors without code, and tells what is left for a person to look at. What a plan
cannot say is refused by its name. Nothing that a file of weights names is ever run.
"""

from models.importing.errors import NotImportableError
from models.importing.monai import import_monai_bundle
from models.importing.nnunet import import_nnunet
from models.importing.recipes import new_from_recipe
from models.importing.said import Imported, Said, ToReview
from models.importing.single_network import Shown, import_network, intensity_of
from models.importing.totalsegmentator import import_totalsegmentator

__all__ = [
    "Imported",
    "NotImportableError",
    "Said",
    "Shown",
    "ToReview",
    "import_monai_bundle",
    "import_network",
    "import_nnunet",
    "import_totalsegmentator",
    "intensity_of",
    "new_from_recipe",
]
