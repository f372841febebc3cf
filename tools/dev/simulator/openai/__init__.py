"""The OpenAI dialect: chat completions, responses, completions, embeddings, models; does no I/O."""

from __future__ import annotations

from .dialect import answer

__all__ = ["answer"]
