"""The DICOM conformance statement (PS3.2), rendered from the tables by which the doors decide.

`statement` is the whole document, `stow` and `tls` its chapters on STOW-RS and secure transport.
Public: `statement.render_conformance`; ``make docs`` writes it to ``docs/conformance.md``.
"""

__all__: list[str] = []
