"""`Scenario`: from presets, files and Python; a wrong one gets one clear line with key, unit and what was meant."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syndarix_rt import Scenario
from syndarix_rt.errors import ScenarioError
from syndarix_rt.simulation import presets
from syndarix_rt.simulation.settings import Agents, PoissonArrivals, Project

# ---- presets ------------------------------------------------------------------------------------------------------


def test_presets_are_listed_with_what_to_look_for():
    listed = presets()
    assert {"demo_small", "steady_sprint"} <= set(listed)
    assert all(20 < len(line) < 130 and "\n" not in line for line in listed.values())


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
    "[issues]\narrivals.process = 'possion'": "issues.arrivals.process: expected one of poisson, gamma, weibull, mmpp2, "
    "replay, not 'possion'; did you mean 'poisson'?",
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
    "[[projects]]\nissues.rate_per_h = 1": "projects[0]: object missing required field name",
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
    with pytest.raises(ScenarioError, match="unknown preset 'xyz'; there are .*, demo_small, "):
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
        ({"projects.hermes.agents.testers": 1}, "projects.hermes.agents.testers: no such project"),
        ({"projects.demo_small.agents.testers": -1}, "projects.demo_small.agents.testers: expected whole number >= 0"),
        ({"speed.x": 1}, "speed.x: unknown key"),
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


def test_a_scenario_survives_json():
    scenario = Scenario.preset("demo_small")
    assert msgspec.json.decode(msgspec.json.encode(scenario), type=Scenario) == scenario
