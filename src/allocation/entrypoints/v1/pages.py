"""Pages about the API: its OpenAPI document, the same in Swagger UI, and what each kind of problem means.

Swagger UI's files come with a package, and the browser is told to fetch nothing from elsewhere.
"""

from __future__ import annotations

import json
import re
from functools import cache
from html import escape
from importlib.resources import files
from threading import Lock

from flask import Blueprint, Response, current_app
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from allocation.entrypoints.http.problems import PROBLEMS, Problem
from allocation.entrypoints.http.routes import declare_public
from allocation.entrypoints.v1.openapi import document

_FILES = {
    "swagger-ui.css": ("css", "text/css"),
    "swagger-ui-bundle.js": ("js", "text/javascript"),
    "swagger.svg": ("images", "image/svg+xml"),
}

_FROM_HERE_ONLY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"

_CODE = re.compile("`([^`]+)`")

_DOCS = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Allocation: the API</title>
<link rel="icon" href="/docs/swagger.svg">
<link rel="stylesheet" href="/docs/swagger-ui.css">
<div id="swagger-ui"></div>
<noscript>This page needs JavaScript. What it shows is in <a href="/openapi.json">/openapi.json</a>.</noscript>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</html>
"""

_START = """SwaggerUIBundle({ url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null });
"""

_PROBLEM = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
{content}
</html>
"""


def blueprint() -> Blueprint:
    about = Blueprint("about", __name__)
    declare_public(about)  # they say what the source says

    written: list[bytes] = []
    writing = Lock()

    @about.get("/openapi.json")
    def openapi() -> ResponseReturnValue:
        with writing:  # a second of work, which sixteen threads need not do beside each other
            if not written:
                written.append(json.dumps(document(current_app), ensure_ascii=False).encode())
        return Response(written[0], mimetype="application/json")

    @about.get("/docs")
    def docs() -> ResponseReturnValue:
        return Response(_DOCS, mimetype="text/html", headers={"Content-Security-Policy": _FROM_HERE_ONLY})

    @about.get("/docs/start.js")
    def start() -> ResponseReturnValue:
        return Response(_START, mimetype="text/javascript")

    @about.get("/docs/<name>")
    def file(name: str) -> ResponseReturnValue:
        if name not in _FILES:
            raise NotFound
        folder, mimetype = _FILES[name]
        return Response(_file(folder, name), mimetype=mimetype, headers={"Cache-Control": "max-age=86400"})

    @about.get("/problems")
    def problems() -> ResponseReturnValue:
        listed = "".join(
            f'<dt><a href="{p.type}">{p.name}</a> ({p.status})<dd>{escape(p.title)}' for p in PROBLEMS.values()
        )
        return _page("Problems", f"<h1>Problems</h1><dl>{listed}</dl>")

    @about.get("/problems/<name>")
    def problem(name: str) -> ResponseReturnValue:
        if name not in PROBLEMS:
            raise NotFound
        return _page(PROBLEMS[name].title, _explained(PROBLEMS[name]))

    return about


@cache
def _file(folder: str, name: str) -> bytes:
    return files("flask_openapi_swagger").joinpath("templates", "swagger", folder, name).read_bytes()


def _explained(problem: Problem) -> str:
    meaning = _CODE.sub(r"<code>\1</code>", escape(problem.meaning))
    return (
        f"<h1>{escape(problem.title)}</h1><p>{meaning}</p>"
        f"<p>Status {problem.status}, type <code>{problem.type}</code>. For example: "
        f"<q>{escape(problem.example)}</q></p><p><a href='/problems'>All problems</a> · <a href='/docs'>The API</a></p>"
    )


def _page(title: str, content: str) -> Response:
    return Response(_PROBLEM.format(title=escape(title), content=content), mimetype="text/html")
