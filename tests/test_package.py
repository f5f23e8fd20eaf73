"""The package as a whole: the names relied on from outside, and that what they need is shipped."""

import ast
import importlib
import importlib.metadata
import pkgutil
import tomllib

import pytest
from system_tools import ROOT

import syndarix_rt

MODULES = sorted(module.name for module in pkgutil.walk_packages(syndarix_rt.__path__, "syndarix_rt."))

# DESIGN: Python names relied on from outside.
FIXED = {
    "syndarix_rt": ["Event", "EventId", "Gap", "Scenario", "Simulation", "validate", "MemoryBroker"],
    "syndarix_rt.broker": ["RedisBroker"],
    "syndarix_rt.delivery.sse": ["Decoder", "Frame", "encode"],
    "syndarix_rt.client": ["EventStream"],
    "syndarix_rt.server": ["create_app"],
    "syndarix_rt.notebook": ["Workbench", "Dashboard"],
}


@pytest.mark.parametrize("module", FIXED)
def test_the_names_relied_on_from_outside_are_there_and_listed(module):
    loaded = importlib.import_module(module)
    for name in FIXED[module]:
        assert getattr(loaded, name)
        assert name in loaded.__all__


def test_a_name_that_is_not_there_is_an_ordinary_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'Nonsense'"):
        syndarix_rt.Nonsense  # noqa: B018 - the access is the test


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith((".watchdog", ".__main__"))])
def test_what_a_module_lists_is_there(name):
    module = importlib.import_module(name)
    listed = getattr(module, "__all__", [])
    assert not [public for public in listed if not hasattr(module, public)]
    assert len(listed) == len(set(listed))


def test_every_error_raised_on_purpose_stands_in_the_tree_of_the_docstring():
    errors = importlib.import_module("syndarix_rt.errors")
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), errors.SyndarixError)
        assert f":exc:`{name}`" in errors.__doc__


def test_the_version_stands_in_one_place():
    assert importlib.metadata.version("syndarix-rt") == syndarix_rt.__version__
    assert syndarix_rt.__version__ in (ROOT / "CHANGELOG.md").read_text()


def test_types_are_shipped():
    assert (ROOT / "syndarix_rt" / "py.typed").is_file()


def test_the_environment_file_asks_for_what_the_package_says():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = (ROOT / "environment.yml").read_text().splitlines()
    wanted = [line.partition(" #")[0].strip().removeprefix("- ") for line in lines[lines.index("dependencies:") + 1 :]]
    jupyterlab = next(package for package in extras["test"] if package.startswith("jupyterlab>="))
    assert wanted == [
        f"python {project['requires-python']}",
        "pip",
        jupyterlab.replace(">=", " >="),
        "pip:",
        "-e .[notebook,analysis]",
    ]
    assert {"notebook", "analysis"} <= {*extras}


def test_no_test_skips_itself_or_is_expected_to_fail():
    """A missing system tool skips through `system_tools`, a platform through ``skipif``; nothing else does."""
    for path in (ROOT / "tests").glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                assert node.attr not in {"skip", "xfail", "importorskip"}, f"{path.name}:{node.lineno}"
