"""Stand-alone scripts that put other tools behind dpsynth's protocol; they run in environments of their own."""
