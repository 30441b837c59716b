"""What results copy and refer to: the source series, proven to be one grid and one patient's.

`series` (`SourceSeries`, `load_source`, `source_series`) reads the headers that were kept and the
first instance's head, and examines the geometry once more; `patients` compares whose images they
are. `references` says how objects name the source's planes, `modules` copies patient and study
attributes byte for byte, `validity` judges whether an attribute may be copied, and `stand_ins`
shows planes to highdicom. Nothing here knows what is written of it.
"""
