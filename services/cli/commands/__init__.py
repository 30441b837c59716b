"""One module per command; each is a typer function and its presentation."""
