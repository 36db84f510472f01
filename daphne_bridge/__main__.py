"""This file runs the command line: `daphne-bridge` or `python -m daphne_bridge`."""

from .start import start


def main() -> None:
    """Run the command `daphne-bridge`."""
    start("daphne_bridge.cli")


if __name__ == "__main__":
    main()
