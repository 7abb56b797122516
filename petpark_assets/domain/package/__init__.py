"""Model packaging: export.py and int8.py make the models, contents.py the folder around them, predictor.py answers."""
