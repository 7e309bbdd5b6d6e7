"""``python -m app_client`` and the command ``app-client``."""

from hybridge.program import early_signals


def main() -> None:
    """Run ``app-client``, which signals can stop from here on."""
    early_signals.install()
    from app_client import cli  # This is what takes the time.

    cli.main()


if __name__ == "__main__":
    main()
