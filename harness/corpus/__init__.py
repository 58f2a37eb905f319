"""Corpora: folders, manifests, the starter corpus and shared development corpora."""

from harness.corpus.load import corpus_names, load_corpus
from harness.corpus.model import Clip, Corpus, CorpusSummary, describe
from harness.corpus.starter import build_starter

__all__ = ["Clip", "Corpus", "CorpusSummary", "build_starter", "corpus_names", "describe", "load_corpus"]
