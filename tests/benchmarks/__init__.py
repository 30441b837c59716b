"""Every figure that is asked for, measured beside its peer in the same run."""
