"""`python -m flows.cli` is `ti`."""

from flows.cli import main

main()
