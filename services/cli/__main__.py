"""``python -m services.cli``: the ``axial`` command without its installed script."""

from services.cli.app import main

main()
