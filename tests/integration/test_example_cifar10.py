"""The CIFAR-10 example on a tiny archive in the format of the original."""

import io
import pickle
import re
import struct
import tarfile

import numpy as np
import pytest

from examples import cifar10, cifar10_resnet20

PER_FILE = 4


class Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2, which made the original, wrote its strings; and names NumPy's modules as it did."""

    def save_string(self, string):
        self.write(pickle.BINSTRING + struct.pack("<i", len(string)) + string)

    def save_global(self, obj, name=None):
        module = "numpy.core.multiarray" if obj.__name__ == "_reconstruct" else obj.__module__
        self.write(pickle.GLOBAL + f"{module}\n{obj.__name__}\n".encode())

    dispatch = {**pickle._Pickler.dispatch, bytes: save_string, type: save_global, type(cifar10.load): save_global}  # noqa: RUF012


def pickled(batch):
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(batch)
    return file.getvalue()


def batch_of(seed):
    rng = np.random.default_rng(seed)
    data = rng.integers(256, size=(PER_FILE, 3072), dtype=np.uint8)
    return {b"data": data, b"labels": rng.integers(10, size=PER_FILE).tolist(), b"filenames": [b"a.png"] * PER_FILE}


BATCHES = {name: batch_of(seed) for seed, name in enumerate(cifar10.NAMES)}


def write_archive(folder, **changed):
    """The archive, with the bytes of some files changed."""
    files = {name: pickled(batch) for name, batch in BATCHES.items()} | changed
    with tarfile.open(folder / cifar10.ARCHIVE, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"{cifar10.EXTRACTED}/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return folder / cifar10.ARCHIVE


def test_the_archive_is_read_as_images_of_three_channels(tmp_path):
    write_archive(tmp_path)
    (images, labels), test = cifar10.load(tmp_path)
    assert images.shape == (5 * PER_FILE, 32, 32, 3)
    assert test[0].shape == (PER_FILE, 32, 32, 3)
    second = BATCHES["data_batch_2"]
    # A row of the archive is 1,024 red pixels line by line, then the green ones, then the blue ones.
    assert images[PER_FILE + 1, 3, 5, 2] == second[b"data"][1, 2 * 1024 + 3 * 32 + 5]
    np.testing.assert_array_equal(labels[PER_FILE : 2 * PER_FILE], second[b"labels"])


DAMAGED = {"names os.system": b"cos\nsystem\n(S'touch called'\ntR.", "": b""}


@pytest.mark.parametrize("why", DAMAGED)
def test_a_damaged_or_hostile_file_is_named(why, tmp_path):
    write_archive(tmp_path, data_batch_3=DAMAGED[why])
    with pytest.raises(ValueError, match=f"`data_batch_3` is damaged .*{why}"):
        cifar10.load(tmp_path)


@pytest.mark.long
def test_the_example_trains(tmp_path, capsys):
    write_archive(tmp_path)
    # Twelve steps: the last, after the dense start, is without an estimate.
    options = {"--data": tmp_path, "--epochs": 6, "--batch-size": 10, "--blocks": 1, "--width": 2}
    options["--update-interval"] = 10
    cifar10_resnet20.main([str(word) for option in options.items() for word in option])
    assert re.fullmatch(r"6 epochs: test accuracy (0|1)\.\d{4}\n", capsys.readouterr().out)
