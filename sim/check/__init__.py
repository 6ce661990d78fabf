"""What is claimed, of what story, and of whom: invariants, scenarios, subjects."""
