"""Builders of real DICOM for tests: sound series, deliberately broken ones, and odd objects.

Everything is written by the product's own series writer and then edited with pydicom, so that a
test works on files as a scanner sends them. Public: see the modules `series`, `broken_series` and
`network`.
"""
