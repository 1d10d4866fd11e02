from services.booking.cli import app

app(prog_name="python -m services.booking")
