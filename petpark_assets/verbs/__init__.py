"""What a person types after `petpark`, a module a noun; thin, over the same functions as the assets."""
