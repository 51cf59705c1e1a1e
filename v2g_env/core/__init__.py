"""Shared domain: plain arrays, no gymnasium, no solver, no files."""
