"""`Profile`: constants with unit and source, checked, merged, explained; the packaged ones are what the traces say."""

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from syndarix_rt.errors import ScenarioError
from syndarix_rt.simulation import Profile, Scenario, profiles
from syndarix_rt.simulation.laws import Lognormal, Mixture
from syndarix_rt.simulation.profile import Constant
from syndarix_rt.simulation.settings import Project, WeibullArrivals
from syndarix_rt.simulation.tables import difference, merge

DEFAULT = Profile.load("default")
MINE = """
description = "My agents."
[runs.llm_s]
value = { median = 3.1, sigma = 0.9 }
unit = "s"
source = "my recordings of May"
n = 1200
ks = 0.031
[trace.mine.reply_h]
value = 2
unit = "h"
source = "the same"
"""

# ---- the profiles of the package ----------------------------------------------------------------------------------


def settings():
    table = msgspec.to_builtins(Project(name="any"))
    return {key: value for key, value in table.items() if key not in ("name", "random_key")}


def leaves(table, path=""):
    for key, value in table.items():
        if isinstance(value, dict) and not {"law", "process"} & value.keys():
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def test_a_new_project_has_the_constants_of_the_default_profile():
    assert difference(settings(), merge(settings(), DEFAULT.settings())) == {}
    assert Project(name="any").runs.llm_s == DEFAULT["runs.llm_s"].value == Lognormal(median=5.496, sigma=1.153)


def test_every_number_and_law_that_a_project_begins_with_has_a_unit_and_a_source():
    neutral = {"issues.calendar.weekdays", "issues.calendar.hours", "runs.model"}  # weights of 1, and a name
    numbers = {key for key, value in leaves(settings()) if value not in (None, ())} - neutral
    constants = {constant.key: constant for constant in DEFAULT.constants if not constant.is_evidence}
    assert constants.keys() == numbers
    assert all(constant.source == "proposal" or constant.n for constant in constants.values() if constant.ks)


def test_fitted_laws_say_how_well_they_fit():
    laws = [c for c in DEFAULT.constants if isinstance(c.value, (Lognormal, Mixture)) and c.source != "proposal"]
    assert len(laws) > 20
    unsaid = [law.key for law in laws if law.ks is None and not law.note]
    assert unsaid == []


@pytest.mark.parametrize("name", profiles())
def test_a_packaged_profile_is_the_same_after_it_was_written_and_read(name):
    profile = Profile.load(name)
    assert Profile.from_toml(profile.to_toml()) == profile
    assert profile.name == name
    assert 20 < len(profile.description) < 110


def test_profiles_of_agents_lie_over_the_default():
    copilot, devin = Profile.load("copilot"), Profile.load("devin")
    assert copilot["runs.llm_s"] == DEFAULT["runs.llm_s"]
    assert copilot["approvals.response_h"].value.median > devin["approvals.response_h"].value.median
    assert copilot.settings()["runs"]["llm_s"]["median"] == 5.496
    assert copilot.settings()["changes"]["closed_unmerged_share"] == 0.4886
    assert "trace" not in copilot.settings()


@pytest.mark.traces
@pytest.mark.parametrize(
    ("name", "agent"),
    [("claude_code", "Claude_Code"), ("codex", "OpenAI_Codex"), ("copilot", "Copilot"), ("devin", "Devin")],
)
def test_profiles_of_agents_are_fitted_to_the_pull_requests_of_aidev(traces_dir, name, agent):
    prs = pd.read_csv(traces_dir / "aidev_pop" / "pr_lifecycle.csv", parse_dates=["created_at"])
    prs = prs[prs.agent == agent]
    profile, merged = Profile.load(name), prs[prs.merged_h.notna()]

    def check_law(key, hours):
        logs = np.log(hours[hours > 0])
        law, constant = profile[key].value, profile[key]
        assert (law.median, law.sigma) == pytest.approx((np.exp(logs.mean()), logs.std(ddof=0)), rel=1e-3)
        assert constant.n == len(logs)
        ks = stats.kstest(logs, stats.norm(np.log(law.median), law.sigma).cdf).statistic
        assert constant.ks == pytest.approx(ks, abs=1e-3)

    check_law("approvals.response_h", prs.first_approval_h.dropna())
    check_law("changes.merge_h", merged.merged_h[merged.first_approval_h.isna()])
    check_law("trace.aidev.first_review_h", prs.first_review_h.dropna())
    check_law("trace.aidev.merge_h", merged.merged_h)
    shares = {
        "changes.closed_unmerged_share": 1 - len(merged) / prs.closed_h.notna().sum(),
        "changes.reviewed_share": merged.first_review_h.notna().mean(),
        "approvals.gated_share": merged.first_approval_h.notna().mean(),
        "trace.aidev.merged_share": len(merged) / len(prs),
    }
    assert {key: profile[key].value for key in shares} == pytest.approx(shares, abs=1e-3)
    waits = [
        group.created_at.sort_values().diff().dropna().dt.total_seconds().clip(lower=1)
        for _, group in prs.groupby("repo")
        if len(group) > 30
    ]
    if waits:
        shapes = [stats.weibull_min.fit(wait, floc=0)[0] for wait in waits]
        assert profile["issues.arrivals"].value.shape == pytest.approx(np.median(shapes), abs=2e-3)
        assert profile["issues.arrivals"].n == sum(map(len, waits))


# ---- profiles of one's own ----------------------------------------------------------------------------------------


def test_a_profile_file_says_what_differs_with_its_source(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(MINE, encoding="utf-8")
    mine = Profile.load(path)
    assert (mine.name, mine.extends, len(mine.constants)) == ("mine", "default", 2)
    assert mine["runs.llm_s"].value == Lognormal(median=3.1, sigma=0.9)
    assert mine["runs.tool_s"] == DEFAULT["runs.tool_s"]
    assert mine == Profile.from_toml(MINE, name="mine") == Profile.load(str(path))


def test_a_profile_is_explained_in_120_columns():
    for name in profiles():
        lines = Profile.load(name).explain().splitlines()
        assert max(map(len, lines)) <= 120
    copilot = Profile.load("copilot").explain()
    assert "not here is as in profile 'default'" in copilot
    line = next(line for line in copilot.splitlines() if "response_h" in line)
    assert " ".join(line.split()) == "response_h lognormal median 8.565, sigma 2.405 h AIDev-pop, Copilot PRs 319 0.071"
    told = " ".join(DEFAULT.explain().split())
    for constant in DEFAULT.constants:
        assert constant.key.rpartition(".")[2] in told
        assert " ".join(constant.note.split()) in told, constant.key


def test_a_profile_is_a_frame_of_one_row_a_constant():
    frame = Profile.load("devin").to_frame().set_index("key")
    assert list(frame.columns) == ["value", "unit", "source", "n", "ks", "note"]
    assert frame.loc["changes.merge_h", ["unit", "n", "ks"]].tolist() == ["h", 429, 0.101]
    assert pd.isna(frame.loc["changes.reviewed_share", "ks"])


keys = st.sampled_from(
    ["runs.llm_s", "runs.append_tokens", "trace.a.b_s", "trace.a.c", "trace.d-1", "sprints.length_h"]
)
numbers = st.floats(1e-6, 1e6)
laws = st.builds(Lognormal, median=numbers, sigma=st.floats(0, 3), max=st.none() | numbers)
laws |= st.lists(st.tuples(numbers, laws), min_size=1, max_size=3).map(
    lambda parts: Mixture(weights=[weight for weight, _ in parts], laws=[law for _, law in parts])
)
SYMBOLS = {"runs.llm_s": "s", "runs.append_tokens": "tokens", "trace.a.b_s": "s", "sprints.length_h": "h"}


@st.composite
def constants(draw):
    key = draw(keys)
    values = {"runs.llm_s": laws, "runs.append_tokens": laws, "sprints.length_h": numbers}
    free = laws | numbers | st.text() | st.lists(numbers).map(tuple) | st.integers(-(2**53), 2**53)
    free |= st.builds(WeibullArrivals, shape=st.floats(0.1, 10))
    return Constant(
        key=key,
        value=draw(values.get(key, free)),
        unit=SYMBOLS.get(key) or draw(st.text(min_size=1)),
        source=draw(st.text(min_size=1)),
        n=draw(st.none() | st.integers(1, 10**9)),
        ks=draw(st.none() | st.floats(0, 1)),
        note=draw(st.text()),
    )


@given(st.lists(constants(), unique_by=lambda constant: constant.key), st.text(), st.sampled_from(["", *profiles()]))
def test_any_profile_is_the_same_after_it_was_written_and_read(its_constants, description, extends):
    profile = Profile(name="any", description=description, extends=extends, constants=its_constants)
    text = profile.to_toml()
    assert Profile.from_toml(text) == profile
    assert Profile.from_toml(text).to_toml() == text
    assert max(len(line) for line in profile.explain().splitlines()[2:]) <= 120


# ---- errors -------------------------------------------------------------------------------------------------------

LLM = "[runs.llm_s]\nvalue = { median = 3, sigma = 1 }\nunit = 's'\nsource = 'me'\n"
WRONG = {
    LLM.replace("'s'", "'min'"): "runs.llm_s.unit: must be 's' (seconds), as the key says, not 'min'",
    LLM.replace("llm_s", "llm"): "runs.llm: unknown key; did you mean 'llm_s' (seconds)?",
    LLM.replace("unit = 's'\n", ""): "runs.llm_s.unit: is missing",
    LLM.replace("'me'", "''"): "runs.llm_s.source: expected text of length >= 1",
    LLM.replace("median = 3", "median = -3"): "runs.llm_s.value.median: expected number > 0.0, not -3",
    LLM.replace("median = 3", "law = 'lognorm', median = 3"): "runs.llm_s.value.law: expected one of lognormal, ",
    LLM.replace("value", "valeu"): "runs.llm_s.valeu: unknown key; did you mean 'value'?",
    LLM + "ks = 2": "runs.llm_s.ks: expected number <= 1.0, not 2",
    LLM + "n = 0": "runs.llm_s.n: expected whole number >= 1, not 0",
    LLM + "N = 5": "runs.llm_s.N: unknown key",
    LLM.replace("runs.llm_s", "runs.backoff_s"): "runs.backoff_s: expected number, got table (seconds)",
    LLM.replace("{ median = 3, sigma = 1 }", "nan"): "runs.llm_s.value: must be finite, not nan",
    LLM.replace("{ median = 3, sigma = 1 }", "true"): "runs.llm_s: expected table, got boolean (seconds), not True",
    "[trace.a]\nvalue = 1\nunit = '1'\nsource = 'me'\n[trace.a.b]\n": "trace.a.b: unknown key",
    "extends = 'devon'": "profile: unknown profile 'devon'; did you mean 'devin'?",
    "desciption = 'x'": "desciption: is no table with value, unit and source; did you mean 'description'?",
    "[runs": "document: not TOML: Expected ']' at the end of a table declaration (at end of document)",
}


@pytest.mark.parametrize(("text", "line"), WRONG.items(), ids=WRONG)
def test_a_wrong_profile_gets_one_clear_line(text, line):
    with pytest.raises(ScenarioError) as caught:
        Profile.from_toml(text)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_a_wrong_file_is_named(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(LLM.replace("'s'", "'h'"), encoding="utf-8")
    with pytest.raises(ScenarioError, match=r"mine\.toml: runs\.llm_s\.unit: must be 's'"):
        Profile.load(path)
    path.write_text("\n[runs.llm_s\n", encoding="utf-8")
    with pytest.raises(ScenarioError, match=r"mine\.toml: not TOML: .*line 2"):
        Profile.load(path)
    with pytest.raises(ScenarioError, match=r"absent\.toml: cannot be read"):
        Profile.load(tmp_path / "absent.toml")


def test_what_a_profile_does_not_know_is_told_the_nearest():
    with pytest.raises(ScenarioError, match=r"unknown profile 'copillot'; did you mean 'copilot'\?"):
        Profile.load("copillot")
    with pytest.raises(ScenarioError, match=r"runs\.llm: unknown constant; did you mean 'runs\.llm_s' \(seconds\)\?"):
        DEFAULT["runs.llm"]
    constant = Constant(key="trace.x", value=1, unit="1", source="me")
    with pytest.raises(ScenarioError, match=r"trace\.x: stands there twice"):
        Profile(name="mine", constants=[constant, constant])
    with pytest.raises(ScenarioError, match=r"trace\.x: stands beside trace\.x\.y"):
        Profile(name="mine", constants=[constant, {"key": "trace.x.y", "value": 1, "unit": "1", "source": "me"}])


# ---- in scenarios -------------------------------------------------------------------------------------------------


def test_a_scenario_takes_its_defaults_from_the_profile_that_it_names():
    own = Scenario.from_toml("profile = 'devin'\napprovals.gated_share = 0.9\n")
    (project,) = own.projects
    assert own.profile == "devin"
    assert project.approvals.gated_share == 0.9
    assert project.changes.merge_h == Profile.load("devin")["changes.merge_h"].value


def test_another_profile_changes_what_the_scenario_did_not_say_itself():
    own = Scenario.from_toml("profile = 'devin'\napprovals.gated_share = 0.9\n")
    copilot = own.replace(profile="copilot")
    assert copilot == Scenario.from_toml("profile = 'copilot'\napprovals.gated_share = 0.9\n")
    assert copilot.replace({"agents.developers": 7, "profile": "devin"}) == own.replace({"agents.developers": 7})


def test_a_profile_file_stands_beside_the_scenario(tmp_path):
    (tmp_path / "mine.toml").write_text(MINE, encoding="utf-8")
    path = tmp_path / "scenario.toml"
    path.write_text("profile = 'mine.toml'", encoding="utf-8")
    scenario = Scenario.load(path)
    assert scenario.projects[0].runs.llm_s.median == 3.1
    assert Scenario.from_toml(scenario.to_toml()) == scenario
    assert scenario.replace(profile="default").projects == Scenario.from_toml("name = 'scenario'").projects


def test_a_profile_object_is_taken_as_well_and_does_not_get_lost():
    mine = Profile.from_toml(MINE, name="mine")
    scenario = Scenario.preset("steady_sprint").replace(profile=mine)
    assert scenario.profile == "mine"
    assert scenario.projects[0].runs.llm_s.median == 3.1
    assert Scenario.from_toml(scenario.to_toml()).projects == scenario.projects
    with pytest.raises(ScenarioError, match="profile: what the scenario took from its present profile is not known"):
        scenario.replace(profile="devin")


def test_an_unknown_profile_in_a_scenario_is_told_the_nearest():
    with pytest.raises(ScenarioError, match=r"profile: unknown profile 'devon'; did you mean 'devin'\?"):
        Scenario.from_toml("profile = 'devon'")
    with pytest.raises(ScenarioError, match="profile: expected text: a name or a file"):
        Scenario.from_toml("profile = 3")


def test_a_profile_is_shown_in_one_short_line():
    assert repr(Profile.load("codex")) == f"<Profile 'codex' of {len(Profile.load('codex').constants)} constants>"
