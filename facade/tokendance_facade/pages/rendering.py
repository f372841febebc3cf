"""Templates to bytes: Jinja2 with autoescape, undefined names are mistakes, and each template is read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from tokendance_facade.pages.assets import Assets
from tokendance_facade.pages.serving import HTML

__all__ = ["HTML", "Renderer"]


class Renderer:
    """Renders templates of `templates` folders; a package that comes earlier wins.

    Every template sees `asset(name)` and what `shared` holds: at least `brand`, `home` (where the brand leads) and
    `navigation` (pairs of path and label), which the base template needs.
    """

    def __init__(
        self, assets: Assets, shared: Mapping[str, Any], packages: Sequence[str] = ("tokendance_facade.pages",)
    ) -> None:
        self._environment = Environment(
            loader=ChoiceLoader([PackageLoader(package) for package in packages]),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
            cache_size=-1,
        )
        self._environment.globals.update(shared)
        self._environment.globals["asset"] = assets.url

    @property
    def environment(self) -> Environment:
        """The environment, for filters of a site's own."""
        return self._environment

    def render(self, template: str, current: str, **values: Any) -> bytes:
        """Return a page. `current` is the path of the navigation entry that it belongs to."""
        return self._environment.get_template(template).render(current=current, **values).encode()
