"""Reading published weights: tensors by name, and never code that a file names."""

from models.building.weights.nnunet import NnunetCheckpoint, read_nnunet_checkpoint
from models.building.weights.state_dict import read_safetensors, read_state_dict
from models.building.weights.tensorflow import read_tensorflow_checkpoint
from models.building.weights.tfjs import TfjsLayer, TfjsLayers, read_tfjs_layers
from models.building.weights.torchscript import answer_of, read_torchscript

__all__ = [
    "NnunetCheckpoint",
    "TfjsLayer",
    "TfjsLayers",
    "answer_of",
    "read_nnunet_checkpoint",
    "read_safetensors",
    "read_state_dict",
    "read_tensorflow_checkpoint",
    "read_tfjs_layers",
    "read_torchscript",
]
