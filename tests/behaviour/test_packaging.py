import email
import hashlib
import os
import platform
import re
import runpy
import subprocess
import sys
import tarfile
import tomllib
import zipfile

import pytest
from places import ROOT

import backtest
from backtest.cli.app import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(built):
    """Return the names of the wheel's files."""
    (path,) = built[0].glob("*.whl")
    return set(zipfile.ZipFile(path).namelist())


def test_the_wheel_installs_no_name_but_backtest(wheel):
    assert {name.split("/")[0] for name in wheel} == {"backtest", f"ib_backtest-{backtest.__version__}.dist-info"}


def test_the_page_of_an_index_has_the_readme_and_no_link_that_needs_a_file_beside_it(built):
    (path,) = built[0].glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    page = metadata.get_payload()

    assert metadata["Description-Content-Type"] == "text/markdown"
    assert "backtest download AAPL/1day" in page
    assert [link for link in re.findall(r"\]\(([^)]+)\)", page) if not link.startswith(("https://", "#"))] == []


PAGE = "![picture](.github/report.png) [design](docs/design.md#rooms) [a](https://example.com) [b](#here)"


@pytest.mark.parametrize(
    ("repository", "shown"),
    [
        ("", " design [a](https://example.com) [b](#here)"),
        (
            "https://example.org/us/",
            "![picture](https://example.org/us/raw/v1.2/.github/report.png) "
            "[design](https://example.org/us/blob/v1.2/docs/design.md#rooms) [a](https://example.com) [b](#here)",
        ),
    ],
)
def test_links_to_files_lead_to_the_repository_or_are_their_words(repository, shown):
    published = runpy.run_path(str(ROOT / ".ci" / "readme.py"))["published"]

    assert published(PAGE, repository, "1.2") == shown


def test_the_wheel_carries_all_that_the_demo_needs(wheel):
    sample = {path.relative_to(ROOT / "data") for path in (ROOT / "data" / "sample").rglob("*") if path.is_file()}

    assert {f"backtest/_bundled/{path}" for path in sample} <= wheel
    assert {f"backtest/_bundled/strategies/{name}.py" for name in ("buy_and_hold", "sma_cross")} <= wheel
    assert {"backtest/report/templates/report.html", "backtest/py.typed", "backtest/README.md"} <= wheel


def test_the_wheel_has_every_module(wheel):
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "backtest").rglob("*.py")}

    assert modules <= wheel


def test_the_wheel_has_every_file_of_the_templates(wheel):
    templates = {path for path in (ROOT / "backtest").glob("*/templates/**/*") if path.is_file()}
    kept = {str(path.relative_to(ROOT)) for path in templates if "__pycache__" not in path.parts}

    assert kept <= wheel
    assert "backtest/onboarding/templates/every/.github/workflows/strategies.yml" in kept


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build both archives here, and again from the unpacked source archive, elsewhere, later and by a wary user."""
    first, second, other = (tmp_path_factory.mktemp(name) for name in ("first", "second", "other"))
    build(ROOT, first)
    with tarfile.open(next(first.glob("*.tar.gz"))) as archive:
        archive.extractall(other, filter="data")
    (unpacked,) = other.iterdir()
    for path in (path for path in unpacked.rglob("*") if path.is_file()):
        path.chmod(0o700 if path.stat().st_mode & 0o100 else 0o600)
        os.utime(path, (2_000_000_000, 2_000_000_000))
    build(unpacked, second)
    return first, second, unpacked


def build(folder, out, **environment):
    words = [sys.executable, "-m", "hatchling", "build", "-d", str(out)]
    subprocess.run(words, cwd=folder, env={**os.environ, **environment}, check=True, capture_output=True)


def hashes(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_two_builds_at_other_times_in_other_folders_are_the_same_bytes(built):
    first, second, _ = built

    assert hashes(first) == hashes(second)
    assert len(hashes(first)) == 2


def test_a_build_for_a_given_time_is_the_same_bytes_too_and_bears_it(built, tmp_path):
    first, _, unpacked = built
    for name, folder in (("here", ROOT), ("there", unpacked)):
        build(folder, tmp_path / name, SOURCE_DATE_EPOCH="1700000000")

    assert hashes(tmp_path / "here") == hashes(tmp_path / "there")
    assert not set(hashes(tmp_path / "here").values()) & set(hashes(first).values())


def test_the_list_of_what_is_brought_along_is_complete_and_pinned():
    made = runpy.run_path(str(ROOT / ".ci" / "sbom"))["document"]()
    names = [part["name"] for part in made["components"]]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = (ROOT / ".ci" / "constraints.txt").read_text()

    assert {re.split("[>=]", one)[0].replace("_", "-") for one in project["dependencies"]} <= set(names)
    assert "pytest" not in names
    for part in made["components"]:
        (place,) = part["externalReferences"]
        assert f"\n{part['name']}=={part['version']} " in pinned
        assert all(f"--hash=sha256:{one['content']}" in pinned for one in place["hashes"])
        (words,) = part["licenses"]
        assert "not said" not in str(words)


def test_the_list_of_what_is_brought_along_refers_to_nothing_that_is_not_in_it():
    made = runpy.run_path(str(ROOT / ".ci" / "sbom"))["document"]()
    known = {part["bom-ref"] for part in [made["metadata"]["component"], *made["components"]]}

    assert {one["ref"] for one in made["dependencies"]} == known
    assert {other for one in made["dependencies"] for other in one["dependsOn"]} == known - {
        made["metadata"]["component"]["bom-ref"]
    }


def test_the_version_is_that_of_the_project():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    assert backtest.__version__ == version


def test_the_command_line_tells_its_version_and_what_decides_on_results(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])

    assert not ended.value.code
    said = capsys.readouterr().out
    assert said.startswith(
        f"backtest {backtest.__version__} (Python {platform.python_version()}, backtrader 1.9.78.123, "
    )
    assert re.search(r"ib_(insync|async) \d", said)


def test_the_citation_names_the_version_and_the_licence_of_the_package():
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    lines = (ROOT / "CITATION.cff").read_text("utf-8").splitlines()
    cited = dict(line.split(": ", 1) for line in lines if ": " in line and not line.startswith(" "))

    assert (cited["version"], cited["license"]) == (project["version"], project["license"])
