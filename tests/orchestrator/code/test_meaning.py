"""What changes the meaning of a source: all that the workload's function reaches, and nothing else."""

from __future__ import annotations

import random
import time

import pytest

from raysweep.orchestrator.code.meaning import differences
from raysweep.orchestrator.code.source import Source, decoded, encoded, module_name, source_file

W = "import a\ndef run(cell, context):\n    return a.f(cell)\n"
A = '"""Doc."""\nK = 2\n\ndef f(cell):\n    return g(cell) * K\n\ndef g(cell):\n    return 1\n'
A += "\ndef unused():\n    return 3\n"


def source(files: dict[str, str], **more: tuple[str, ...] | str) -> Source:
    every = tuple(source_file(p, p, t.encode(), module_name(p)) for p, t in files.items())
    values = {"module": "w", "roots": ("run", "Config"), **more}
    return Source("w:run", "1", files=every, **values)  # type: ignore[arg-type]


def changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    return [f"{d.file}: {d.what}" for d in differences(source(before), source(after))]


Edit = tuple[dict[str, str], str, str, str]
"""Files; the file that is edited; a text in it; what replaces it."""


def edited(files: dict[str, str], file: str, before: str, after: str) -> dict[str, str]:
    assert before in files[file]
    return {**files, file: files[file].replace(before, after)}


def helper(text: str) -> dict[str, str]:
    return {"w.py": W, "a.py": text}


BOTH = helper(A)
AB = "import a, b\n"
MAIN = A + "if __name__ == '__main__':\n    print(1)\n"
ANNOTATED = {"w.py": W.replace("(cell,", "(cell: a.C,"), "a.py": A + "class C:\n    x = 1\n"}
STAR = {"w.py": "from a import *\ndef run(cell, context):\n    return f(cell)\n", "a.py": A}
TYPES = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import b\nimport a"
COST = {"w.py": W + "def cost(method, k, config):\n    return 1\n", "a.py": A}
SAME: dict[str, Edit] = {
    "a comment": (BOTH, "a.py", "K = 2", "K = 2  # two"),
    "a docstring of a module": (BOTH, "a.py", "Doc", "Text"),
    "a docstring of a function": (BOTH, "a.py", "f(cell):\n", 'f(cell):\n    """F."""\n'),
    "layout": (BOTH, "a.py", "g(cell) * K", "(g( cell )\n     * K)"),
    "an unused function": (BOTH, "a.py", "return 3", "return 4"),
    "a new function": (BOTH, "a.py", "def g", "def more():\n    pass\n\ndef g"),
    "an unused constant": (helper(A + "T = 1\n"), "a.py", "T = 1", "T = 2"),
    "an unused class": (helper(A + "class C:\n    x = 1\n"), "a.py", "x = 1", "x = 2"),
    "an unused import": (BOTH, "w.py", "import a", "import json\nimport a"),
    "the order of imports": ({"w.py": AB + W, "a.py": A, "b.py": "B = 1\n"}, "w.py", "a, b", "b, a"),
    "the text of an error": (helper(A.replace("return 1", "raise ValueError('no')")), "a.py", "'no'", "'none'"),
    "what only an annotation names": (ANNOTATED, "a.py", "x = 1", "x = 2"),
    "what runs only as a script": (helper(MAIN), "a.py", "print(1)", "print(2)"),
    "an import for types": (BOTH, "w.py", "import a", TYPES),
    "a name that is a variable elsewhere": (
        helper(A.replace("return 1", "x = 1; return x")), "a.py", "def unused", "def x(): pass\n\ndef unused"),
    "settle and cost": (COST, "w.py", "return 1", "return 2"),
    "a star import's other names": (STAR, "a.py", "return 3", "return 4"),
}  # fmt: skip


@pytest.mark.parametrize("edit", SAME)
def test_an_edit_without_meaning_changes_nothing(edit: str) -> None:
    before, after = SAME[edit][0], edited(*SAME[edit])
    assert changed(before, after) == []
    assert changed(after, before) == []


def test_a_helper_may_move() -> None:
    assert changed(BOTH, {"w.py": W.replace("import a", "import p.b as a"), "p/__init__.py": "", "p/b.py": A}) == []


TWICE = "def twice(f):\n    return lambda c: f(c) * 2\n@twice\ndef f(cell):\n    return 1\n"
BASE = "class B:\n    def h(self):\n        return 1\nclass C(B):\n    pass\ndef f(cell):\n    return C().h()\n"
INSIDE = {"w.py": "def run(cell, context):\n    from a import f\n    return f(cell)\n", "a.py": A}
UNUSED = {"w.py": W, "a.py": "import b\n" + A, "b.py": "import sys\nsys.setrecursionlimit(100)\n"}
REGISTER = "TABLE = {}\ndef register(f):\n    TABLE[f.__name__] = f\n    return f\n@register\n"
SUBCLASS = "class B:\n    def __init_subclass__(cls):\n        B.all = cls\nclass C(B):\n    x = 1\n"
COMPUTED = "import importlib\ndef f(cell):\n    return importlib.import_module('b').h()\n"
GETATTR = {"w.py": "import a\ndef run(cell, context):\n    return getattr(a, cell.method)()\n", "a.py": A}
BY_TEXT = {"w.py": W, "a.py": "from lib import load\ndef f(cell):\n    return load('p.b:h')\n", "p/__init__.py": ""}
H = "def h():\n    return 1\n"
CAUGHT = "def f(cell):\n    try:\n        g()\n    except ValueError as error:\n        return str(error)\n"
FROM_B = {"w.py": W, "a.py": "from b import g\n" + A.replace("def g", "def h"), "b.py": A, "c.py": A.replace("1", "2")}
TRY = "try:\n    import numba\nexcept ImportError:\n    K = 1\nelse:\n    K = 2\ndef f(cell):\n    return K\n"
PATCH = "import math\nmath.pi = 3\ndef f(cell):\n    return math.pi\n"
EFFECTS = {"w.py": AB + "def run(cell, context):\n    return 1\n", "a.py": "print(1)\n", "b.py": "print(2)\n"}
LATE = {"w.py": "run = 1\ndel run\nfrom a import *\n", "a.py": "def run(c, x):\n    return 1\n"}
ONE_TO_TWO = ("return 1", "return 2")
CHANGED: dict[str, tuple[dict[str, str], str, str, str, list[str]]] = {
    "a called helper": (BOTH, "a.py", *ONE_TO_TWO, ["a.py: function g"]),
    "a constant": (BOTH, "a.py", "K = 2", "K = 3", ["a.py: K"]),
    "the function itself": (BOTH, "w.py", "f(cell)", "f(cell) + 1", ["w.py: function run"]),
    "a default": (helper(A.replace("g(cell):", "g(cell, x=1):")), "a.py", "x=1", "x=2", ["a.py: function g"]),
    "Config": ({**BOTH, "w.py": W + "class Config:\n    x: int = 1\n"}, "w.py", "= 1", "= 2", ["w.py: class Config"]),
    "a base class": (helper(BASE), "a.py", *ONE_TO_TWO, ["a.py: class B"]),
    "what a decorator does": (helper(TWICE), "a.py", "* 2", "* 3", ["a.py: function twice"]),
    "a helper imported in a function": (INSIDE, "a.py", *ONE_TO_TWO, ["a.py: function g"]),
    "code at import": (helper(A + "import numpy\nnumpy.random.seed(1)\n"), "a.py", "seed(1)", "seed(2)",
                       ["a.py: module-level code"]),
    "code at import of an unused module": (UNUSED, "b.py", "100", "200", ["b.py: module-level code"]),
    "an unknown call at import": (helper(A + "def setup(): pass\nSTATE = setup()\n"), "a.py", "pass", "print()",
                                  ["a.py: function setup"]),
    "a registering decorator": (helper(REGISTER + H + "def f(cell):\n    return TABLE['h']()\n"), "a.py", *ONE_TO_TWO,
                                ["a.py: function h"]),
    "a registering base class": (helper(SUBCLASS + "def f(cell):\n    return B.all.x\n"), "a.py", "x = 1", "x = 2",
                                 ["a.py: class C"]),
    "a computed import": ({**helper(COMPUTED), "b.py": H}, "b.py", *ONE_TO_TWO, ["b.py: file"]),
    "getattr of a module": (GETATTR, "a.py", "return 3", "return 4", ["a.py: function unused"]),
    "globals()": (helper(H + "def f(cell):\n    return globals()['h']()\n"), "a.py", *ONE_TO_TWO, ["a.py: function h"]),
    "a module named by a text": ({**BY_TEXT, "p/b.py": H}, "p/b.py", *ONE_TO_TWO, ["p/b.py: file"]),
    "a docstring that is read": (helper('def f(cell):\n    """1"""\n    return len(f.__doc__)\n'), "a.py", "1", "12",
                                 ["a.py: file"]),
    "an error whose text is read": (helper("def g():\n    raise ValueError('1')\n" + CAUGHT), "a.py", "'1'", "'2'",
                                    ["a.py: function g"]),
    "the kind of an error": (helper(A.replace("return 1", "raise ValueError")), "a.py", "ValueError", "KeyError",
                             ["a.py: function g"]),
    "another module under the name": ({**BOTH, "b.py": A.replace("return 1", "return 9")}, "w.py", "import a",
                                      "import b as a", ["b.py: function g"]),
    "a name from another module": (FROM_B, "a.py", "from b", "from c", ["c.py: function g"]),
    "another installed module": (helper("import numpy as m\n" + A.replace("return 1", "return m.x")), "a.py", "numpy",
                                 "scipy", ["a.py: name m", "w.py: imports"]),
    "a condition at import": (helper(TRY), "a.py", "K = 1", "K = 3", ["a.py: module-level code"]),
    "a patch of another module": (helper(PATCH), "a.py", "= 3", "= 4", ["a.py: module-level code"]),
    "the order of effects": (EFFECTS, "w.py", "a, b", "b, a", ["w.py: order of imports"]),
    "a file that is not Python": (helper("def f(cell:\n    1\n"), "a.py", "1", "2", ["a.py: file"]),
    "a function behind a star": (LATE, "a.py", *ONE_TO_TWO, ["a.py: function run"]),
}  # fmt: skip


@pytest.mark.parametrize("edit", CHANGED)
def test_an_edit_with_meaning_is_found_and_named(edit: str) -> None:
    *case, parts = CHANGED[edit]
    before, after = case[0], edited(*case)  # type: ignore[misc,arg-type]
    assert sorted(changed(before, after)) == parts  # type: ignore[arg-type]
    assert changed(after, before)  # type: ignore[arg-type]


def test_the_chain_leads_from_the_function_to_the_change() -> None:
    before, after = BOTH, edited(BOTH, "a.py", *ONE_TO_TWO)
    (found,) = differences(source(before), source(after))
    assert found.chain == ("w.py: function run", "a.py: function f")
    assert (found.before, found.after) == ("def g(cell):\n    return 1", "def g(cell):\n    return 2")


def test_a_program_starts_at_its_script() -> None:
    script = "import a\nif __name__ == '__main__':\n    print(a.f(1))\n"
    more = {"module": "", "roots": (), "mains": ("train",)}
    files = {"train.py": script, "a.py": A, "data.csv": "1"}

    def found(**edits: str) -> list[str]:
        after = {**files, **{name.replace("_", "."): text for name, text in edits.items()}}
        return [f"{d.file}: {d.what}" for d in differences(source(files, **more), source(after, **more))]

    assert found(a_py=A.replace("return 3", "return 4")) == []
    assert found(a_py=A.replace("return 1", "return 2")) == ["a.py: function g"]
    assert found(train_py=script.replace("f(1)", "f(2)")) == ["train.py: module-level code"]
    assert found(data_csv="2") == ["data.csv: file"]


def test_the_value_of_a_global_of_a_notebook_is_no_docstring() -> None:
    parts = {"__main__:run": "def run(c, x):\n    return S\n", "__main__:S": "2.0", "__main__:NAME": "'a'"}

    def found(**edits: str) -> list[str]:
        after = {**parts, **{f"__main__:{name}": text for name, text in edits.items()}}
        sides = (
            Source("__main__:run", "1", "__main__", ("run",), tuple(
                source_file(name, f"__main__/{name[9:]}.py", text.encode(), f"__main__.{name[9:]}")
                for name, text in each.items()))
            for each in (parts, after)
        )  # fmt: skip
        return [difference.file for difference in differences(*sides)]

    assert found(S="3.0") == ["__main__/S.py"]
    assert found(NAME="'b'") == ["__main__/NAME.py"]
    assert found(run='def run(c, x):\n    """Doc."""\n    return S  # 2\n') == []


def test_a_source_comes_back_from_its_text() -> None:
    whole = source({"w.py": W, "a.py": A})
    assert decoded(encoded(whole)) == whole
    binary = Source(
        "$ ./x", "1", "", (), (source_file("x", "x", b"\xff\0"), source_file("big", "big", bytes(2**20 + 1)))
    )
    back = decoded(encoded(binary))
    assert back == binary
    assert back.digest() is None  # a content is missing
    with pytest.raises(ValueError, match="differs from its digest"):
        decoded(encoded(whole).replace(b"return 3", b"return 4"))
    for text in (b"[]", b"{}", b'{"files": 1}', b"\xff"):
        with pytest.raises(ValueError, match=r"Error|delimiter|decode|codec|Expecting"):
            decoded(text)


def test_a_large_source_is_compared_in_seconds() -> None:
    generator = random.Random(1)
    body = "".join(
        f"def f{i}(x):\n    return {' + '.join(f'f{generator.randrange(i)}(x)' for _ in range(3)) if i else 'x'}\n"
        for i in range(2000)
    )
    before = source({"w.py": body + "def run(cell, context):\n    return f1999(1)\n"})
    after = source({"w.py": body.replace("else x", "x") + "# \ndef run(cell, context):\n    return f1999(1)\n"})
    began = time.process_time()
    assert differences(before, after) == []
    assert time.process_time() - began < 5
