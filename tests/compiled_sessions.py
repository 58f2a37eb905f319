"""A pytest plugin (`-p tests.compiled_sessions`): the tests of that process meet the compiled session logic."""

from pipelines import compiled

compiled.use("compiled")
