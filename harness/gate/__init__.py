"""The gate: whether a candidate is worse than a baseline, in speed, memory or accuracy, and how sure that is."""
