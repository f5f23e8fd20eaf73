"""What is built and installed: the wheel and the sdist are whole, and base and each extra work alone."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import distribution, distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from system_tools import ROOT

pytestmark = [pytest.mark.extras, pytest.mark.timeout(300)]

# What cannot be imported without an extra. The rest can, with base alone.
NEEDS = {"syndarix_rt.notebook": "notebook"}

# Loads every module of the installed package; prints {module: extra asked for} and fails on any other error.
IMPORT_ALL = """
import importlib, json, pkgutil, sys
import syndarix_rt
from syndarix_rt.errors import MissingExtra
assert "site-packages" in syndarix_rt.__file__, syndarix_rt.__file__
missing = {}
def walk(package):
    for found in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        if found.name.endswith((".__main__", ".watchdog")):
            continue
        try:
            module = importlib.import_module(found.name)
        except MissingExtra as error:
            missing[found.name] = [error.extra, str(error)]
        else:
            if found.ispkg:
                walk(module)
walk(syndarix_rt)
print(json.dumps(missing))
"""


def run(*command, **kwargs):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, **kwargs)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def build(source, directory, *targets):
    run(sys.executable, "-m", "hatchling", "build", "-d", directory, *targets, cwd=source)


@pytest.fixture(scope="module")
def dist(tmp_path_factory) -> Path:
    """A directory with the wheel and the sdist of this tree."""
    directory = tmp_path_factory.mktemp("dist")
    build(ROOT, directory)
    return directory


@pytest.fixture(scope="module")
def wheel(dist) -> Path:
    return next(dist.glob("*.whl"))


def tree_files():
    """What of syndarix_rt/ must be shipped: everything but what Python makes by itself."""
    return {
        str(path.relative_to(ROOT))
        for path in (ROOT / "syndarix_rt").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    shipped = {name for name in names if not name.startswith("syndarix_rt-")}
    assert shipped == tree_files()
    kinds = {Path(name).suffix for name in shipped}
    assert {".lua", ".toml", ".html", ".js"} <= kinds
    assert "syndarix_rt/py.typed" in shipped
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_sdist_builds_the_same_wheel(dist, wheel, tmp_path):
    archive = next(dist.glob("*.tar.gz"))
    with tarfile.open(archive) as tar:
        tar.extraction_filter = getattr(tarfile, "data_filter", None)  # since Python 3.11.4
        tar.extractall(tmp_path)
    source = tmp_path / archive.name.removesuffix(".tar.gz")
    for expected in "README.md", "LICENSE", "CHANGELOG.md", "Makefile", "tests/conftest.py":
        assert (source / expected).is_file(), expected
    build(source, tmp_path / "again", "-t", "wheel")
    again = next((tmp_path / "again").glob("*.whl"))
    assert zipfile.ZipFile(again).namelist() == zipfile.ZipFile(wheel).namelist()


EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"].keys() - {"test"}


def environment(directory) -> Path:
    venv = directory / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", venv)
    return venv


def site_packages(venv) -> Path:
    return next(venv.glob("lib/python*/site-packages"))


@pytest.fixture(scope="module")
def base(wheel, tmp_path_factory) -> Path:
    """An environment with the wheel and what it depends on."""
    venv = environment(tmp_path_factory.mktemp("base"))
    pip = (sys.executable, "-m", "pip", "--python", venv / "bin" / "python")
    run(*pip, "install", "--quiet", "--no-compile", wheel, cwd=venv.parent)
    return venv


def with_extra(base, extra, directory) -> Path:
    """An environment that has what ``base`` has and what the extra asks for, from where these tests run.

    Linked in a tenth of the time that pip takes, which has installed all of them there by the same requirements.
    """
    venv = environment(directory)
    site = site_packages(venv)
    for entry in site_packages(base).iterdir():
        link(site, Path(entry.name), entry)
    for name in sorted(asked_for(site, extra)):
        there = distribution(name)
        root = Path(there.locate_file(""))
        for part in {part_of(root, Path(file)) for file in there.files if ".." not in file.parts}:
            link(site, part, root / part)
    command = venv / "bin" / "syndarix-rt"
    command.write_text((base / "bin" / command.name).read_text().replace(str(base), str(venv)))
    command.chmod(0o755)
    return venv


def part_of(root, file):
    """The largest part of a distribution with this file that is no other's, too: a package, or the file itself."""
    for part in (*reversed(file.parents[:-1]), file):
        if part.suffix in {".dist-info", ".libs"} or (root / part / "__init__.py").exists():
            return part
    return file


def link(site, part, target):
    assert not (site / part.parts[0]).is_symlink(), f"{part} is in base, too"
    (site / part).parent.mkdir(parents=True, exist_ok=True)
    (site / part).symlink_to(target)


def asked_for(site, extra):
    """What the wheel asks for with an extra, and what that asks for in turn, as far as it is not in base."""
    base = {canonicalize_name(each.name): each for each in distributions(path=[str(site)])}
    asked, todo = set(), [("syndarix-rt", extra)]
    while todo:
        one = name, its_extra = todo.pop()
        if one in asked:
            continue
        asked.add(one)
        for requirement in map(Requirement, (base.get(name) or distribution(name)).requires or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": its_extra}):
                wanted = canonicalize_name(requirement.name)
                found = base.get(wanted) or distribution(wanted)
                assert requirement.specifier.contains(found.version, prereleases=True), requirement
                todo += [(wanted, each) for each in requirement.extras or {""}]
    return {name for name, _ in asked} - base.keys()


@pytest.mark.parametrize("extra", ["base", *sorted(EXTRAS)])
def test_it_works_installed_with_one_extra_alone_and_names_the_one_that_is_missing(extra, base, tmp_path):
    venv = base if extra == "base" else with_extra(base, extra, tmp_path)
    python = venv / "bin" / "python"

    missing = json.loads(run(python, "-c", IMPORT_ALL, cwd=tmp_path))
    assert {name: asked for name, (asked, _) in missing.items()} == {
        name: needed for name, needed in NEEDS.items() if needed != extra
    }
    for asked, text in missing.values():
        assert f"pip install 'syndarix-rt[{asked}]'" in text
        assert "\n" not in text

    command = venv / "bin" / "syndarix-rt"
    assert "demo" in run(command, "--help", cwd=tmp_path)
    assert "demo_small" in run(command, "scenarios", cwd=tmp_path)
