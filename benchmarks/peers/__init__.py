"""Other people's synthesizers, and the pinned environments of all peers, privacy checks included; a script for each."""
