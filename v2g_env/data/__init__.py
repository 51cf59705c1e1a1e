"""Charging sessions: shipped ACN-Data windows, loaders to one table, and splits by date."""
