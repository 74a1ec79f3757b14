"""`docs/code-map.md`: every file and folder that it names exists."""

from __future__ import annotations

import re

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "code-map.md").read_text(encoding="utf-8")
TABLES = [
    [[cell.strip() for cell in line.split("|")[1:-1]] for line in block.splitlines()[2:]]
    for block in re.findall(r"(?:^\|.*\n)+", PAGE, re.M)
]
STAGES, CHANGES = TABLES


def quoted(text: str) -> list[str]:
    return re.findall(r"`([\w./]+)`", text)


def test_every_path_exists() -> None:
    paths = [name for name in quoted(PAGE) if re.match(r"(orchestrator|workloads|analysis|tests|docs)/", name)]
    assert len(paths) > 60
    assert sorted({path for path in paths if not (ROOT / path).exists()}) == []


def test_the_files_of_each_stage_lie_in_its_folders() -> None:
    assert len(STAGES) == 9
    for stage, folders, files, _ in STAGES:
        for file in quoted(files):
            assert any((ROOT / folder / file).is_file() for folder in quoted(folders)), (stage, file)


def test_every_change_names_a_file() -> None:
    assert len(CHANGES) >= 25
    assert [change for change, place in CHANGES if not quoted(place)] == []
