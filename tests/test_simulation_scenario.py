"""`Scenario`: from presets, files and Python; a wrong one gets one clear line with key, unit and what was meant."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syndarix_rt import Scenario
from syndarix_rt.errors import ScenarioError
from syndarix_rt.simulation import presets
from syndarix_rt.simulation.laws import Constant, Lognormal, Mixture, Weibull
from syndarix_rt.simulation.settings import (
    Agents,
    CiOutage,
    PoissonArrivals,
    Project,
    ProviderBrownout,
    ReplayArrivals,
    ShapeStep,
    WeibullArrivals,
)

# ---- presets ------------------------------------------------------------------------------------------------------


def test_presets_are_listed_with_what_to_look_for():
    listed = presets()
    assert {"demo_small", "steady_sprint"} <= set(listed)
    assert all(20 < len(line) < 130 and "\n" not in line for line in listed.values())


def test_a_scenario_that_extends_another_has_its_luck(tmp_path):
    (tmp_path / "mine.toml").write_text('extends = "bursty_arrivals"\nissues.rate_per_h = 1', encoding="utf-8")
    for scenario in (Scenario.preset("bursty_arrivals"), Scenario.load(tmp_path / "mine.toml")):
        assert (
            scenario.projects[0].random_key
            == "steady_sprint"
            == Scenario.preset("steady_sprint").projects[0].random_key
        )
        assert Scenario.from_toml(scenario.to_toml(), name=scenario.name) == scenario
    with pytest.raises(ScenarioError, match=r"^random_key: belongs into each of the \[\[projects\]\]$"):
        Scenario.from_toml('random_key = "x"\n[[projects]]\nname = "apollo"')
    several = Scenario.from_toml('extends = "bursty_arrivals"\n[[projects]]\nname = "apollo"')
    assert several.projects[0].random_key == "apollo"


@pytest.mark.parametrize("name", presets())
def test_a_preset_plays_into_any_project(name):
    scenario = Scenario.preset(name)
    assert scenario.name == name
    if name == "multi_tenant":  # it plays into fifty
        with pytest.raises(ScenarioError, match=r"has several projects \(tenant-01, tenant-02, "):
            scenario.for_project("apollo")
    else:
        assert [project.name for project in scenario.projects] == [name]
        assert scenario.for_project("apollo").projects[0].name == "apollo"


def test_steady_sprint_has_the_load_of_its_analytic_target():
    (project,) = Scenario.preset("steady_sprint").projects
    assert (project.issues.rate_per_h, project.issues.arrivals) == (2, PoissonArrivals())
    assert project.agents.developers == 5


# ---- files --------------------------------------------------------------------------------------------------------


def test_a_file_names_only_what_differs_from_the_defaults():
    scenario = Scenario.from_toml("[runs]\ncalls.median = 12")
    runs = scenario.projects[0].runs
    assert runs.calls.median == 12
    assert runs.calls.sigma == Project(name="x").runs.calls.sigma
    assert scenario.horizon_h is None


def test_keys_of_the_file_hold_for_every_project_unless_it_says_otherwise():
    scenario = Scenario.from_toml(
        """
        speed = 10
        [agents]
        developers = 3
        testers = 0
        [[projects]]
        name = "apollo"
        agents.developers = 7
        issues.rate_per_h = 6
        [[projects]]
        name = "hermes"
        """
    )
    apollo, hermes = scenario.projects
    assert (apollo.agents, apollo.issues.rate_per_h) == (Agents(developers=7, testers=0), 6)
    assert hermes.agents == Agents(developers=3, testers=0)
    assert scenario.speed == 10


def test_load_takes_a_preset_or_a_path(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("speed = 5", encoding="utf-8")
    assert Scenario.load("demo_small") == Scenario.preset("demo_small")
    assert Scenario.load(path) == Scenario.load(str(path))
    spaced = path.rename(tmp_path / "my own (1).toml")
    assert Scenario.load(spaced).projects[0].name == "my-own-1-"
    path = spaced.rename(path)
    assert (Scenario.load(path).name, Scenario.load(path).speed) == ("mine", 5)


# ---- errors -------------------------------------------------------------------------------------------------------

WRONG = {
    "[issues]\nrate_per_h = -2": "issues.rate_per_h: expected number >= 0.0 (per hour), not -2",
    "[issues]\nrate_per_h = '2/h'": "issues.rate_per_h: expected number, got text (per hour), not '2/h'",
    "[issues]\nrate = 2": "issues.rate: unknown key; did you mean 'rate_per_h' (per hour)?",
    "[issues]\nrate_per_h = inf": "issues.rate_per_h: expected number <= 1000000000.0 (per hour), not inf",
    "[issues]\nrate_per_h = nan": "issues.rate_per_h: expected number >= 0.0 (per hour), not nan",
    "[issues]\narrivals.process = 'possion'": "issues.arrivals.process: expected one of poisson, gamma, weibull, "
    "mmpp2, replay, not 'possion'; did you mean 'poisson'?",
    "[issues.arrivals]\nprocess = 'poisson'\nshape = 1": "issues.arrivals.shape: unknown key; known here: none",
    "[issues]\narrivals.shape = -1": "issues.arrivals.shape: expected number >= 0.1, not -1",
    "[issues]\narrivals = 'poisson'": "issues.arrivals: expected table, as in { process = \"poisson\" }, not 'poisson'",
    "[issues]\narrivals.process = 'gamma'": "issues.arrivals.cv: is missing",
    "[issues]\nshape = [{ from_h = 2, factor = 1 }, { from_h = 1, factor = 2 }]": "issues.shape: must ascend; 1 comes "
    "after 2",
    "[issues]\nshape = [{ from = 2, factor = 1 }]": "issues.shape[0].from: unknown key; did you mean 'from_h' (hours)?",
    "[issues]\ncalendar.weekdays = [1, 1]": "issues.calendar.weekdays: expected list of length >= 7, not [1, 1]",
    "[issues]\narrivals = { process = 'replay', times_h = [2, 1] }": "issues.arrivals.times_h: must ascend; 1 comes "
    "after 2",
    "[issues]\ncalendar.weekdays = [0, 0, 0, 0, 0, 0, 0]": "issues.calendar.weekdays: must have a weight above 0",
    "faults = [{ kind = 'ci_outage', minutes = 3 }]": "faults[0]: needs at_h: hours since the start",
    "faults = [{ at_h = 1, minutes = 3 }]": "faults[0]: needs 'kind': one of ci_outage, provider_brownout, "
    "incident_storm",
    "faults = [{ kind = 'ci_outag' }]": "faults[0].kind: expected one of ci_outage, provider_brownout, incident_storm, "
    "not 'ci_outag'; did you mean 'ci_outage'?",
    "[[faults]]\nkind = 'ci_outage'\nat_h = -1\nminutes = 3": "faults[0].at_h: expected number >= 0.0 (hours), not -1",
    "[runs]\nllm = 3": "runs.llm: unknown key; did you mean 'llm_s' (seconds)?",
    "[runs]\nllm_s = 3": 'runs.llm_s: expected table, as in { law = "constant", value = 3 }, not 3',
    "[runs]\nllm_s = { law = 'lognorml' }": "runs.llm_s.law: expected one of lognormal, exponential, weibull, gamma, "
    "constant, mixture, empirical, not 'lognorml'; did you mean 'lognormal'?",
    "[runs]\nllm_s = { law = 'weibull', scale = 3 }": "runs.llm_s.shape: is missing",
    "[provider]\ntokens = 3": "provider.tokens: unknown key; did you mean 'tokens_per_min' (per minute)?",
    "[approvals]\noffice = { from_h = 17, to_h = 9 }": "approvals.office.to_h: must be later than from_h, 17, not 9",
    "[approvals]\noffice.days = [7]": "approvals.office.days[0]: expected whole number <= 6, not 7",
    "agents.steps = [{ at_h = 1, developer = 3 }]": "agents.steps[0].developer: unknown key; did you mean 'developers",
    "agents.testers = 0\nagents.steps = [{ at_h = 1, testers = 3 }]": "agents.steps[0].testers: the role has no agents",
    "extends = 'demo_smal'": "extends: unknown preset 'demo_smal'; did you mean 'demo_small'?",
    "extends = 3": "extends: expected text: a name or a file",
    "extends = 'absent.toml'": "absent.toml: cannot be read: No such file",
    "profile = 'copilott'": "profile: unknown profile 'copilott'; did you mean 'copilot'?",
    "allow_overload = 'yes'": "allow_overload: expected boolean, got text, not 'yes'",
    "name = 'a'\n[issues\n": "scenario: not TOML: Expected ']' at the end of a table declaration (at line 2, column 8)",
    "[agents]\ndevelopper = 3": "agents.developper: unknown key; did you mean 'developers'?",
    "[agents]\ndevelopers = 0": "agents.developers: expected whole number >= 1, not 0",
    "[agents]\ndevelopers = 2.5": "agents.developers: expected whole number, got number, not 2.5",
    "agents = 3": "agents: expected table, got whole number, not 3",
    "[agent]\ndevelopers = 3": "agent: unknown key; did you mean 'agents'?",
    "horizon = 2": "horizon: unknown key; did you mean 'horizon_h' (hours)?",
    "speed = 0": "speed: expected number > 0.0, not 0",
    "[changes]\nrework_share = 40": "changes.rework_share: expected number <= 1.0 (a share from 0 to 1), not 40",
    "[runs]\nllm_s.median = -1": "runs.llm_s.median: expected number > 0.0 (seconds), not -1",
    "[runs]\nllm_s.mean = 1": "runs.llm_s.mean: unknown key; did you mean 'median'?",
    "[runs]\nfirst_context_tokens = 300_000": "runs.first_context_tokens: must be at most window_tokens, 200000",
    "[[projects]]\nname = 'a b'": "projects[0].name: must be 1 to 64 of letters, digits, '_' and '-', not 'a b'",
    "[[projects]]\nname = 'a'\n[[projects]]\nname = 'a'": "projects: two projects are named 'a'",
    "[[projects]]\nname = 'a'\nagents.testers = -1": "projects[0].agents.testers: expected whole number >= 0, not -1",
    "[[projects]]\nissues.rate_per_h = 1": "projects[0].name: is missing",
    "projects = 3": "projects: must be tables, as in [[projects]]",
    "name = 3": "name: expected text, got whole number, not 3",
    "projects = []": "projects: expected list of length >= 1",
    "speed = ": "scenario: not TOML: Invalid value (at end of document)",
}


@pytest.mark.parametrize(("text", "line"), WRONG.items(), ids=WRONG)
def test_a_wrong_file_gets_one_clear_line(text, line):
    with pytest.raises(ScenarioError) as caught:
        Scenario.from_toml(text)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_an_unknown_preset_is_told_the_nearest():
    with pytest.raises(ScenarioError, match=r"unknown preset 'stedy_sprint'; did you mean 'steady_sprint'\?"):
        Scenario.load("stedy_sprint")
    with pytest.raises(ScenarioError, match=r"unknown preset 'xyz'; there are .*, demo_small, "):
        Scenario.load("xyz")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ScenarioError, match=r"absent\.toml: cannot be read: No such file"):
        Scenario.load(tmp_path / "absent.toml")
    with pytest.raises(ScenarioError, match="cannot be read"):
        Scenario.load(f"{tmp_path}/")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff")
    with pytest.raises(ScenarioError, match=r"binary\.toml: cannot be read"):
        Scenario.load(binary)


def test_a_wrong_file_is_named_with_the_key(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[agents]\ndevelopers = 0", encoding="utf-8")
    with pytest.raises(ScenarioError, match=r"mine\.toml: agents\.developers: expected whole number >= 1, not 0"):
        Scenario.load(path)


tables = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["name", "issues", "rate_per_h", "runs", "calls", "median", "x"]), inner)
    ),
    max_leaves=6,
)


@given(
    st.dictionaries(
        st.sampled_from(["name", "speed", "projects", "issues", "runs", "agents", "human_time_scale"]), tables
    )
)
def test_whatever_is_replaced_there_is_a_scenario_or_one_line(changes):
    try:
        scenario = Scenario.preset("demo_small").replace(changes)
    except ScenarioError as error:
        assert "\n" not in str(error)  # noqa: PT017 - most changes are wrong, some are not
    else:
        assert isinstance(scenario, Scenario)


# ---- Python -------------------------------------------------------------------------------------------------------


def test_a_scenario_made_in_python_is_checked_as_well():
    scenario = Scenario(name="mine", projects=[{"name": "apollo", "agents": {"developers": 2}}])
    assert scenario.projects == (Project(name="apollo", agents=Agents(developers=2)),)
    with pytest.raises(ScenarioError, match="developers: expected whole number >= 1, not 0"):
        Agents(developers=0)
    with pytest.raises(ScenarioError, match=r"projects\[0\]\.agents\.developers"):
        Scenario(name="mine", projects=[{"name": "apollo", "agents": {"developers": 0}}])


def test_a_scenario_cannot_be_changed():
    scenario = Scenario.preset("demo_small")
    with pytest.raises(AttributeError):
        scenario.speed = 1
    with pytest.raises(AttributeError):
        scenario.projects[0].agents.developers = 1
    assert hash(scenario) == hash(Scenario.preset("demo_small"))


def test_replace_changes_one_number_in_every_project_or_in_one():
    two = Scenario(name="two", projects=[Project(name="apollo"), Project(name="hermes")])
    both = two.replace({"agents.developers": 2}, speed=5)
    assert [project.agents.developers for project in both.projects] == [2, 2]
    assert both.speed == 5
    one = two.replace({"projects.hermes.runs.calls.median": 3})
    assert [project.runs.calls.median for project in one.projects] == [two.projects[0].runs.calls.median, 3]
    assert two.replace(agents=Agents(developers=9)).projects[1].agents.developers == 9
    assert two.replace(projects=two.projects[:1]).projects == two.projects[:1]
    assert two.replace() == two


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"agents.developer": 2}, "agents.developer: unknown key; did you mean 'developers'?"),
        ({"agents.developers": -1}, "agents.developers: expected whole number >= 1, not -1"),
        ({"agnets.developers": 2}, "agnets.developers: unknown key; did you mean 'agents'?"),
        ({"horizon": 2}, "horizon: unknown key; did you mean 'horizon_h' (hours)?"),
        (
            {"projects.hermes.agents.testers": 1},
            "projects.hermes.agents.testers: no such project; there are demo_small",
        ),
        ({"projects.demo_smal.speed": 1}, "projects.demo_smal.speed: no such project; did you mean 'demo_small'?"),
        ({"projects[0].agents.testers": 1}, "projects[0].agents.testers: projects go by their names, as in projects.d"),
        ({"runs.llm_s.median": None}, "runs.llm_s.median: expected number (seconds), not None"),
        ({"profile": 3}, "profile: must be a name or the path of a TOML file, not 3"),
        ({3: 3}, "scenario: keys are text, not 3"),
        (5, 'changes: must be values by key, as in {"agents.developers": 3}, not 5'),
        ({"projects.demo_small.agents.testers": -1}, "projects.demo_small.agents.testers: expected whole number >= 0"),
        ({"speed.x": 1}, "speed.x: unknown key"),
        ({"projects": [{"name": "a"}, {"name": "a"}]}, "projects: two projects are named 'a'"),
        ({"faults[0].minutes": 3}, "faults: has no element 0; it has 0, counted from 0"),
        ({"agents[0]": 3}, "agents: is no list"),
        ({"agents..developers": 3}, "agents..developers: is no key; keys look like agents.developers or faults[0]"),
        ({"extends": "steady_sprint"}, "extends: unknown key"),
        ({"speed": object()}, "speed: a scenario cannot hold a value of type object"),
        ({"runs.calls": object()}, "runs.calls: a scenario cannot hold"),
        ({"projects.demo_small": 3}, "projects.demo_small: expected table"),
        ({"projects.": 3}, "projects.: is no key; keys look like agents.developers"),
    ],
)
def test_a_wrong_replacement_gets_one_clear_line(changes, line):
    with pytest.raises(ScenarioError) as caught:
        Scenario.preset("demo_small").replace(changes)
    assert str(caught.value).startswith(line)


def test_several_projects_do_not_become_one():
    two = Scenario(name="two", projects=[Project(name="apollo"), Project(name="hermes")])
    with pytest.raises(ScenarioError, match=r"has several projects \(apollo, hermes\)"):
        two.for_project("zeus")
    with pytest.raises(ScenarioError, match="must be 1 to 64 of letters"):
        Scenario.preset("demo_small").for_project("a b")


def test_lists_are_replaced_whole_or_by_element():
    outages = [{"kind": "ci_outage", "at_h": 1, "minutes": 5}, {"kind": "ci_outage", "at_h": 9, "minutes": 5}]
    shape = [{"from_h": 1, "factor": 0.9}]
    scenario = Scenario.preset("demo_small").replace({"faults": outages, "issues.shape": shape})
    (project,) = scenario.replace({"faults[1].minutes": 45, "issues.shape[0]": {"factor": 0.5}}).projects
    assert project.faults == (CiOutage(at_h=1, minutes=5), CiOutage(at_h=9, minutes=45))
    assert project.issues.shape == (ShapeStep(from_h=1, factor=0.5),)
    brownout = ProviderBrownout(at_h=2, minutes=1)
    assert scenario.replace({"projects.demo_small.faults[0]": brownout}).projects[0].faults[0] == brownout


def test_a_table_that_names_its_law_is_complete_and_another_changes_single_values():
    runs = Scenario.preset("demo_small").projects[0].runs
    changed = Scenario.preset("demo_small").replace({"runs.tool_s.median": 2, "runs.llm_s": {"sigma": 0}})
    assert changed.projects[0].runs.tool_s == Lognormal(median=2, sigma=runs.tool_s.sigma, max=60)
    assert changed.projects[0].runs.llm_s == Lognormal(median=runs.llm_s.median, sigma=0)
    other = changed.replace(
        {"runs.tool_s": Lognormal(median=2, sigma=1), "runs.llm_s": {"law": "constant", "value": 3}}
    )
    assert other.projects[0].runs.tool_s.max is None
    assert other.projects[0].runs.llm_s == Constant(value=3)
    assert Scenario.from_toml("issues.arrivals.shape = 0.3").projects[0].issues.arrivals == WeibullArrivals(shape=0.3)


def test_numbers_of_numpy_are_numbers():
    one = Scenario.preset("demo_small").replace({"agents.developers": np.int64(7), "runs.backoff_s": np.float32(0.5)})
    assert one == Scenario.preset("demo_small").replace({"agents.developers": 7, "runs.backoff_s": 0.5})
    weights = Scenario.preset("demo_small").replace({"issues.calendar.weekdays": np.ones(7)})
    assert weights == Scenario.preset("demo_small")


def test_a_scenario_survives_json():
    scenario = Scenario.preset("demo_small")
    assert msgspec.json.decode(msgspec.json.encode(scenario), type=Scenario) == scenario


# ---- inheritance --------------------------------------------------------------------------------------------------


def test_a_file_extends_a_preset_or_another_file(tmp_path):
    (tmp_path / "sub").mkdir()
    base, heir = tmp_path / "base.toml", tmp_path / "sub" / "heir.toml"
    base.write_text("extends = 'demo_small'\nspeed = 10\n[runs]\ncalls.median = 7\n", encoding="utf-8")
    heir.write_text("extends = '../base.toml'\n[runs]\ncalls.sigma = 0.1\n", encoding="utf-8")
    scenario = Scenario.load(heir)
    demo = Scenario.preset("demo_small")
    assert (scenario.name, scenario.speed, scenario.description) == ("heir", 10, demo.description)
    assert [project.name for project in scenario.projects] == ["heir"]
    assert scenario.projects[0].runs == demo.replace({"runs.calls": {"median": 7, "sigma": 0.1}}).projects[0].runs


def test_what_an_heir_says_of_all_projects_goes_before_what_was_said_of_one(tmp_path):
    base, heir = tmp_path / "base.toml", tmp_path / "heir.toml"
    base.write_text("[[projects]]\nname = 'a'\nagents.developers = 7\n[[projects]]\nname = 'b'\n", encoding="utf-8")
    heir.write_text("extends = 'base.toml'\nagents.developers = 2\n", encoding="utf-8")
    assert [(p.name, p.agents.developers) for p in Scenario.load(heir).projects] == [("a", 2), ("b", 2)]
    heir.write_text("extends = 'base.toml'\n[[projects]]\nname = 'c'\n", encoding="utf-8")
    assert [project.name for project in Scenario.load(heir).projects] == ["c"]


def test_files_that_extend_each_other_are_refused(tmp_path):
    one, other = tmp_path / "one.toml", tmp_path / "other.toml"
    one.write_text("extends = 'other.toml'", encoding="utf-8")
    other.write_text("extends = 'one.toml'", encoding="utf-8")
    with pytest.raises(ScenarioError, match=r"one\.toml: extends: goes round in a circle: .*one\.toml -> .*other\."):
        Scenario.load(one)
    one.write_text("extends = './one.toml'", encoding="utf-8")
    with pytest.raises(ScenarioError, match="goes round in a circle"):
        Scenario.load(one)


def test_an_error_in_a_file_that_is_extended_names_that_file(tmp_path):
    base, heir = tmp_path / "base.toml", tmp_path / "heir.toml"
    base.write_text("agents.developers = 0", encoding="utf-8")
    heir.write_text("extends = 'base.toml'", encoding="utf-8")
    with pytest.raises(ScenarioError, match=r"base\.toml: agents\.developers: expected whole number >= 1"):
        Scenario.load(heir)


# ---- saving -------------------------------------------------------------------------------------------------------

laws = st.builds(Lognormal, median=st.floats(1e-3, 1e3), sigma=st.floats(0, 3), max=st.none() | st.floats(1, 1e3))
laws |= st.builds(Constant, value=st.floats(0, 1e6)) | st.builds(
    Weibull, scale=st.floats(1, 9), shape=st.floats(0.1, 9)
)
laws |= st.builds(Mixture, weights=st.just((1, 2)), laws=st.tuples(laws, st.builds(Constant, value=st.just(1))))
hours = st.lists(st.floats(0, 1e3), max_size=3, unique=True).map(sorted)
changes = st.fixed_dictionaries(
    {},
    optional={
        "description": st.text(),
        "speed": st.floats(1e-3, 1e6),
        "horizon_h": st.none() | st.floats(1e-3, 1e6),
        "profile": st.sampled_from(["default", "copilot", "codex"]),
        "human_time_scale": st.floats(0.1, 10),
        "issues.arrivals": st.sampled_from(
            [PoissonArrivals(), WeibullArrivals(shape=0.9), ReplayArrivals(times_h=[1, 2])]
        ),
        "issues.shape": hours.map(lambda starts: [{"from_h": at, "factor": 2} for at in starts]),
        "issues.calendar.hours": st.lists(st.floats(0.1, 9), min_size=24, max_size=24),
        "agents.steps": hours.map(lambda starts: [{"at_h": at, "developers": 2} for at in starts]),
        "provider": st.fixed_dictionaries({}, optional={"tokens_per_min": st.integers(1, 10**9), "burst": st.just(3)}),
        "runs.calls": laws,
        "runs.tool_s": laws,
        "runs.model": st.text(min_size=1, max_size=9),
        "approvals.office": st.none() | st.just({}) | st.just({"days": [0, 6], "to_h": 12.5}),
        "faults": hours.map(lambda starts: [{"kind": "incident_storm", "at_h": at, "minutes": 3} for at in starts]),
        "projects.demo_small.name": st.sampled_from(["demo_small", "other"]),
    },
)


@given(changes, st.dictionaries(st.sampled_from("abc"), changes, max_size=3))
def test_any_scenario_is_the_same_after_it_was_written_and_read(everywhere, of_projects):
    scenario = Scenario.preset("demo_small").replace(everywhere, allow_overload=True)
    if of_projects:
        names = [{**msgspec.to_builtins(scenario.projects[0]), "name": name} for name in of_projects]
        scenario = scenario.replace(projects=names)
        for name, its in of_projects.items():
            own = {key: value for key, value in its.items() if "." in key and not key.startswith("projects.")}
            scenario = scenario.replace({f"projects.{name}.{key}": value for key, value in own.items()})
    text = scenario.to_toml()
    assert Scenario.from_toml(text) == scenario
    assert Scenario.from_toml(text).to_toml() == text


@pytest.mark.parametrize("name", presets())
def test_a_preset_is_the_same_after_it_was_written_and_read(name):
    assert Scenario.from_toml(Scenario.preset(name).to_toml()) == Scenario.preset(name)


def test_what_projects_have_in_common_is_written_once():
    two = Scenario.from_toml(
        "agents.developers = 7\n[[projects]]\nname = 'a'\n[[projects]]\nname = 'b'\nruns.model = 'x'"
    )
    assert (
        two.to_toml()
        == """name = "scenario"
speed = 60

[agents]
developers = 7

[[projects]]
name = "a"

[[projects]]
name = "b"

[projects.runs]
model = "x"
"""
    )


def test_a_scenario_is_shown_in_one_short_line():
    assert repr(Scenario.preset("idle")) == "<Scenario 'idle' of project 'idle'>"
    assert repr(Scenario.preset("multi_tenant")) == "<Scenario 'multi_tenant' of 50 projects>"
