"""The pipeline inside Triton: arrays in, arrays out.

Orientation, resampling, intensity, the two-stage scheme, components and holes, driven by a
model's manifest; networks behind one protocol (OpenVINO on CPU, TensorRT plans through Triton,
torch on a GPU). No DICOM, no database, no HTTP; no torch on CPU nodes. What it must equal and
what it may cost is measured by `tests/benchmarks/whole_pipeline.py`.

Modules are imported by name (`models.runtime.pipeline`), so that using one part does not load
the tools of another.
"""

__all__: list[str] = []
