"""``python -m relay`` and the command ``hybridge-relay``."""

from hybridge.program import early_signals


def main() -> None:
    """Run ``hybridge-relay``, which signals can stop from here on."""
    early_signals.install()
    from relay import cli  # This is what takes the time.

    cli.main()


if __name__ == "__main__":
    main()
