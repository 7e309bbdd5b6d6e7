"""``python -m app_client``: the same as the command ``app-client``."""

from app_client.cli import main

if __name__ == "__main__":
    main()
