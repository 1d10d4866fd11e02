"""What `make run` prints once the platform is ready."""

from rich.console import Console

from services.standalone.servers import Servers
from services.standalone.settings import Settings


def origin_of(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def welcome(settings: Settings, port: int, servers: Servers, *, admin_password: str | None) -> None:
    origin = origin_of(settings.host, port)
    password = f"  password [bold]{admin_password}[/]  (shown only once)" if admin_password else ""
    lines = {
        "Platform": f"[bold]{origin}[/]",
        "API documents": f"{origin}/api/docs",
        **{name: f"embedded, process {pid}" for name, pid in servers.pids.items()},
        "Data": settings.data_dir,
        "Admin": f"{settings.admin_email}{password}",
    }
    console = Console(highlight=False, soft_wrap=True)
    for name, value in lines.items():
        console.print(f"{name:15}{value}")
    console.print("Press Ctrl-C to stop. In another terminal: [bold]make demo[/]")
