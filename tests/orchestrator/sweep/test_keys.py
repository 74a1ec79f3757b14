"""The table of keys is what the parser, the schema, the docs and the messages say."""

from __future__ import annotations

import os
import re

import pytest

from raysweep.orchestrator.sweep.grammar.keys import BLOCK, RESOURCES, TABLES, TOP, VALUES, plain, table
from raysweep.orchestrator.sweep.json_schema import schema
from tests.conftest import ROOT

PAGE = ROOT / "docs" / "sweeps.md"
MESSAGES = (ROOT / "tests/orchestrator/cli/malformed/sweeps.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", TABLES)
def test_the_docs_have_the_table(name: str) -> None:
    """With RAYSWEEP_REWRITE=1 the table is written into the docs."""
    text = PAGE.read_text(encoding="utf-8")
    expected = f"<!-- {name} -->\n{table(TABLES[name])}\n<!-- end -->"
    pattern = re.compile(rf"<!-- {name} -->\n.*?<!-- end -->", re.DOTALL)
    if os.environ.get("RAYSWEEP_REWRITE"):
        PAGE.write_text(text := pattern.sub(lambda _: expected, text), encoding="utf-8")
    assert pattern.findall(text) == [expected]


def test_the_schema_has_each_key_with_its_meaning() -> None:
    top = schema()["properties"]
    block, values = top["grid"]["items"]["properties"], schema()["$defs"]["values"]["properties"]
    for keys, properties in ((TOP, top), (BLOCK, block), (VALUES, values), (RESOURCES, top["resources"]["properties"])):
        shown = {name: entry["description"] for name, entry in properties.items() if entry}
        assert shown == {key.name: plain(key.doc) for key in keys}


@pytest.mark.parametrize("key", [*(f"grid[0].{key.name}" for key in BLOCK), "base", "seeds", "config", "resources"])
def test_each_key_has_a_message(key: str) -> None:
    assert re.search(rf"(?m)^error: \S+: {re.escape(key)}\b", MESSAGES)


@pytest.mark.parametrize("key", [key.name for key in VALUES])
def test_each_way_to_give_values_has_a_message(key: str) -> None:
    assert re.search(rf"(?m)^error: \S+: grid\[\d\]\.\w+\.{key}: ", MESSAGES) or f": {key} draws values" in MESSAGES


@pytest.mark.parametrize("key", [key.name for key in RESOURCES])
def test_each_resource_has_a_message(key: str) -> None:
    assert re.search(rf"(?m)^error: .*resources\.{key}\b", MESSAGES)
