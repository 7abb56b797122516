"""What the platform runs on. Not here: the platform (petpark_assets/)."""
