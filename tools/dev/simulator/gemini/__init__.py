"""The Gemini dialect: generateContent, its stream, batchEmbedContents, models; does no I/O.

Every turn in which it calls tools is signed, and a call that comes back in the current turn without its signature is
refused, as the newest models do. A fault that has no place in this dialect, such as a missing `[DONE]`, does nothing.
"""

from __future__ import annotations

from .dialect import answer

__all__ = ["answer"]
