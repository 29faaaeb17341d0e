"""A captioning benchmark's split as LLaVA training data.

The paper fine-tunes two epochs on the train split of Spot-the-Diff or Image-Edit-Request before it
measures. The question is the one that the evaluation asks, and a row names both images: the
trainer lays them side by side with the 20-px bar, as the evaluation does. Each sentence that a
person wrote is a row of its own; empty ones are left out and counted.
"""
