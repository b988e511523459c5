"""`python -m gapnlp`: the command line."""

from gapnlp.cli.main import main

if __name__ == "__main__":
    main()
