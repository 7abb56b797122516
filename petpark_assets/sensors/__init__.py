"""What wakes the house. Nothing yet: a person does, in the UI or with `petpark build`."""
