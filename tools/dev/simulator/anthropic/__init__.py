"""The dialect of Anthropic: messages and the count of their tokens; does no I/O."""

from __future__ import annotations

from .dialect import answer

__all__ = ["answer"]
