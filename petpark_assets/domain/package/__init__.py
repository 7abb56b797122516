"""Model packaging: export.py makes and proves the model file, contents.py the folder around it, predictor.py answers."""
