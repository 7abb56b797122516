"""Model packaging: export.py makes and proves model.onnx, contents.py the folder around it, predictor.py answers."""
