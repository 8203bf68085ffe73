"""`python -m dpsynth.cli` is the command `dpsynth`."""

from dpsynth.cli.main import main

if __name__ == "__main__":
    main()
