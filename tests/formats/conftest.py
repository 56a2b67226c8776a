"""Files as scanners and other programs write them."""

import nibabel
import numpy as np
import pytest

from napari_semigda.engine.types import EngineError

PATIENT = ("DOE^JANE", "SECRET-4711", "19700101", "St. Elsewhere")
AFFINE = np.array([[-1.5, 0, 0, 90], [0, 0.7, 0.1, -12], [0, -0.1, 3, 7], [0, 0, 0, 1.0]])


def noise(shape, dtype=np.uint8, top=250):
    return np.random.default_rng(0).integers(0, top, shape).astype(dtype)


def refused(function, *args):
    """The sentence that a function refuses something with."""
    with pytest.raises(EngineError) as caught:
        function(*args)
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence.endswith(".")
    assert not [word for word in PATIENT if word in sentence]
    return sentence


def ids_for(source):
    """Masks of a file that are different on every plane and in every corner."""
    masks = []
    for i, plane in enumerate(source.planes, 1):
        mask = np.zeros(plane.shape[:2], np.uint8)
        mask[2:6, 3:9] = i
        mask[-3:, :2] = 100 + i
        masks.append(mask)
    return masks


def save_nifti(path, volume, affine=AFFINE):
    image = nibabel.Nifti1Image(volume, affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path


def dicom_file(path, pixels, **tags):
    """Write one DICOM file of (H, W), (frames, H, W) or (H, W, 3) pixels; a tag that is None is left out."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    syntax = tags.pop("syntax", ExplicitVRLittleEndian)
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    frames = pixels.shape[0] if pixels.ndim == 3 and not colour else 1
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    file = Dataset()
    file.file_meta = meta
    bits = pixels.dtype.itemsize * 8
    values = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "PatientName": PATIENT[0],
        "PatientID": PATIENT[1],
        "PatientBirthDate": PATIENT[2],
        "InstitutionName": PATIENT[3],
        "SeriesDescription": PATIENT[0],
        "SeriesInstanceUID": "1.2.3",
        "Modality": "CT",
        "InstanceNumber": 1,
        "Rows": pixels.shape[-3 if colour else -2],
        "Columns": pixels.shape[-2 if colour else -1],
        "SamplesPerPixel": 3 if colour else 1,
        "PhotometricInterpretation": "RGB" if colour else "MONOCHROME2",
        "PlanarConfiguration": 0 if colour else None,
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "NumberOfFrames": frames if frames > 1 else None,
        "PixelData": pixels.tobytes(),
    } | tags
    for name, value in values.items():
        if value is not None:
            setattr(file, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save_as(path, enforce_file_format=True)
    return path


AXIAL = [1, 0, 0, 0, 1, 0]
CORONAL = [1, 0, 0, 0, 0, -1]
OBLIQUE = [0.8, 0.6, 0, 0, 0, -1]


def dicom_series(folder, count=5, shape=(20, 30), orientation=AXIAL, step=2.5, skip=(), **tags):
    """Write a series whose file names say nothing about the order; returns (count, H, W) int16 in that of places."""
    volume = noise((count, *shape), np.int16, 2000)
    normal = np.cross(orientation[:3], orientation[3:])
    for i in range(count):
        if i in skip:
            continue
        place = np.array([-12.5, 40.25, 7.0]) + normal * step * i
        told = {"ImagePositionPatient": place.tolist(), "InstanceNumber": count - i} | tags
        name = f"IM{(i * 7 + 3) % 97:04d}.dcm"
        dicom_file(folder / name, volume[i], ImageOrientationPatient=list(orientation), PixelSpacing=[0.7, 0.5], **told)
    return volume
