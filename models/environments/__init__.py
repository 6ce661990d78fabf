"""Versions as subjects: an environment for each list of requirements, and the same search inside it.

`make` makes and caches environments, and `reason` says why pip could not; `door` is what an environment is lent of
ours, and `begin` what runs first in it; `prepare` puts them together for `sim.search.elsewhere`, which finds it through
the registry. Nothing is imported here, because every environment imports this package for `begin`.
"""
