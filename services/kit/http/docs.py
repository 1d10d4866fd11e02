"""The interactive API documents at `/api/docs/{service}`. The service itself serves every asset."""

from html import escape
from pathlib import Path
from typing import Any

import swagger_ui_bundle
from litestar import Request, Response, get
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme, Server
from litestar.params import FromPath

from services.kit.http.guards import PUBLIC
from services.kit.http.openapi import completed

_BUNDLE = Path(swagger_ui_bundle.swagger_ui_path)
_ASSETS = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}
_CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_START = """\
SwaggerUIBundle({
  url: document.currentScript.dataset.url, dom_id: "#ui", deepLinking: true,
  validatorUrl: null, tryItOutEnabled: true, displayRequestDuration: true, defaultModelsExpandDepth: 0,
});
"""


BEARER_COMPONENTS = Components(
    security_schemes={
        "bearer": SecurityScheme(
            type="http",
            scheme="bearer",
            bearer_format="JWT",
            description="The `accessToken` of a sign-in, such as `POST /api/auth/login`",
        )
    }
)


class SwaggerPage(OpenAPIRenderPlugin):
    """The page of Swagger UI. Litestar's own loads its assets from a public CDN by default."""

    def __init__(self, base: str) -> None:
        super().__init__(path="/")
        self._base = base

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        title, base = escape(openapi_schema["info"]["title"]), self._base
        request.scope["state"]["content_policy"] = _CONTENT_POLICY
        return f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="{base}/assets/favicon-32x32.png">
<link rel="stylesheet" href="{base}/assets/swagger-ui.css">
</head>
<body>
<div id="ui"></div>
<script src="{base}/assets/swagger-ui-bundle.js"></script>
<script src="{base}/assets/start.js" data-url="{base}/openapi.json"></script>
</body>
</html>
""".encode()


class Document(JsonRenderPlugin):
    def __init__(self) -> None:
        super().__init__(path="/openapi.json")
        self._encoded = b""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        self._encoded = self._encoded or self.render_json(request, completed(openapi_schema))
        return self._encoded


def openapi_config(service: str, version: str, description: str) -> OpenAPIConfig:
    base = f"/api/docs/{service}"
    return OpenAPIConfig(
        title=service.capitalize(),
        version=version,
        description=description,
        path=base,
        components=BEARER_COMPONENTS,
        security=[{"bearer": []}],
        servers=[Server(url="/")],
        render_plugins=[SwaggerPage(base), Document()],
        use_handler_docstrings=True,
    )


def assets(service: str) -> HTTPRouteHandler:
    @get(f"/api/docs/{service}/assets/{{name:str}}", include_in_schema=False, security=PUBLIC, sync_to_thread=True)
    def asset(name: FromPath[str]) -> Response[bytes]:
        if name == "start.js":
            return Response(_START.encode(), media_type="text/javascript")
        if name not in _ASSETS:
            raise NotFoundException
        headers = {"Cache-Control": "public, max-age=86400"}
        return Response((_BUNDLE / name).read_bytes(), media_type=_ASSETS[name], headers=headers)

    return asset
