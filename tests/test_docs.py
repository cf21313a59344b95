"""The documentation is tested: its Python runs, README shows what really comes out, every verb is listed."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

from lamina.cli.app import app

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
PYTHON = [(page, n) for page in PAGES for n in range(len(BLOCK.findall(page.read_text())))]


def _run(page: Path, number: int) -> str:
    code = BLOCK.findall(page.read_text())[number]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, f"{page.name}[{number}]", "exec"), {"__name__": "docs"})
    return printed.getvalue()


@pytest.mark.parametrize(("page", "number"), PYTHON, ids=lambda value: getattr(value, "name", str(value)))
def test_python_blocks_run(page: Path, number: int) -> None:
    _run(page, number)


def test_readme_prints_what_it_says() -> None:
    readme = (ROOT / "README.md").read_text()
    shown = re.search(r"^prints\n\n```text\n(.*?)```", readme, re.M | re.S)
    assert shown is not None
    assert _run(ROOT / "README.md", 0) == shown[1]


def test_every_verb_is_in_the_docs() -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    verbs = [command.name for command in app.registered_commands]
    assert verbs and not [verb for verb in verbs if f"`lamina {verb}" not in page]


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page.is_relative_to(ROOT / "docs")}
    assert not {page for page in pages if page not in navigation}


def test_links_lead_somewhere() -> None:
    broken = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            if not (page.parent / target).exists():
                broken.append(f"{page.name}: {target}")
    assert not broken


def test_every_dependency_is_justified() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    page = (ROOT / "docs" / "dependencies.md").read_text().lower()
    wanted = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    names = {re.split(r"[\[<>=~! ]", requirement)[0].lower() for requirement in wanted}
    assert not {name for name in names if name not in page}
