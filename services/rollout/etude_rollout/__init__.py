"""The rollout service: generates, scores and reports groups of rollouts."""
