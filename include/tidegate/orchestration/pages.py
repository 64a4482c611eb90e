"""The plugin's part of Airflow's UI: an entry in the navigation, and the app behind it.

Airflow loads plugins in every process, also in workers, so nothing heavy is imported before the first request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tidegate.orchestration.data_docs import PREFIX

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import Receive, Scope, Send

# A gate over a wave, with a ground of its own: the navigation is light, dark, or the colour of what is open.
_ICON = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none' stroke='#fff' stroke-width='1.8' "
    "stroke-linecap='round' stroke-linejoin='round'><rect width='24' height='24' rx='5' fill='#0f766e' stroke='none'/>"
    "<path d='M6 14V5h12v9M10 5v7M14 5v7M4 18c1.8-1.6 3.5-1.6 5.3 0s3.6 1.6 5.4 0 3.5-1.6 5.3 0'/></svg>"
)


class PagesApp:
    """The app of the plugin's pages, made at its first request."""

    def __init__(self) -> None:
        self._app: FastAPI | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request (ASGI)."""
        if self._app is None:
            from tidegate.orchestration.page_routes import make_app

            self._app = make_app()
        await self._app(scope, receive, send)


def navigation() -> dict[str, Any]:
    """Return the entry of Airflow's navigation; addresses are relative to ``[api] base_url``."""
    return {
        "name": "Tidegate",
        "bundle_url": f"{PREFIX.lstrip('/')}/page.js",
        "destination": "nav",
        "url_route": "tidegate",
        "nav_top_level": True,
        "icon": "data:image/svg+xml," + quote(_ICON, safe=""),
    }
