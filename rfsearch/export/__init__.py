"""Trained networks for use elsewhere: timm's folder, `torch.export`, ONNX, and a model card.

In goes a trial; out comes a folder that needs no rfsearch. Start at `export`.
"""
