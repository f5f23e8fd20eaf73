"""Laws of chance: what they draw is what their mean, cdf and quantile say, and one normal makes each value."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from syndarix_rt.errors import ScenarioError
from syndarix_rt.simulation.laws import (
    AnyLaw,
    Constant,
    Empirical,
    Exponential,
    Gamma,
    Lognormal,
    Mixture,
    Weibull,
    correlated,
    repeated,
    repeats,
)
from syndarix_rt.simulation.section import build
from syndarix_rt.simulation.special import gamma_tails, normal_cdf, normal_quantile, standard_exponential

SMOOTH = [
    Lognormal(median=5.5, sigma=1.15),
    Exponential(scale=3.0),
    Weibull(scale=2.0, shape=0.47),
    Weibull(scale=2.0, shape=3.0),
    Gamma(scale=2.0, shape=0.43),
    Gamma(scale=0.1, shape=30.0),
    Mixture(weights=(1, 3), laws=(Lognormal(median=2, sigma=0.4), Weibull(scale=9, shape=1.5))),
    Mixture(weights=(0.5, 0.5), laws=(Exponential(scale=5), Gamma(scale=1, shape=2))),
]
CAPPED = [
    Lognormal(median=0.3176, sigma=2.834, max=300),
    Exponential(scale=3.0, max=4.0),
    Weibull(scale=2.0, shape=0.47, max=3.0),
    Gamma(scale=2.0, shape=0.43, max=1.0),
    Lognormal(median=5, sigma=0, max=3),
    Mixture(weights=(1, 1), laws=(Lognormal(median=2, sigma=1, max=4), Exponential(scale=1, max=4))),
]
STEPS = [
    Constant(value=7.0),
    Empirical(values=(3.0, 1.0, 1.0, 8.0)),
    Mixture(weights=(1, 2), laws=(Constant(value=1), Empirical(values=(0.0, 5.0)))),
]
ALL = SMOOTH + CAPPED + STEPS


def rng(seed=7):
    return np.random.default_rng(seed)


def together(law, source, count, common, share):
    """Values that have something in common."""
    return law.of_normals(correlated(source.standard_normal(count), common, share))


each = pytest.mark.parametrize("law", ALL, ids=repr)


# ---- any law ------------------------------------------------------------------------------------------------------


@each
def test_draws_have_the_mean_that_the_law_says(law):
    values = law.draws(rng(), 200_000)
    assert values.mean() == pytest.approx(law.mean(), abs=5 * values.std() / math.sqrt(len(values)), rel=1e-12)


@pytest.mark.parametrize("law", SMOOTH, ids=repr)
def test_draws_follow_the_cdf(law):
    assert stats.kstest(law.draws(rng(), 50_000), law.cdf).pvalue > 0.01


@pytest.mark.parametrize("law", CAPPED + STEPS, ids=repr)
def test_draws_follow_the_cdf_where_it_jumps(law):
    values = np.sort(law.draws(rng(), 50_000))
    at = np.unique(values)
    measured = values.searchsorted(at, side="right") / len(values)
    assert np.abs(measured - law.cdf(at)).max() < 1.63 / math.sqrt(len(values))  # KS at 1 %


@each
@pytest.mark.parametrize("share", [1e-9, 0.01, 0.3, 0.5, 0.9, 1 - 1e-9])
def test_a_quantile_is_the_least_value_that_the_share_does_not_exceed(law, share):
    value = law.quantile(share)
    assert law.cdf(value * (1 + 1e-4)) >= share * (1 - 1e-12)
    assert value == 0 or law.cdf(value * (1 - 1e-4)) <= share


@each
@pytest.mark.parametrize("share", [0, 1, -0.5, math.nan])
def test_there_is_no_quantile_of_what_is_no_share(law, share):
    with pytest.raises(ScenarioError, match="share: must be above 0 and below 1"):
        law.quantile(share)


@each
def test_draws_are_so_many_times_draw(law):
    one_by_one = rng()
    assert law.draws(rng(), 50).tolist() == [law.draw(one_by_one) for _ in range(50)]
    assert law.draws(rng(), 0).tolist() == []


@each
def test_every_law_uses_one_normal_for_a_value(law):
    used, reference = rng(), rng()
    law.draws(used, 100)
    together(law, used, 20, 1.5, 0.3)
    law.draw(used)
    reference.standard_normal(121)
    assert used.random() == reference.random()


@each
def test_the_law_stays_when_values_have_something_in_common(law):
    source = rng()
    values = np.concatenate([together(law, source, 1, source.standard_normal(), 0.4) for _ in range(5_000)])
    assert values.mean() == pytest.approx(law.mean(), abs=5 * values.std() / math.sqrt(len(values)), rel=1e-12)


@pytest.mark.parametrize("law", SMOOTH, ids=repr)
@pytest.mark.parametrize("share", [0.2, 0.7])
def test_the_share_is_the_correlation_of_the_normals(law, share):
    source = rng()
    pairs = np.array([together(law, source, 2, source.standard_normal(), share) for _ in range(3_000)])
    normals = special.ndtri(stats.rankdata(pairs, axis=0) / (len(pairs) + 1))
    assert np.corrcoef(normals.T)[0, 1] == pytest.approx(share, abs=0.06)


def test_of_a_lognormal_law_the_share_is_of_the_log_variance():
    law, source = Lognormal(median=5, sigma=1.2), rng()
    runs = np.array([np.log(together(law, source, 30, source.standard_normal(), 0.2)) for _ in range(5_000)])
    within = runs.var(axis=1, ddof=1).mean()
    assert within == pytest.approx(0.8 * 1.2**2, rel=0.02)
    assert runs.var() == pytest.approx(1.2**2, rel=0.03)


def test_all_in_common_means_all_the_same():
    assert len(set(together(Lognormal(median=5, sigma=1), rng(), 10, 0.3, 1).tolist())) == 1


def test_the_same_luck_in_another_law_has_the_same_rank():
    ranks = [stats.rankdata(law.draws(rng(), 500)).tolist() for law in SMOOTH]
    assert all(rank == ranks[0] for rank in ranks)


@pytest.mark.parametrize("law", CAPPED, ids=repr)
def test_a_cap_is_respected_and_reached(law):
    cap = getattr(law, "max", 4.0)
    values = law.draws(rng(), 10_000)
    assert values.max() == cap
    assert law.cdf(cap) == 1
    assert law.cdf(np.nextafter(cap, 0)) < 1


# ---- any parameters -----------------------------------------------------------------------------------------------

value = st.floats(1e-6, 1e9)
cap = st.none() | value
simple = st.one_of(
    st.builds(Lognormal, median=value, sigma=st.floats(0, 10), max=cap),
    st.builds(Exponential, scale=value, max=cap),
    st.builds(Weibull, scale=value, shape=st.floats(0.1, 10), max=cap),
    st.builds(Gamma, scale=value, shape=st.floats(0.0004, 1000), max=cap),
    st.builds(Constant, value=value),
    st.builds(Empirical, values=st.lists(value, min_size=1, max_size=20)),
)
mixtures = st.lists(st.tuples(st.floats(1e-3, 1e3), simple), min_size=1, max_size=4).map(
    lambda parts: Mixture(weights=[weight for weight, _ in parts], laws=[law for _, law in parts])
)
laws = simple | mixtures


@given(law=laws, seed=st.integers(0, 2**32), share=st.floats(0, 1))
def test_every_value_is_a_positive_number(law, seed, share):
    values = together(law, rng(seed), 200, 3.0, share)
    assert np.isfinite(values).all()
    assert (values > 0).all()
    assert math.isfinite(law.mean())
    assert law.mean() > 0


@given(law=laws, values=st.lists(st.floats(0, 1e12), min_size=2))
def test_a_cdf_ascends_from_0_to_1(law, values):
    shares = law.cdf(sorted(values))
    assert ((shares >= 0) & (shares <= 1 + 1e-12)).all()
    assert (np.diff(shares) >= -1e-11).all()
    assert law.cdf(-1.0) == 0


@given(law=laws, low=st.floats(1e-9, 1 - 1e-9), high=st.floats(1e-9, 1 - 1e-9))
def test_quantiles_ascend(law, low, high):
    if low < high:
        assert law.quantile(low) <= law.quantile(high) * (1 + 1e-12)


@given(law=laws)
def test_a_law_is_the_same_after_a_way_through_plain_values(law):
    plain = {name: getattr(law, name) for name in law.__struct_fields__}
    again = build({"law": type(law).__name__.lower()} | plain, AnyLaw)
    assert again == law
    assert again.draws(rng(), 5).tolist() == law.draws(rng(), 5).tolist()


def test_a_mixture_needs_a_weight_for_each_law():
    with pytest.raises(ScenarioError, match="weights: must be as many as laws, 1, not 2"):
        Mixture(weights=(1, 1), laws=(Constant(value=1),))


# ---- closed forms -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "law",
    [
        Lognormal(median=0.3176, sigma=2.834, max=300),
        Lognormal(median=400, sigma=0.5, max=300),
        Exponential(scale=3.0, max=4.0),
        Weibull(scale=135, shape=0.37, max=1000),
        Weibull(scale=1, shape=10, max=1e9),
        Gamma(scale=2, shape=0.0063, max=30),
        Gamma(scale=2, shape=400, max=810),
    ],
    ids=repr,
)
def test_a_capped_mean_is_the_integral_of_the_survival_function(law):
    steps = np.concatenate([[0], np.geomspace(law.max * 1e-12, law.max, 200_001)])
    middle = (steps[1:] + steps[:-1]) / 2
    assert law.mean() == pytest.approx(float(((1 - law.cdf(middle)) * np.diff(steps)).sum()), rel=1e-5)


@pytest.mark.parametrize("shape", [0.0004, 0.0063, 0.43, 1, 2.25, 30, 1000])
def test_the_incomplete_gamma_functions_agree_with_scipy(shape):
    x = np.concatenate([np.geomspace(1e-20, 20 * max(shape, 1), 500), [0]])
    below, above = gamma_tails(shape, x)
    np.testing.assert_allclose(below, special.gammainc(shape, x), rtol=1e-10, atol=1e-290)
    np.testing.assert_allclose(above, special.gammaincc(shape, x), rtol=1e-10, atol=1e-290)


@pytest.mark.parametrize("shape", [0.0063, 0.43, 1, 2.25, 30, 1000])
def test_gamma_quantiles_agree_with_scipy(shape):
    law = Gamma(scale=1, shape=shape)
    for share in (1e-6, 0.01, 0.3, 0.5, 0.9, 0.999, 1 - 1e-9):
        exact = special.gammaincinv(shape, share)
        assert law.quantile(share) == pytest.approx(exact, rel=2e-5, abs=1e-100)


def test_the_normal_law_and_the_exponential_law_agree_with_scipy():
    normals = np.linspace(-8, 8, 400)
    np.testing.assert_allclose(normal_cdf(normals), special.ndtr(normals), rtol=1e-12)
    np.testing.assert_allclose(normal_quantile(normal_cdf(normals[:300])), normals[:300], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(standard_exponential(normals), -special.log_ndtr(-normals), rtol=1e-12)


# ---- in a row -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0, 0.03, 0.5, 0.9, 1])
def test_what_happens_in_a_row_is_geometric(share):
    times = np.array(repeats(rng().random(100_000), share, 3))
    for number in range(4):
        assert (times >= number).mean() == pytest.approx(share**number, abs=0.006)
    assert times.max() <= 3


@given(luck=st.floats(0, 1, exclude_max=True), share=st.floats(0, 1), most=st.integers(0, 20))
def test_one_number_in_a_row_is_as_many_are(luck, share, most):
    assert repeated(luck, share, most) == repeats(np.array([luck]), share, most)[0]
