from services.auth.cli import app

app(prog_name="python -m services.auth")
