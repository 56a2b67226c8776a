"""SemiGDA without a screen: numpy and torch in, masks out. Imports neither Qt nor napari."""
