"""tracecore: a deterministic episode runtime, and the performance harness around it.

The floors, from the ground up. A module imports its own floor and those
below it, never one above or beside:

- ground: ``records`` (the data that travels), ``errors``, ``canon`` (canonical JSON and hashes),
  ``files`` (atomic writes), ``clock``, ``stats``.
- ``runtime``: one episode. ``runtime.episode.run_episode(job)`` gives an Outcome on every path;
  ``runtime.job`` is what a process pool is given.
- ``batch``: many jobs in many processes. ``batch.pool.run_batch`` knows nothing of episodes.
- ``perf``: a slice. ``perf.harness.run_slice`` joins ``runtime`` to ``batch`` and writes what
  ``scripts/perf_harness.py`` promises.

``agents/`` and ``tasks/`` hold bundled episodes, plain files to copy from; ``schema/`` the run
artifact's JSON Schema.
"""

__version__ = "0.1.0"
