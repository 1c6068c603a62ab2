"""The files of a page, which browsers read as they are, and what refuses a request in words."""

import re
from importlib.resources import files as package_files

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_SHARED = "shared_page"
_PLAIN = re.compile(r"[a-z]{1,20}\.[a-z]{1,4}")  # names of files here; others may mean something to a file system


def page_file(folder: str, name: str) -> Response:
    """A file of the page in a folder beside this module, or one that all pages share. Raises HTTPException where there
    is none of that name."""
    suffix = name[name.rfind(".") :]
    if _PLAIN.fullmatch(name) and suffix in _TYPES:
        for place in (folder, _SHARED):
            found = package_files("samplernn_fast.serving").joinpath(place, name)
            if found.is_file():
                return Response(found.read_bytes(), media_type=_TYPES[suffix])
    raise HTTPException(404, "there is no such page")


async def refusal(request: Request, error: Exception) -> Response:
    """The answer to a request that is refused by an HTTPException."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, error.status_code)
