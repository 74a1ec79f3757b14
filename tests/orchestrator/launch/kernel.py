"""A notebook's kernel in miniature: cells run in `__main__`, and their source is where IPython puts it.

python -m tests.orchestrator.launch.kernel inline|processes     prints one JSON line for each launch
"""

from __future__ import annotations

import json
import linecache
import sys
from typing import Any

CELLS = [
    """
from pydantic import BaseModel
import near
from raysweep import Store, launch
SCALE = 2.0
class Config(BaseModel, frozen=True, extra="forbid"):
    rate: float = 0.5
class Model:
    def step(self, x):
        return SCALE * x
def shift(x):
    return near.SHIFT + x
def run(cell, context):
    return {"value": shift(Model().step(cell.seed)) * cell.config.rate}
""",
    "again(3)",
    "def shift(x):\n    return near.SHIFT + 2 * x\n",  # a function that it calls
    "again(4)",
    "SCALE = 3.0",  # a global that a method reads
    "again(5)",
    "def unused(x):\n    return SCALE\nOTHER = 1\n",
    "again(6)",
    "class Model:\n    def step(self, x):\n        return SCALE * x + 0\n",
    "again(7)",
]


def main() -> None:
    import raysweep

    space = vars(sys.modules["__main__"])

    def again(seeds: int) -> None:
        result = raysweep.launch(space["run"], grid={"rate": [0.5]}, seeds=range(seeds), inline=sys.argv[1] == "inline")
        table = raysweep.Store().sql("SELECT seed, value FROM cells WHERE status = 'done'")
        values: dict[Any, Any] = dict(table.iter_rows())
        print(json.dumps({"ran": result.ran, "changed": result.changed, "last": values.get(seeds - 1)}), flush=True)

    space["again"] = again
    for number, text in enumerate(CELLS):
        file = f"<ipython-input-{number}>"
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
        exec(compile(text, file, "exec"), space)


if __name__ == "__main__":
    main()
