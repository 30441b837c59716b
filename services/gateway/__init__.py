"""REST API, health and metrics of the whole. Reads the database, writes nothing.

What a caller asks to be *done* (a study is complete, a job again, a delivery again) is passed on
to the service that owns it. Entry: ``python -m services.gateway``; the description of every route
is at ``/openapi.json`` and, for people, at ``/docs``.
"""

from services.gateway.app import make_app

__all__ = ["make_app"]
