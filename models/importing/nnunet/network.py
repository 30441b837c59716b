"""The network of a configuration, as a manifest's architecture says it."""

from __future__ import annotations

import re
from typing import Any, Final

from models.importing.errors import NotImportableError
from models.importing.nnunet.published import Configuration
from models.manifest.networks import ArchitectureOf

__all__ = ["architecture_of", "require_trainer"]

_UNET: Final = "dynamic_network_architectures.architectures.unet."
# Where plans say these classes are, in older releases of the library too.
_MODULES: Final = (_UNET, "dynamic_network_architectures.architectures.residual_unet.")
_CLASSES: Final = ("PlainConvUNet", "ResidualEncoderUNet", "ResidualUNet")
_BASE: Final = "nnUNetTrainer"
# What stands behind that name in those trainers of nnunetv2 2.8.1 and TotalSegmentator 2.18.0 that
# change how is trained (length, augmentation, loss, optimiser, sampling), and neither the network
# nor inference.
_VARIANTS: Final = re.compile(
    r"(_?(\d+ep(ochs?)?|NoMirroring|onlyMirror01|DA5((Seg)?ord0)?|DASegOrd0|NoDA|noDummy2DDA"
    r"|(DiceCE|DiceTopK10|Topk10|Dice|CE)Loss(_noSmooth|LS01)?|(Vanilla)?Ada[mn](\d+en\d+)?"
    r"|CosAnneal|warmup|NoDeepSupervision|probabilisticOversampling|0\d\d"
    r"|Benchmark|noDataLoading|MOSAIC|1k|QuarterLR|SkeletonRecall))*"
)


def require_trainer(trainer: str, like: str) -> None:
    """Refuse a trainer that may have built another network than its plans say.

    Args:
        trainer: its name in the checkpoint.
        like: a trainer of which a person says that it infers alike; empty: nobody did.
    """
    name = like or trainer
    if not name.startswith(_BASE) or not _VARIANTS.fullmatch(name.removeprefix(_BASE)):
        raise NotImportableError(
            f"The trainer {name} is not one of nnU-Net's that infer by the plans alone, and what "
            "it changes is in its code. If it changes neither network nor inference, say so with "
            f"--trainer-like {_BASE}."
        )


def architecture_of(configuration: Configuration, channels: int, heads: int) -> ArchitectureOf:
    """Return the network that the plans describe.

    Args:
        configuration: of the plans.
        channels: of the image.
        heads: scores of a voxel.

    Raises:
        NotImportableError: a class that is not known.
    """
    described = configuration.architecture
    if described is None:
        name, arguments = _of_old_plans(configuration)
    else:
        name, arguments = str(described.get("network_class_name")), _arguments(described)
    found = next((name.removeprefix(module) for module in _MODULES if name.startswith(module)), "")
    if found not in _CLASSES:
        raise NotImportableError(
            f"The network {name} is not known. Known are {', '.join(_CLASSES)} of "
            "dynamic-network-architectures; export another one as TorchScript."
        )
    # Heads of the coarser levels are trained with, and not asked.
    arguments = {key: value for key, value in arguments.items() if key != "deep_supervision"}
    arguments = {"input_channels": channels, "num_classes": heads, **arguments}
    return ArchitectureOf(name=_UNET + found, arguments=arguments)


def _arguments(described: dict[str, Any]) -> dict[str, Any]:
    arguments = described.get("arch_kwargs")
    if not isinstance(arguments, dict):
        raise NotImportableError("plans.json: the architecture has no arch_kwargs.")
    return {str(key): value for key, value in arguments.items()}


def _of_old_plans(plan: Configuration) -> tuple[str, dict[str, Any]]:
    """Return what plans of before 2024 meant, as nnunetv2 2.8.1 reads them."""
    name = plan.UNet_class_name
    if name not in ("PlainConvUNet", "ResidualEncoderUNet"):
        raise NotImportableError(
            f"plans.json describes no architecture, and the class {name} of old plans is none of "
            "PlainConvUNet and ResidualEncoderUNet."
        )
    dimensions = len(plan.patch_size)
    per_stage = "n_conv_per_stage" if name == "PlainConvUNet" else "n_blocks_per_stage"
    stages = len(plan.n_conv_per_stage_encoder)
    features = [
        min(plan.UNet_base_num_features * 2**stage, plan.unet_max_num_features)
        for stage in range(stages)
    ]
    return _UNET + name, {
        "n_stages": stages,
        "features_per_stage": features,
        "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
        "kernel_sizes": [list(one) for one in plan.conv_kernel_sizes],
        "strides": [list(one) for one in plan.pool_op_kernel_sizes],
        per_stage: list(plan.n_conv_per_stage_encoder),
        "n_conv_per_stage_decoder": list(plan.n_conv_per_stage_decoder),
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
