"""Other people's privacy checks, each run by a script of its own in an environment that `benchmarks.peers build` makes."""
