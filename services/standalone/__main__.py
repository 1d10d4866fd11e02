from services.standalone.cli import app

app(prog_name="python -m services.standalone")
