"""``python -m hcm_agent``: the same as the command ``hcm``."""

from hcm_agent.cli import main

if __name__ == "__main__":
    main()
