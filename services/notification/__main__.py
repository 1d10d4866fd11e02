from services.notification.cli import app

app(prog_name="python -m services.notification")
