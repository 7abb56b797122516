"""The lake: where photos come from, what is known of each, their pixels, and how a version is made."""
