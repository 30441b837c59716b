"""What every service stands on.

Settings, telemetry, the database, the study store, identity (UIDs and digests), lifecycles, and
the one list of fates and reasons. It knows no service and no pixels. Import the modules; this
folder has no names of its own.
"""
