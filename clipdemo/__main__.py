"""Entry of `python -m clipdemo`."""

from clipdemo.cli import app

if __name__ == "__main__":
    app()
