"""What wakes the house, besides a person in the UI or with `petpark build`: one sensor a file."""
