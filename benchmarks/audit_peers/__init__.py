"""Other people's privacy checks, each in an environment of its own and run by a script of its own."""
