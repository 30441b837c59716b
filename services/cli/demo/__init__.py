"""The demonstration: a real head in, a segmentation, a report and a picture out.

Every part is the real one; the PACS is a stand-in. It is the first thing that a new user runs,
and it ends in a failure when any stage fails.
"""
