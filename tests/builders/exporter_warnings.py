"""What PyTorch's exporter for TorchScript, which weights come in, warns of; each by its name."""

from __future__ import annotations

import pytest

EXPORTER_WARNS = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    # Of sizes that become constants, which is wanted.
    "ignore::torch.jit.TracerWarning",
    "ignore:no signature found:UserWarning",
    "ignore:ONNX export mode is set:UserWarning",
    "ignore:Constant folding:UserWarning",
)
