"""Certified answers to the Stackelberg game: exact branch and bound, conic reference, policies."""
