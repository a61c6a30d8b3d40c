"""tracecore: a deterministic episode runtime, and the performance harness around it.

The floors, from the ground up. A module imports its own floor and those below it, never one above
or beside:

- the ground: ``record`` and ``records`` (the data that travels), ``errors``, ``exit_codes``,
  ``canon`` (canonical JSON and hashes), ``strict`` (foreign JSON and TOML), ``files`` (whole or not
  at all), ``frames`` (messages over pipes), ``processes`` and ``descendants`` (started, adopted,
  swept), ``clock``, ``stats`` and ``ranks`` (percentiles, tests), ``units`` (figures in words).
- ``command_line``: how a command line becomes a call, and its end an exit code.
- ``confinement``: what an agent process may touch, and what holds it to that.
- ``gateway``: how a confined agent reaches a model or a host.
- ``runtime``: one episode. ``runtime.episode.run_episode(job)`` gives an Outcome on every path;
  ``runtime.job`` is what a process pool is given.
- ``batch``: many jobs in many processes. ``batch.pool.run_batch`` knows nothing of episodes.
- ``perf``: a slice. ``perf.harness.run_slice`` runs one from prepare to show, for
  ``scripts/perf_harness.py``.

``agents/`` and ``tasks/`` hold bundled episodes, plain files to copy from; ``schema/`` the run
artifact's JSON Schema. ``docs/architecture.md`` shows where what is changed.
"""

__version__ = "0.1.0"
