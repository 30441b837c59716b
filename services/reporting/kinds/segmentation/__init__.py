"""The segmentation: labels as a DICOM Segmentation object (PS3.3 A.51).

`writing` (`encode_segmentation`) makes the object, with `packing` for the bits of its frames;
`checking` (`check_segmentation`) reads the file back and compares every voxel with the labels.
"""
