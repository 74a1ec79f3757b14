"""`python -m raysweep`, and the installed command: the command line."""

import os
import signal
from types import FrameType


def _quit(number: int, frame: FrameType | None) -> None:
    os._exit(130)


def main() -> None:
    """Run the command line. A signal that arrives before it has begun ends the process as documented: 130."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as by `nohup`
            signal.signal(number, _quit)
    from raysweep.orchestrator.cli.app import main as run

    run()


if __name__ == "__main__":
    main()
