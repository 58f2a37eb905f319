"""The bench on which these tests run plans, with engines that misbehave."""

from tests.fakes.world import bench, corpus_folder, faulty_engines

__all__ = ["bench", "corpus_folder", "faulty_engines"]
