"""What `etude` is for: the simulated learner gets there with half the detour of uniform draws."""

from __future__ import annotations

from etude_sampler.simulation import Plan, simulate


def test_etude_halves_the_gap_to_the_oracle() -> None:
    """Uniform draws need about 85,000 rollouts, the better oracle 50,000: half way is 67,600."""
    reached = simulate("etude", 0, Plan(budget=512 * 132)).metrics["rollouts_to_target"]
    assert reached is not None
    assert reached < 67_600
