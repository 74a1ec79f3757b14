"""`python -m raysweep`: the command line."""

from raysweep.orchestrator.cli.app import main

main()
