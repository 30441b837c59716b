"""What nnU-Net v2 publishes beside its weights: plans.json and dataset.json, read leniently.

Only what inference depends on is kept; keys that it does not know are the training's matter.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, cast

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from models.importing.errors import NotImportableError

__all__ = ["Configuration", "Dataset", "Intensity", "Plans", "read_dataset", "read_plans"]

# So long a list of cases and intensities no data set has.
_LARGEST: Final = 64 << 20
_Sizes = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=2, max_length=3)]
_Lengths = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=2, max_length=3)]
# The resampling of plans that were written before it could be chosen.
DEFAULT_RESAMPLING: Final = "resample_data_or_seg_to_shape"


class _Lenient(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Intensity(_Lenient):
    """Of one channel, the values inside the segments of all training cases."""

    mean: float
    std: float
    percentile_00_5: float
    percentile_99_5: float


class Configuration(_Lenient):
    """One configuration of the plans: `3d_fullres`, `2d` and so on, with what it inherits."""

    patch_size: _Sizes
    spacing: _Lengths
    normalization_schemes: tuple[str, ...]
    use_mask_for_norm: tuple[bool, ...]
    preprocessor_name: str = "DefaultPreprocessor"
    resampling_fn_data: str = DEFAULT_RESAMPLING
    resampling_fn_data_kwargs: dict[str, Any] = Field(default_factory=dict)
    resampling_fn_probabilities: str = DEFAULT_RESAMPLING
    resampling_fn_probabilities_kwargs: dict[str, Any] = Field(default_factory=dict)
    previous_stage: str | None = None
    architecture: dict[str, Any] | None = None
    # Plans of before 2024 say of the network only this.
    UNet_class_name: str | None = None
    UNet_base_num_features: int = 32
    unet_max_num_features: int = 320
    n_conv_per_stage_encoder: tuple[int, ...] = ()
    n_conv_per_stage_decoder: tuple[int, ...] = ()
    conv_kernel_sizes: tuple[tuple[int, ...], ...] = ()
    pool_op_kernel_sizes: tuple[tuple[int, ...], ...] = ()


class Plans(_Lenient):
    """plans.json."""

    dataset_name: str = ""
    image_reader_writer: str
    transpose_forward: Annotated[tuple[int, ...], Field(min_length=3, max_length=3)]
    label_manager: str = "LabelManager"
    original_median_spacing_after_transp: tuple[float, ...] = ()
    intensities: dict[str, Intensity] = Field(
        default_factory=dict,
        validation_alias=AliasChoices(
            "foreground_intensity_properties_per_channel",
            "foreground_intensity_properties_by_modality",
        ),
    )
    configurations: dict[str, dict[str, Any]]

    def configuration(self, name: str) -> Configuration:
        """Return a configuration with what it inherits; NotImportableError when it is none."""
        return _checked(Configuration, self._inherited(name, ()), f"plans.json: {name}")

    def _inherited(self, name: str, below: tuple[str, ...]) -> dict[str, Any]:
        if name not in self.configurations or name in below:
            what = "inherits from itself" if name in below else "is not there"
            raise NotImportableError(
                f"plans.json: the configuration {name} {what}. It has "
                f"{', '.join(self.configurations)}; take the plans that were trained with."
            )
        own = self.configurations[name]
        parent = own.get("inherits_from")
        inherited = {} if parent is None else self._inherited(str(parent), (*below, name))
        return {**inherited, **own}


class Dataset(_Lenient):
    """dataset.json."""

    name: str = ""
    description: str = ""
    licence: str = Field("", validation_alias=AliasChoices("licence", "license"))
    reference: str = ""
    channel_names: dict[str, str] = Field(
        validation_alias=AliasChoices("channel_names", "modality"), min_length=1
    )
    labels: dict[str, int | tuple[int, ...]]
    regions_class_order: tuple[int, ...] | None = None

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels' names in order."""
        return tuple(self.channel_names[key] for key in sorted(self.channel_names, key=int))


def read_plans(file: Path) -> Plans:
    """Read plans.json; NotImportableError where it is none."""
    return _checked(Plans, _read(file), str(file))


def read_dataset(file: Path) -> Dataset:
    """Read dataset.json; NotImportableError where it is none."""
    content = _read(file)
    labels = content.get("labels")
    if isinstance(labels, dict) and "background" not in labels:
        raise NotImportableError(
            f"{file}: the labels have no background. nnU-Net v2 names each label and gives its "
            "number; convert the data set of version 1 (nnUNetv2_convert_old_nnUNet_dataset)."
        )
    found = _checked(Dataset, content, str(file))
    if any(not key.isdecimal() for key in found.channel_names):
        raise NotImportableError(f"{file}: channel_names are not numbered 0, 1, 2 and so on.")
    return found


_P = TypeVar("_P", bound=_Lenient)


def _checked(kind: type[_P], content: dict[str, Any], where: str) -> _P:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(step) for step in first["loc"])
        raise NotImportableError(
            f"{where}: {field}: {first['msg']}. Take the file that nnU-Net v2 wrote."
        ) from error


def _read(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > _LARGEST:
            raise NotImportableError(f"{file} is larger than {_LARGEST >> 20} MiB, as none is.")
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise NotImportableError(
            f"{file} cannot be read ({error}). A trained model's folder holds it, as nnU-Net v2 "
            "left it."
        ) from error
    if not isinstance(content, dict):
        raise NotImportableError(f"{file} is no mapping. Take the file that nnU-Net v2 wrote.")
    return cast(dict[str, Any], content)
