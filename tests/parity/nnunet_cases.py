"""The trained nnU-Nets that the importer is compared on: small, and of every kind that it says.

Plans and data sets are as nnunetv2 2.8.1 writes them, with small numbers. `make_nnunet_cases.py`
trains and asks the networks; the tests read what it wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["CASES", "PARTS", "TrainedCase"]

_RESAMPLING = "resample_data_or_seg_to_shape"


@dataclass(frozen=True, slots=True)
class TrainedCase:
    """A trained network and a scan.

    Attributes:
        plans: plans.json.
        dataset: dataset.json.
        configuration: which of the plans.
        trainer: its name.
        mirroring: array axes that were mirrored in training.
        folds: how many networks.
        shape: of the scan [k, j, i].
        spacing_mm: of the scan, in that order.
        directions: where k, j and i point.
        steps: of the training.
        values: of the voxels outside the body, of the body, and of labels 1 and 2 in it.
        further: the same of each further channel.
    """

    plans: Mapping[str, Any]
    dataset: Mapping[str, Any]
    configuration: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    values: tuple[int, int, int, int]
    trainer: str = "nnUNetTrainer"
    mirroring: tuple[int, ...] | None = None
    folds: int = 1
    directions: str = "SPL"
    steps: int = 300
    further: tuple[tuple[int, int, int, int], ...] = ()


def _architecture(name: str, dimensions: int, strides: list[list[int]]) -> dict[str, Any]:
    blocks = "n_conv_per_stage" if name == "PlainConvUNet" else "n_blocks_per_stage"
    stages = len(strides)
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{name}",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": [min(6 * 2**stage, 16) for stage in range(stages)],
            "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
            "kernel_sizes": [[3] * dimensions] * stages,
            "strides": strides,
            blocks: [1] * stages,
            "n_conv_per_stage_decoder": [1] * (stages - 1),
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
            "deep_supervision": True,
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def _configuration(
    patch: list[int], spacing: list[float], scheme: str, masked: bool, **other: Any
) -> dict[str, Any]:
    return {
        "data_identifier": "nnUNetPlans",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": patch,
        "median_image_size_in_voxels": [float(side) for side in patch],
        "spacing": spacing,
        "normalization_schemes": [scheme],
        "use_mask_for_norm": [masked],
        "resampling_fn_data": _RESAMPLING,
        "resampling_fn_seg": _RESAMPLING,
        "resampling_fn_data_kwargs": {
            "is_seg": False,
            "order": 3,
            "order_z": 0,
            "force_separate_z": None,
        },
        "resampling_fn_seg_kwargs": {
            "is_seg": True,
            "order": 1,
            "order_z": 0,
            "force_separate_z": None,
        },
        "resampling_fn_probabilities": _RESAMPLING,
        "resampling_fn_probabilities_kwargs": {
            "is_seg": False,
            "order": 1,
            "order_z": 0,
            "force_separate_z": None,
        },
        "batch_dice": False,
        **other,
    }


def _plans(
    configurations: Mapping[str, Any],
    spacing: list[float],
    transpose: tuple[int, int, int] = (0, 1, 2),
    reader: str = "SimpleITKIO",
    channels: int = 1,
) -> dict[str, Any]:
    return {
        "dataset_name": "Dataset901_Balls",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": spacing,
        "original_median_shape_after_transp": [40, 48, 48],
        "image_reader_writer": reader,
        "transpose_forward": list(transpose),
        "transpose_backward": [transpose.index(axis) for axis in range(3)],
        "configurations": configurations,
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            str(channel): {
                "max": 320.0,
                "mean": 152.5,
                "median": 150.0,
                "min": -220.0,
                "percentile_00_5": -180.0,
                "percentile_99_5": 260.0,
                "std": 96.25,
            }
            for channel in range(channels)
        },
    }


def _dataset(channel: str, labels: Mapping[str, Any], **other: Any) -> dict[str, Any]:
    return {
        "name": "Balls",
        "channel_names": {"0": channel, **other.pop("further", {})},
        "labels": {"background": 0, **labels},
        "numTraining": 1,
        "file_ending": ".nii.gz",
        **other,
    }


def _of_two_channels(*schemes: str, masked: bool) -> dict[str, Any]:
    strides = [[1, 1, 1], [2, 2, 2], [2, 2, 2]]
    configuration = _configuration(
        [16, 32, 32],
        [1.5, 1.0, 1.0],
        schemes[0],
        masked,
        architecture=_architecture("PlainConvUNet", 3, strides),
        normalization_schemes=list(schemes),
        use_mask_for_norm=[masked] * len(schemes),
    )
    return _plans({"3d_fullres": configuration}, [1.5, 1.0, 1.0], channels=len(schemes))


_BRIGHT_AND_DARK = {"bright": 1, "dark": 2}

CASES: Mapping[str, TrainedCase] = {
    # Two folds, eight mirror passes, cubic resampling in one go, no mask.
    "ct-two-folds": TrainedCase(
        plans=_plans(
            {
                "3d_fullres": _configuration(
                    [16, 32, 32],
                    [1.5, 1.0, 1.0],
                    "CTNormalization",
                    False,
                    architecture=_architecture(
                        "PlainConvUNet", 3, [[1, 1, 1], [2, 2, 2], [2, 2, 2]]
                    ),
                )
            },
            [1.5, 1.0, 1.0],
        ),
        dataset=_dataset("CT", _BRIGHT_AND_DARK),
        configuration="3d_fullres",
        shape=(32, 40, 36),
        spacing_mm=(1.25, 1.2, 1.2),
        values=(-900, 40, 210, -120),
        mirroring=(0, 1, 2),
        folds=2,
    ),
    # Planes far apart along the rows, so that axes are exchanged and each plane is resampled by
    # itself; values in a mask; regions; residual blocks; a configuration that inherits.
    "mr-planes-regions": TrainedCase(
        plans=_plans(
            {
                "3d_fullres": _configuration(
                    [8, 40, 32],
                    [4.0, 1.0, 1.0],
                    "ZScoreNormalization",
                    True,
                    architecture=_architecture(
                        "ResidualEncoderUNet", 3, [[1, 1, 1], [1, 2, 2], [2, 2, 2]]
                    ),
                ),
                "3d_fullres_bs8": {"inherits_from": "3d_fullres", "batch_size": 8},
            },
            [4.0, 1.0, 1.0],
            transpose=(1, 0, 2),
        ),
        dataset=_dataset("T2", {"whole": [1, 2], "core": [2]}, regions_class_order=[1, 2]),
        configuration="3d_fullres_bs8",
        shape=(44, 12, 48),
        spacing_mm=(0.9, 4.4, 0.9),
        values=(0, 300, 620, 900),
        trainer="nnUNetTrainer_onlyMirror01",
        mirroring=(0, 1),
        directions="SAR",
    ),
    # Slices one by one; plans of before 2024; shown as they are; no mirroring.
    "old-plans-2d": TrainedCase(
        plans=_plans(
            {
                "2d": _configuration(
                    [32, 40],
                    [1.25, 1.25],
                    "RescaleTo01Normalization",
                    False,
                    UNet_class_name="PlainConvUNet",
                    UNet_base_num_features=6,
                    unet_max_num_features=16,
                    n_conv_per_stage_encoder=[1, 1, 1],
                    n_conv_per_stage_decoder=[1, 1],
                    num_pool_per_axis=[2, 2],
                    pool_op_kernel_sizes=[[1, 1], [2, 2], [2, 2]],
                    conv_kernel_sizes=[[3, 3], [3, 3], [3, 3]],
                )
            },
            [5.0, 1.25, 1.25],
        ),
        dataset=_dataset("rescale_to_0_1", _BRIGHT_AND_DARK),
        configuration="2d",
        shape=(12, 52, 60),
        spacing_mm=(5.0, 1.0, 0.9),
        values=(20, 200, 420, 90),
        trainer="nnUNetTrainer_4000epochs_NoMirroring",
    ),
    # Turned to right, anterior, superior by the reader; coarse; smaller than the patch.
    "lowres-turned": TrainedCase(
        plans=_plans(
            {
                "3d_lowres": _configuration(
                    [24, 16, 32],
                    [2.0, 2.0, 2.0],
                    "ZScoreNormalization",
                    False,
                    architecture=_architecture(
                        "PlainConvUNet", 3, [[1, 1, 1], [2, 2, 2], [2, 1, 2]]
                    ),
                    next_stage="3d_cascade_fullres",
                )
            },
            [1.0, 1.0, 1.0],
            reader="NibabelIOWithReorient",
        ),
        dataset=_dataset("MRI", _BRIGHT_AND_DARK),
        configuration="3d_lowres",
        shape=(40, 44, 36),
        spacing_mm=(1.1, 1.3, 1.0),
        values=(10, 240, 480, 90),
        mirroring=(2,),
        directions="ARI",
    ),
    # Two contrasts, which only together tell the labels apart; one mask over both.
    "mr-two-contrasts": TrainedCase(
        plans=_of_two_channels("ZScoreNormalization", "ZScoreNormalization", masked=True),
        dataset=_dataset("T1", _BRIGHT_AND_DARK, further={"1": "FLAIR"}),
        configuration="3d_fullres",
        shape=(30, 42, 36),
        spacing_mm=(1.25, 1.1, 1.2),
        values=(0, 300, 620, 620),
        further=((0, 410, 200, 760),),
        mirroring=(0, 1, 2),
    ),
    # Two modalities, each normalised in its own way.
    "ct-and-pet": TrainedCase(
        plans=_of_two_channels("CTNormalization", "ZScoreNormalization", masked=False),
        dataset=_dataset("CT", _BRIGHT_AND_DARK, further={"1": "PET"}),
        configuration="3d_fullres",
        shape=(32, 40, 36),
        spacing_mm=(1.25, 1.2, 1.2),
        values=(-900, 40, 210, 210),
        further=((0, 25, 30, 220),),
        trainer="nnUNetTrainerNoMirroring",
    ),
}


def _part(labels: Mapping[str, int]) -> TrainedCase:
    strides = [[1, 1, 1], [2, 2, 2], [2, 2, 2]]
    configuration = _configuration(
        [24, 32, 24],
        [1.5, 1.5, 1.5],
        "CTNormalization",
        False,
        architecture=_architecture("PlainConvUNet", 3, strides),
    )
    return TrainedCase(
        plans=_plans(
            {"3d_fullres": configuration}, [1.5, 1.5, 1.5], reader="NibabelIOWithReorient"
        ),
        dataset=_dataset("CT", labels),
        configuration="3d_fullres",
        shape=(30, 56, 50),
        spacing_mm=(2.0, 0.9, 1.1),
        values=(-900, 40, 210, -120),
        trainer="nnUNetTrainerNoMirroring",
        directions="IRP",
        steps=450,
    )


# Two part-models of one whole, as TotalSegmentator has five: the second finds what the first takes
# for the body.
PARTS = (_part({"liver": 1, "body": 2}), _part({"spleen": 1}))
