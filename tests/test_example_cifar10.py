"""The CIFAR-10 example on a tiny archive in the format of the original."""

import io
import pickle
import re
import struct
import tarfile

import jax
import jax.numpy as jnp
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


@pytest.mark.parametrize("named", [".", cifar10.EXTRACTED])
def test_what_was_extracted_is_read_alike(named, tmp_path):
    expected = cifar10.load(write_archive(tmp_path).parent)
    with tarfile.open(tmp_path / cifar10.ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    (tmp_path / cifar10.ARCHIVE).unlink()
    got = cifar10.load(tmp_path / named)
    for got_part, expected_part in zip(got, expected, strict=True):
        np.testing.assert_array_equal(got_part[0], expected_part[0])
        np.testing.assert_array_equal(got_part[1], expected_part[1])


def test_a_pickle_that_calls_something_else_is_refused(tmp_path):
    write_archive(tmp_path, data_batch_3=b"cos\nsystem\n(S'touch called'\ntR.")
    with pytest.raises(ValueError, match=r"`data_batch_3` is damaged \(it names os.system"):
        cifar10.load(tmp_path)


@pytest.mark.parametrize("missing", ["the folder", "the archive"])
def test_a_wrong_folder_is_named_with_what_was_looked_for(missing, tmp_path):
    folder = tmp_path / "nowhere" if missing == "the folder" else tmp_path
    state = "does not exist" if missing == "the folder" else "has neither"
    with pytest.raises(SystemExit, match=rf"`cifar-10-python.tar.gz`.*`{re.escape(str(folder))}`, which {state}"):
        cifar10_resnet20.main(["--data", str(folder)])


@pytest.mark.parametrize("damage", ["cut off", "bits flipped", "a file is missing", "not an archive"])
def test_a_damaged_archive_is_named(damage, tmp_path):
    archive = write_archive(tmp_path)
    content = bytearray(archive.read_bytes())
    if damage == "cut off":
        archive.write_bytes(content[: len(content) // 2])
    elif damage == "bits flipped":
        content[len(content) // 2] ^= 255
        archive.write_bytes(content)
    elif damage == "not an archive":
        archive.write_bytes(b"<html>Not Found</html>")
    else:
        with tarfile.open(archive, "w:gz"):
            pass
    with pytest.raises(ValueError, match=r"cifar-10-python.tar.gz` is damaged .*Get it again"):
        cifar10.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x80\x02}", pickled({b"data": BATCHES["test_batch"][b"data"]})])
def test_a_damaged_file_is_named(content, tmp_path):
    write_archive(tmp_path, test_batch=content)
    with pytest.raises(ValueError, match="`test_batch` is damaged"):
        cifar10.load(tmp_path)


def test_crops_shift_by_at_most_the_padding_over_black_and_half_are_mirrored():
    image = np.arange(1, 32 * 32 + 1, dtype=np.uint16).reshape(32, 32, 1).repeat(3, axis=2)
    crops = cifar10.random_crops_and_flips(np.random.default_rng(0), np.stack([image] * 500))
    assert crops.shape == (500, 32, 32, 3)
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)))
    shifts, mirrored = set(), 0
    for crop in crops:
        flipped = crop[16, 16, 0] > crop[16, 17, 0]
        upright = crop[:, ::-1] if flipped else crop
        top, left = (int(c) for c in np.argwhere(padded[..., 0] == upright[16, 16, 0])[0] - 16)
        np.testing.assert_array_equal(upright, padded[top : top + 32, left : left + 32])
        shifts.add((top, left))
        mirrored += flipped
    assert {top for top, _ in shifts} == {left for _, left in shifts} == set(range(9))
    assert abs(mirrored - 250) < 4 * np.sqrt(500 / 4)


def test_the_normalizer_makes_mean_0_and_deviation_1_of_each_channel():
    images = np.random.default_rng(0).integers([10, 20, 30], [60, 240, 90], size=(5, 32, 32, 3)).astype(np.uint8)
    got = cifar10.normalizer(images)(images)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got.mean(axis=(0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(got.std(axis=(0, 1, 2)), 1, atol=1e-5)


@pytest.mark.parametrize(("step", "rate"), [(0, 0.15), (799, 0.15), (800, 0.015), (1199, 0.015), (1200, 0.0015)])
def test_the_rate_falls_at_80_and_120_of_160_epochs(step, rate):
    schedule = cifar10_resnet20.learning_rate(epochs=160, steps_per_epoch=10)
    np.testing.assert_allclose(schedule(step), rate, rtol=1e-6)


def test_resnet_20_has_the_published_number_of_parameters():
    model = cifar10_resnet20.ResNet()
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == 269_722


def test_only_an_interval_above_1_adds_a_clip_to_the_papers_rule():
    params = np.ones(2, np.float32)
    for interval, longest in (1, 1.5e3), (10, 0.01):
        tx = cifar10_resnet20.optimizer(0.15, interval)
        updates, _ = tx.update(params, tx.init(params), params, hessian_diag=np.zeros(2, np.float32))
        np.testing.assert_allclose(np.abs(updates), longest, rtol=1e-3)


@pytest.mark.long
def test_the_example_trains(tmp_path, capsys):
    write_archive(tmp_path)
    # Twelve steps: the last, after the dense start, is without an estimate.
    options = {"--data": tmp_path, "--epochs": 6, "--batch-size": 10, "--blocks": 1, "--width": 2}
    options["--update-interval"] = 10
    cifar10_resnet20.main([str(word) for option in options.items() for word in option])
    assert re.fullmatch(r"6 epochs: test accuracy (0|1)\.\d{4}\n", capsys.readouterr().out)
