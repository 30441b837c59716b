"""The pipeline inside Triton: arrays in, arrays out.

The steps of a model's plan (`steps`), one file each, over images that move no voxel before a step
needs its value; separable interpolation as matrices, tiles, and merging in slabs; networks behind
two protocols (OpenVINO on CPU, TensorRT plans through Triton, torch on a GPU). No DICOM, no
database, no HTTP; no torch on CPU nodes. What it must equal and what it may cost is measured by
`tests/benchmarks/whole_pipeline.py`.

Modules are imported by name (`models.runtime.pipeline`), so that using one part does not load
the tools of another.
"""

__all__: list[str] = []
