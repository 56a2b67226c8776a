"""A project on disk: a folder of images, and beside them a folder ``semigda`` with all that came of them.

::

    my study/
      ax01.png  ax02.png ...        the images, never written to
      semigda/
        project.json                classes, images, verified, rounds (and project.json.previous, the version before)
        masks/ax01.tif              8-bit class ids, one file an image (NIfTI for NIfTI, DICOM)
        rounds/round-1.semigda      the model of every round
        logs/log.jsonl              what happened when, without names and pixels; may be deleted
        pictures/ax01.png.0.png     small pictures for the table of images; may be deleted at any time
        lock                        held while the project is open

Any program opens the masks, and ``semigda train --images "my study" --masks "my study/semigda/masks"`` learns from
them. No Qt and no napari here.
"""

from napari_semigda.store.index import painted_how
from napari_semigda.store.stack import FileStack
from napari_semigda.store.store import FOLDER, LOGS, ProjectStore, is_project, project_folder

__all__ = ["FOLDER", "LOGS", "FileStack", "ProjectStore", "is_project", "painted_how", "project_folder"]
