"""The headers that keep a page to itself: what it may load, who may frame it, what it tells other sites."""

from __future__ import annotations

from tokendance_facade.answers import Header


def content_security_policy(form_action: str = "'self'") -> str:
    """Return the policy of a page: everything is its own, and nothing is inline."""
    return (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
        f"form-action {form_action}; base-uri 'none'; frame-ancestors 'none'"
    )


FILE_HEADERS: tuple[Header, ...] = (
    ("x-content-type-options", "nosniff"),
    ("cross-origin-resource-policy", "same-origin"),
)
"""What goes with every file of a site."""

PAGE_HEADERS: tuple[Header, ...] = (
    ("content-security-policy", content_security_policy()),
    ("referrer-policy", "same-origin"),
    ("permissions-policy", "camera=(), microphone=(), geolocation=(), payment=(), usb=()"),
    ("cross-origin-opener-policy", "same-origin"),
    ("x-frame-options", "DENY"),
    *FILE_HEADERS,
)
"""What goes with every page."""
