"""What `etude` is for: the simulated learner gets there with half the detour of uniform draws."""

from __future__ import annotations

from etude_sampler.simulation import Plan, simulate


def test_etude_halves_the_gap_to_the_oracle() -> None:
    """Uniform draws need about 85,000 rollouts, the better oracle 50,000: half way is 67,600."""
    found = simulate("etude", 0, Plan(budget=512 * 132)).metrics
    reached, rms = found["rollouts_to_target"], found["mastery_rms"]
    assert reached is not None
    assert reached < 67_600
    # Draws far from a fair sample: with weights clipped at 10, and versions believed by the spread
    # of their own few groups, it is .03.
    assert rms is not None
    assert rms < 0.025
