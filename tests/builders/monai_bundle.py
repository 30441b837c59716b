"""Small bundles of MONAI, written as the model zoo has them, with seeded networks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

__all__ = ["NETWORKS", "inference", "write_bundle"]

# Each class of the zoo, as small as it goes; the names and the arguments are those of bundles.
NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "SegResNet": {
        "_target_": "SegResNet", "spatial_dims": 3, "init_filters": 8, "in_channels": 1,
        "out_channels": 3, "blocks_down": [1, 2], "blocks_up": [1], "dropout_prob": 0.2,
    },
    "DynUNet": {
        "_target_": "monai.networks.nets.DynUNet", "spatial_dims": 3, "in_channels": 1,
        "out_channels": 3, "kernel_size": [3, 3, 3], "strides": [1, 2, 2],
        "upsample_kernel_size": [2, 2], "norm_name": "INSTANCE", "filters": [4, 8, 16],
    },
    "SwinUNETR": {
        "_target_": "SwinUNETR", "img_size": [32, 32, 32], "in_channels": 1, "out_channels": 3,
        "feature_size": 12, "use_checkpoint": True,
    },
    "UNet": {
        "_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 3,
        "channels": [4, 8, 16], "strides": [2, 2], "num_res_units": 2, "norm": "batch",
    },
}  # fmt: skip


def inference(network: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """A configuration as spleen_ct_segmentation has it; `changes` replace its parts."""
    return {
        "imports": ["$import glob"],
        "bundle_root": ".",
        "image_key": "image",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "roi": [32, 32, 32],
        "network_def": dict(network),
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "@image_key", "image_only": True},
                {"_target_": "EnsureChannelFirstd", "keys": "image"},
                {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
                {
                    "_target_": "Spacingd", "keys": "image", "pixdim": [1.5, 1.5, 2.0],
                    "mode": "bilinear",
                },
                {
                    "_target_": "ScaleIntensityRanged", "keys": "image", "a_min": -57,
                    "a_max": 164, "b_min": 0, "b_max": 1, "clip": True,
                },
                {"_target_": "EnsureTyped", "keys": "image"},
            ],
        },
        "inferer": {
            "_target_": "SlidingWindowInferer", "roi_size": "@roi", "sw_batch_size": 4,
            "overlap": 0.5,
        },
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "softmax": True},
                {
                    "_target_": "Invertd", "keys": "pred", "transform": "@preprocessing",
                    "orig_keys": "image", "nearest_interp": False, "to_tensor": True,
                },
                {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
                {"_target_": "SaveImaged", "keys": "pred", "output_dir": "eval"},
            ],
        },
        **changes,
    }  # fmt: skip


def write_bundle(
    folder: Path,
    configuration: Mapping[str, Any],
    network: torch.nn.Module,
    *,
    channel_def: Mapping[str, str] | None = None,
    modality: str = "CT",
) -> Path:
    """Write a bundle's folder; returns it."""
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    names = channel_def or {"0": "background", "1": "spleen", "2": "vessel"}
    metadata = {
        "version": "0.5.9",
        "monai_version": "1.4.0",
        "name": "Spleen CT segmentation",
        "description": "A network for the spleen.",
        "authors": "MONAI team",
        "copyright": "Copyright (c) MONAI Consortium",
        "references": ["Xia Y. et al. 3D Semi-Supervised Learning. arXiv 1811.12506."],
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image", "format": "hounsfield", "modality": modality,
                    "num_channels": 1, "spatial_shape": [32, 32, 32], "channel_def": {"0": "image"},
                }
            },
            "outputs": {"pred": {"type": "image", "channel_def": dict(names)}},
        },
    }  # fmt: skip
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    (folder / "configs" / "inference.json").write_text(json.dumps(configuration))
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    return folder
