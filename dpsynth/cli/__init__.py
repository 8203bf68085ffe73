"""The command `dpsynth`: sits on top of all three packages and is imported by nothing."""
