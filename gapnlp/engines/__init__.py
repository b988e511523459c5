"""Engines run a model on token ids; every one of them answers to the same protocol."""

from gapnlp.engines.base import Engine, EngineOutput

__all__ = ["Engine", "EngineOutput"]
