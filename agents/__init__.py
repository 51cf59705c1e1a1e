"""Learners, and their comparison with certified baselines."""
