"""The parts of Q8: timm's calls, the arms side by side, small data."""
