"""The CIFAR-10 archive ("CIFAR-10 python version") as arrays, and the paper's augmentation."""

import gzip
import io
import pickle
import tarfile
import zlib
from pathlib import Path

import numpy as np

ARCHIVE = "cifar-10-python.tar.gz"
EXTRACTED = "cifar-10-batches-py"
NAMES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
SIZE = 32
PADDING = 4


def load(folder):
    """``(train, test)``, each a pair of images, shape=(n, 32, 32, 3), dtype=uint8, and labels, dtype=int32.

    Raises FileNotFoundError where neither the archive nor its extracted folder is there, ValueError where a file is
    damaged.
    """
    *train, test = (_batch(name, content) for name, content in _read(Path(folder)).items())
    images, labels = (np.concatenate(arrays) for arrays in zip(*train, strict=True))
    return (images, labels), test


def random_crops_and_flips(rng, images):
    """Pads with black pixels and cuts the old size out anywhere; half of the images are mirrored."""
    padded = np.pad(images, ((0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0)))
    rows = np.arange(len(images))
    top, left = rng.integers(2 * PADDING + 1, size=(2, len(images)))
    crops = np.lib.stride_tricks.sliding_window_view(padded, (SIZE, SIZE), axis=(1, 2))[rows, top, left]
    crops = np.moveaxis(crops, 1, -1)
    mirrored = rng.integers(2, size=len(images), dtype=bool)
    return np.where(mirrored[:, None, None, None], crops[:, :, ::-1], crops)


def normalizer(images):
    """A function that gives each channel of these images the mean 0 and the deviation 1."""
    counts = np.stack([np.bincount(images[..., channel].ravel(), minlength=256) for channel in range(3)])
    values, shares = np.arange(256), counts / counts.sum(axis=1, keepdims=True)
    mean = shares @ values
    deviation = np.sqrt(shares @ values**2 - mean**2)
    return lambda images: ((images - mean) / deviation).astype(np.float32)


def _read(folder):
    """The bytes of each batch, from the archive or from what was extracted."""
    extracted = folder / EXTRACTED if (folder / EXTRACTED).is_dir() else folder
    if all((extracted / name).is_file() for name in NAMES):
        return {name: (extracted / name).read_bytes() for name in NAMES}
    archive = folder / ARCHIVE
    if archive.is_file():
        return _read_archive(archive)
    found = "has neither of them" if folder.is_dir() else "does not exist"
    raise FileNotFoundError(
        f"Looked for `{ARCHIVE}`, or for its folder `{EXTRACTED}` with {', '.join(NAMES)}, in `{folder}`, which "
        f'{found}. Get the archive called "CIFAR-10 python version" and name the folder that holds it.'
    )


def _read_archive(archive):
    try:
        # Decompressed to the end, because the checksum stands there.
        content = io.BytesIO(gzip.decompress(archive.read_bytes()))
        with tarfile.open(fileobj=content) as members:
            return {name: members.extractfile(f"{EXTRACTED}/{name}").read() for name in NAMES}
    except (gzip.BadGzipFile, zlib.error, EOFError, tarfile.TarError, KeyError) as error:
        raise ValueError(f"`{archive}` is damaged ({error}). Get it again.") from error


def _batch(name, content):
    """One pickled batch: each image a row of three planes of pixels."""
    try:
        batch = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        images, labels = batch[b"data"], np.asarray(batch[b"labels"], np.int32)
        if images.dtype != np.uint8 or labels.shape != (len(images),) or not np.isin(labels, range(10)).all():
            raise ValueError("its arrays are not those of CIFAR-10")
        return images.reshape(-1, 3, SIZE, SIZE).transpose(0, 2, 3, 1), labels
    except (pickle.UnpicklingError, AttributeError, EOFError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"`{name}` is damaged ({error}). Get {ARCHIVE} again.") from error


class _Unpickler(pickle.Unpickler):
    """Calls nothing but what makes an array, since a pickle can call whatever it names."""

    def find_class(self, module, name):
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no part of an array")
        return _ADMITTED[module, name]


_RECONSTRUCT = np.empty(0).__reduce__()[0]
_ADMITTED = {
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
}
