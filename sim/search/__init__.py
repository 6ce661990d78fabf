"""Searches: they walk schedules, judge each run, and say what they found, with a verdict."""
