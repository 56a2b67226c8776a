"""Segment images in napari: paint a few, and the unlabelled rest helps to learn them.

Importing this imports neither torch nor Qt. The engine is `napari_semigda.engine`, the docks `napari_semigda.widgets`.
"""

__version__ = "0.1.0"
