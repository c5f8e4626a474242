"""Programs for those who work on the lab; each is run with `python -m tests.tools.<name>`."""
