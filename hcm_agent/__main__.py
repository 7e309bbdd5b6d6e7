"""``python -m hcm_agent`` and the command ``hcm``."""

from hybridge.program import early_signals


def main() -> None:
    """Run ``hcm``, which signals can stop from here on."""
    early_signals.install()
    from hcm_agent import cli  # This is what takes the time.

    cli.main()


if __name__ == "__main__":
    main()
