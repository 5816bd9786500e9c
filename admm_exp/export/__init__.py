"""The small network outside: files that need no pickle, ONNX, and engines that run it."""
