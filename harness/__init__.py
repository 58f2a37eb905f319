"""The benchmark harness: plans, the runner, the run store, statistics and reports."""
