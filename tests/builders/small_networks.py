"""A small example of every architecture: arguments, what it takes and what it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Small:
    """Shapes without the batch; `takes` and `gives` begin with the channels."""

    arguments: Mapping[str, Any]
    takes: tuple[int, ...]
    gives: tuple[int, ...]


_CUBE = (1, 32, 32, 32)
_MONAI = "monai.networks.nets."
_UNET = "dynamic_network_architectures.architectures.unet."
# As nnU-Net's plans write them.
_PLANS: Mapping[str, Any] = {
    "input_channels": 1,
    "n_stages": 3,
    "features_per_stage": [8, 16, 32],
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
    "num_classes": 3,
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
    "n_conv_per_stage_decoder": [1, 1],
    "deep_supervision": True,
}
_MADE_OF_THREE: Mapping[str, Any] = {
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 3,
}

SMALL: Mapping[str, Small] = {
    "deepmedic": Small(
        {
            "classes": 5,
            "patch": [36, 36, 36],
            "scale_factors": [[3, 3, 3], [1, 1, 1]],
            "feature_maps": [4, 4, 6],
            "fully_connected": [8],
        },
        (1, 36, 36, 36),
        (5, 18, 18, 18),
    ),
    "meshnet": Small(
        {"classes": 3, "width": 5, "dilations": [1, 2, 4, 1], "activation": "elu"},
        (1, 16, 20, 24),
        (3, 16, 20, 24),
    ),
    "msnet": Small(
        {"downsample_twice": True, "widths": [8, 8, 8, 8]}, (4, 19, 16, 24), (2, 11, 16, 24)
    ),
    "hippodeep-head": Small({}, _CUBE, (4, 32, 32, 32)),
    "hippodeep-affine": Small({}, (2, 64, 64, 64), (12,)),
    "hippodeep-hippocampus": Small({}, (1, 24, 28, 32), (1, 20, 24, 28)),
    _MONAI + "AttentionUnet": Small(
        {**_MADE_OF_THREE, "channels": [8, 16, 32], "strides": [2, 2]}, _CUBE, (3, 32, 32, 32)
    ),
    _MONAI + "BasicUNet": Small(
        {**_MADE_OF_THREE, "features": [8, 8, 16, 16, 32, 8]}, _CUBE, (3, 32, 32, 32)
    ),
    _MONAI + "DenseNet121": Small(
        {**_MADE_OF_THREE, "init_features": 16, "growth_rate": 8, "block_config": [2, 2, 2]},
        _CUBE,
        (3,),
    ),
    _MONAI + "DynUNet": Small(
        {
            **_MADE_OF_THREE,
            "kernel_size": [3, 3, 3],
            "strides": [1, 2, [2, 2, 1]],
            "upsample_kernel_size": [2, [2, 2, 1]],
            "filters": [8, 16, 32],
            "norm_name": "instance",
        },
        _CUBE,
        (3, 32, 32, 32),
    ),
    _MONAI + "SegResNet": Small({**_MADE_OF_THREE, "init_filters": 8}, _CUBE, (3, 32, 32, 32)),
    _MONAI + "SegResNetDS": Small(
        {**_MADE_OF_THREE, "init_filters": 8, "blocks_down": [1, 2], "dsdepth": 2},
        _CUBE,
        (3, 32, 32, 32),
    ),
    _MONAI + "SwinUNETR": Small(
        {**_MADE_OF_THREE, "feature_size": 12, "use_checkpoint": True},
        (1, 64, 32, 32),
        (3, 64, 32, 32),
    ),
    _MONAI + "UNETR": Small(
        {
            "in_channels": 1,
            "out_channels": 3,
            "img_size": [32, 32, 32],
            "feature_size": 4,
            "hidden_size": 24,
            "mlp_dim": 32,
            "num_heads": 2,
        },
        _CUBE,
        (3, 32, 32, 32),
    ),
    _MONAI + "UNet": Small(
        {**_MADE_OF_THREE, "channels": [8, 16, 32], "strides": [2, 2], "num_res_units": 2},
        _CUBE,
        (3, 32, 32, 32),
    ),
    _MONAI + "VNet": Small({**_MADE_OF_THREE}, _CUBE, (3, 32, 32, 32)),
    _UNET + "PlainConvUNet": Small(
        {**_PLANS, "n_conv_per_stage": [2, 2, 2]}, (1, 16, 32, 32), (3, 16, 32, 32)
    ),
    _UNET + "ResidualEncoderUNet": Small(
        {**_PLANS, "n_blocks_per_stage": [1, 2, 2]}, (1, 16, 32, 32), (3, 16, 32, 32)
    ),
    _UNET + "ResidualUNet": Small(
        {**_PLANS, "n_blocks_per_stage": [1, 2, 2]}, (1, 16, 32, 32), (3, 16, 32, 32)
    ),
}
