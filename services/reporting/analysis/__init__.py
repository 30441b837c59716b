"""What is known of a job once its labels were read: counts, measurements, what to say of them.

`analysis` (`Analysis`) is the value that every kind of result is written from and checked against;
`measure` counts voxels and computes quantities, `plausibility` compares them with the manifest's
ranges and segments with the edges of what was imaged. Nothing here knows an object of DICOM.
"""
