"""Run a sweep in this process, and print which files of `raysweep.workloads` are loaded afterwards.

python -m tests.orchestrator.sweep.loaded_modules SWEEP.toml
"""

from __future__ import annotations

import json
import sys

from raysweep import Sweep, launch


def main() -> None:
    result = launch(Sweep.load(sys.argv[1]), inline=True)
    modules = [m for name, m in list(sys.modules.items()) if name.startswith("raysweep.workloads")]
    print(json.dumps({"done": result.done, "files": [m.__file__ for m in modules]}))


if __name__ == "__main__":
    main()
