"""`python -m geomfeat`: the command line, where the console script is not on the path."""

from geomfeat.cli import main

if __name__ == "__main__":
    main()
