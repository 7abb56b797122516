"""The package: the network as ONNX with all that is needed to use and to trace it, and its predictor."""
