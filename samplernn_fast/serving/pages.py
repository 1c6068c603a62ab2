"""The files of a page, which browsers read as they are, and what refuses a request in words."""

import re
from collections.abc import Mapping
from importlib.resources import files as package_files

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_PLAIN = re.compile(r"[a-z]{1,20}\.[a-z]{1,4}")  # names of files here; others may mean something to a file system


def page_file(folder: str, name: str, shared: Mapping[str, str] | None = None) -> Response:
    """A file of the page in a folder beside this module. Raises HTTPException where there is none of that name.

    shared: the files that the page takes from the folder of another page, which it has besides: name -> folder.
    """
    folder = (shared or {}).get(name, folder)
    found = package_files("samplernn_fast.serving").joinpath(folder, name)
    suffix = name[name.rfind(".") :]
    if not _PLAIN.fullmatch(name) or suffix not in _TYPES or not found.is_file():
        raise HTTPException(404, "there is no such page")
    return Response(found.read_bytes(), media_type=_TYPES[suffix])


async def refusal(request: Request, error: Exception) -> Response:
    """The answer to a request that is refused by an HTTPException."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, error.status_code)
