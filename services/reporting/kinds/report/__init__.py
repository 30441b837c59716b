"""The structured report: measurements as a Comprehensive 3D SR, TID 1500 (PS3.16).

`writing` (`encode_report`, `Context`) makes the document, with `regions` for outlines in a key
slice and `predecessor` for the report that a new one replaces; `checking` (`check_report`) reads
the file back by way of `reading` and computes every number anew.
"""
