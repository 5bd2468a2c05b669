import csv
import io
import json
import os
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression

from robustfit import (
    AdversarialDataset,
    NoisyDataset,
    RobustDataset,
    RobustDatasetLearner,
    RobustifiedClassifier,
    ThreatModel,
    as_sampler,
    load_robust_dataset,
    save_robust_dataset,
)
from robustfit.exceptions import (
    DatasetChecksumError,
    DatasetFormatError,
    ImageShapeError,
    PixelRangeError,
)
from robustfit.nets import default_classifier
from robustfit.sharing._checksums import array_checksum, card_checksum
from robustfit.sharing._exports import class_folders
from robustfit.sharing._png import png_bytes

LINF = ThreatModel("linf", 0.1)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "set.npz"


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewrite(path, **changes):
    """Write the archive anew with other members; None leaves one out."""
    content = members(path) | changes
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            if data is not None:
                archive.writestr(name, data)


def as_npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


# --- there and back -------------------------------------------------------------------


@pytest.mark.parametrize(
    "robustifier",
    [
        RobustDatasetLearner(eps=0.1, n_candidates=1, random_state=0),
        RobustDatasetLearner(
            eps=0.1, n_candidates=1, fraction=0.5, soft_labels=True, random_state=0
        ),
        RobustDatasetLearner(
            eps=0.1, n_candidates=1, unclear_fraction=0.3, random_state=0
        ),
        NoisyDataset(eps=0.1, random_state=0),
        AdversarialDataset(eps=0.5, norm="l2", n_steps=2, random_state=0),
    ],
    ids=["learned", "soft", "cleared", "noise", "adversarial"],
)
@pytest.mark.parametrize("labels", [int, str])
def test_every_bit_comes_back(digits, path, robustifier, labels):
    X, y, _, _ = digits
    X, y = X[:60], y[:60].astype(labels)
    robustifier.fit(X, y)
    saved = save_robust_dataset(path, robustifier, source=(X, y))
    loaded = load_robust_dataset(path)
    for dataset in (saved, loaded):
        assert dataset.X.tobytes() == robustifier.X_robust_.tobytes()
        np.testing.assert_array_equal(dataset.y, robustifier.y_robust_)
        assert dataset.y.dtype.kind == robustifier.y_robust_.dtype.kind
        np.testing.assert_array_equal(dataset.classes, robustifier.classes_)
        np.testing.assert_array_equal(
            dataset.sample_indices, robustifier.sample_indices_
        )
        sources = getattr(robustifier, "source_indices_", None)
        np.testing.assert_array_equal(dataset.source_indices, sources)
    assert loaded.card == saved.card
    assert len(loaded) == len(robustifier.X_robust_)
    assert not list(path.parent.glob(".*"))


def test_what_the_card_says(digits, path):
    X, y, _, _ = digits
    rows = X[:60].reshape(60, -1)
    learner = RobustDatasetLearner(
        0.1, "l2", image_shape=(1, 8, 8), estimator=default_classifier((1, 8, 8), 10),
        n_candidates=1, random_state=0, checkpoint=str(path.parent / "secret"),
    ).fit(rows, y[:60])  # fmt: skip
    measured = {"robust_accuracy": 0.5, "attack": "autoattack", "n": 1000, "seed": 0}
    save_robust_dataset(
        path, learner, source=(rows, y[:60]), measured=[measured],
        license_note="CC BY 4.0", description="digits",
    )  # fmt: skip
    text = members(path)["card.json"].decode()
    card = json.loads(text)
    assert "secret" not in text
    assert card["method"] == "RobustDatasetLearner"
    assert card["parameters"]["n_rounds"] == 24
    assert card["parameters"]["estimator"].startswith("<class 'skorch")
    assert card["threat_model"] == {"norm": "l2", "eps": 0.1, "clip_range": [0.0, 1.0]}
    assert card["image_shape"] == [1, 8, 8]
    assert card["measured"] == [measured]
    assert card["license"] == "CC BY 4.0"
    assert set(card["versions"]) == {
        "robustfit", "numpy", "scikit-learn", "torch", "python",
    }  # fmt: skip
    assert card["source"]["sha256"]["X"] == array_checksum(rows)
    assert card["source"]["sha256"]["X"] != array_checksum(rows[::-1])
    loaded = load_robust_dataset(path)
    assert loaded.X.shape == (60, 64)
    assert loaded.images.shape == (60, 1, 8, 8)
    assert repr(loaded) == (
        "RobustDataset(60 rows of shape 1x8x8, 10 classes, hard labels; "
        "RobustDatasetLearner, l2 eps=0.1)"
    )


def test_what_holds_a_fitted_robustifier(digits, path):
    X, y, _, _ = digits
    rows = X[:60].reshape(60, -1)
    classifier = RobustifiedClassifier(
        NoisyDataset(eps=0.1, random_state=0), LogisticRegression(max_iter=50)
    ).fit(rows, y[:60])
    sampler = as_sampler(NoisyDataset(eps=0.1, random_state=0))
    X_robust, _ = sampler.fit_resample(rows, y[:60])
    for holder in (classifier, sampler):
        assert (X_robust == save_robust_dataset(path, holder).X).all()


@pytest.mark.parametrize("shape", [(3, 32, 32), (5,)])
def test_arrays_of_ones_own(path, shape):
    X = np.random.default_rng(0).random((12, *shape))
    y = np.where(np.arange(12) % 2, "no", "yes").astype(object)
    X.setflags(write=False)
    save_robust_dataset(path, X, y, threat_model=LINF, method="by hand")
    loaded = load_robust_dataset(path)
    np.testing.assert_array_equal(loaded.X, X.astype(np.float32))
    np.testing.assert_array_equal(loaded.y, y.astype(str))
    assert loaded.sample_indices is None
    soft = np.random.default_rng(1).normal(size=(12, 2))  # need not be probabilities
    save_robust_dataset(path, X, soft, classes=["b", "a"])
    loaded = load_robust_dataset(path)
    np.testing.assert_array_equal(loaded.y, soft.astype(np.float32))
    assert list(loaded.classes) == ["b", "a"]


def test_the_same_set_gives_the_same_bytes(digits, path):
    X, y, _, _ = digits
    files = []
    for _ in range(2):
        save_robust_dataset(path, X[:20], y[:20])
        files.append(path.read_bytes())
    assert files[0] == files[1]


# --- what must not be loaded ----------------------------------------------------------


@pytest.fixture
def saved(digits, path):
    X, y, _, _ = digits
    save_robust_dataset(path, X[:20], y[:20], threat_model=LINF)
    return path


def test_changed_arrays_are_found(digits, saved):
    X, y, _, _ = digits
    changed = X[:20].copy()
    changed[3, 0, 2, 2] += 1e-3
    rewrite(saved, **{"X.npy": as_npy(changed)})
    with pytest.raises(DatasetChecksumError, match="SHA-256 of X"):
        load_robust_dataset(saved)
    rewrite(saved, **{"X.npy": as_npy(X[:20]), "y.npy": as_npy(y[:20][::-1])})
    with pytest.raises(DatasetChecksumError, match="SHA-256 of y"):
        load_robust_dataset(saved)


def test_a_changed_card_is_found(saved):
    card = json.loads(members(saved)["card.json"])
    card["threat_model"]["eps"] = 0.3
    rewrite(saved, **{"card.json": json.dumps(card)})
    with pytest.raises(DatasetChecksumError, match="SHA-256 of card"):
        load_robust_dataset(saved)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_cut_off_files(saved, share):
    data = saved.read_bytes()
    saved.write_bytes(data[: int(share * len(data))])
    with pytest.raises(DatasetFormatError, match="damaged, cut off"):
        load_robust_dataset(saved)


def test_a_flipped_byte_is_found(saved):
    data = bytearray(saved.read_bytes())
    data[len(data) // 2] ^= 0xFF
    saved.write_bytes(bytes(data))
    with pytest.raises(DatasetFormatError):
        load_robust_dataset(saved)


class Payload:
    def __reduce__(self):
        return (pytest.fail, ("code of the file was run",))


def test_pickles_are_never_read(saved):
    payload = np.empty(20, dtype=object)
    payload[:] = [Payload() for _ in payload]
    rewrite(saved, **{"X.npy": as_npy(payload, allow_pickle=True)})
    with pytest.raises(DatasetFormatError, match="no plain array"):
        load_robust_dataset(saved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"card.json": None}, "holds no card.json"),
        ({"card.json": b"\xff{"}, "not JSON"),
        ({"card.json": b"[1]"}, "not the card"),
        ({"card.json": b'{"format": "something else"}'}, "not the card"),
        (
            {"card.json": b'{"format": "robustfit dataset", "format_version": 9, '
             b'"versions": {"robustfit": "8.1"}}'},
            "version 9.*8.1",
        ),
        (
            {"card.json": b'{"format": "robustfit dataset", "format_version": 1}'},
            "lacks",
        ),
        ({"X.npy": None}, "holds no X.npy"),
        ({"X.npy": b"not an array"}, "no plain array"),
    ],
)  # fmt: skip
def test_what_is_no_shared_set(saved, changes, message):
    rewrite(saved, **changes)
    with pytest.raises(DatasetFormatError, match=message):
        load_robust_dataset(saved)


def forge(path, arrays=(), **card_changes):
    """Write another set under right checksums."""
    content = members(path)
    card = json.loads(content["card.json"]) | card_changes
    arrays = dict(arrays)
    for name, array in arrays.items():
        card["checksums"][name] = array_checksum(array)
    card["checksums"].pop("card")
    card["checksums"]["card"] = card_checksum(card)
    files = {f"{name}.npy": as_npy(array) for name, array in arrays.items()}
    rewrite(path, **files, **{"card.json": json.dumps(card)})


@pytest.mark.parametrize("changes", [
    {"versions": ["a", "list"], "format_version": 9}, {"image_shape": [-1, -64]},
    {"n_rows": 2**70}, {"shape": [2**70]}, {"shape": "1x8x8"}, {"n_rows": True},
    {"labels": "none"}, {"classes": 10},
    {"threat_model": {"norm": "linf", "eps": "big", "clip_range": None}},
    {"threat_model": {"norm": "l7"}}, {"threat_model": ["linf"]},
])  # fmt: skip
def test_cards_that_no_set_has(saved, changes):
    forge(saved, **changes)
    with pytest.raises(DatasetFormatError):
        load_robust_dataset(saved)


def test_nan_is_no_json(saved):
    card = members(saved)["card.json"].replace(b'"measured": []', b'"measured": [NaN]')
    assert b"NaN" in card
    rewrite(saved, **{"card.json": card})
    with pytest.raises(DatasetFormatError, match="it holds NaN"):
        load_robust_dataset(saved)


@pytest.mark.parametrize("change", [
    lambda X: X * np.nan, lambda X: 255 * X, lambda X: X.astype(float), lambda X: X[:9],
    lambda X: X.reshape(20, -1),
], ids=["nan", "0..255", "float64", "few rows", "flat"])  # fmt: skip
def test_forged_images_are_refused(digits, saved, change):
    forge(saved, {"X": change(digits[0][:20])})
    with pytest.raises(DatasetFormatError, match="do not fit"):
        load_robust_dataset(saved)


@pytest.mark.parametrize("rows", [-np.arange(20), np.arange(9), np.ones(20)])
def test_forged_row_numbers_are_refused(saved, rows):
    forge(saved, {"sample_indices": rows})
    with pytest.raises(DatasetFormatError, match="do not fit"):
        load_robust_dataset(saved)


def test_a_bomb_is_not_unpacked(saved, monkeypatch):
    monkeypatch.setattr(
        np.lib.format, "read_array", lambda *_, **__: pytest.fail("read")
    )
    zeros = np.zeros((300_000, 64), np.float32)
    header = as_npy(zeros[:0]).replace(b"(0, 64)", b"(300000, 64)")
    for size in (len(header), zeros.nbytes + 128):
        content = members(saved)
        card = json.loads(content["card.json"])
        card |= {"n_rows": 300_000, "shape": [64], "image_shape": [64]}
        with zipfile.ZipFile(saved, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("card.json", json.dumps(card))
            archive.writestr("X.npy", as_npy(zeros)[:size])
            archive.writestr("y.npy", content["y.npy"])
        with pytest.raises(DatasetFormatError, match=r"cut off|more than 200 times"):
            load_robust_dataset(saved)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(saved, method):
    content = members(saved)
    with zipfile.ZipFile(saved, "w", method) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    with pytest.raises(DatasetFormatError):
        load_robust_dataset(saved)


@pytest.mark.parametrize("path", [None, 3, b"set.npz"])
def test_what_is_no_path(path):
    with pytest.raises(DatasetFormatError, match="expected the name of a file"):
        load_robust_dataset(path)


@pytest.mark.parametrize("shape", [(20, 8, 8), (20, 1, 1, 8, 8)])
def test_other_axes_are_not_saved(digits, path, shape):
    X, y, _, _ = digits
    with pytest.raises(ValueError, match="expected"):
        save_robust_dataset(path, X[:20].reshape(shape), y[:20])
    assert not path.exists()


def test_other_members_are_not_touched(saved, tmp_path):
    card = json.loads(members(saved)["card.json"])
    rewrite(saved, **{"../../evil.npy": as_npy(np.zeros(3))})
    assert len(load_robust_dataset(saved)) == 20  # ignored
    card["checksums"]["../../evil"] = "0"
    rewrite(saved, **{"card.json": json.dumps(card)})
    with pytest.raises(DatasetFormatError, match="names the arrays"):
        load_robust_dataset(saved)


def test_a_plain_npz_says_how_to_save(digits, path):
    X, y, _, _ = digits
    np.savez(path, X=X, y=y)
    with pytest.raises(DatasetFormatError, match=r"save_robust_dataset\(path, X, y\)"):
        load_robust_dataset(path)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"path": "set.zip"}, ValueError, "ends in .npz"),
        ({"y": None}, ValueError, "pass images and labels"),
        ({"X": NoisyDataset(), "y": None}, NotFittedError, "fit it first"),
        ({"y": np.zeros(3)}, ValueError, "inconsistent numbers"),
        ({"y": [b"a"] * 20}, ValueError, "Labels are of type"),
        ({"y": np.full(20, 7), "classes": [1, 2]}, ValueError, "which classes lacks"),
        ({"y": np.zeros((20, 3)), "classes": [1, 2]}, ValueError, "one label a column"),
        ({"X": np.full((20, 4), np.nan)}, ValueError, "NaN"),
        ({"image_shape": (1, 7, 8)}, ValueError, "holds 56 numbers"),
        ({"threat_model": 0.1}, ValueError, "expected a ThreatModel"),
        ({"measured": [{"robust_accuracy": 0.5}]}, ValueError, "attack"),
        ({"measured": [{"robust_accuracy": 50, "attack": "pgd", "n": 9}]}, ValueError,
         r"share in \[0, 1\]"),
        ({"measured": [{"robust_accuracy": 0.5, "attack": "pgd", "n": 0}]}, ValueError,
         "'n'"),
    ],
)  # fmt: skip
def test_bad_arguments_leave_the_old_file(digits, saved, change, error, message):
    X, y, _, _ = digits
    before = saved.read_bytes()
    arguments = {"path": saved, "X": X[:20], "y": y[:20]} | change
    with pytest.raises(error, match=message):
        save_robust_dataset(**arguments)
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == ["set.npz"]


def test_a_kill_leaves_the_old_file(digits, saved):
    before = saved.read_bytes()
    script = """
import os, signal, sys
import numpy as np
import robustfit
from robustfit.sharing import npz_file
original = np.lib.format.write_array
def die(file, array, **options):
    original(file, array, **options)
    os.kill(os.getpid(), signal.SIGKILL)
npz_file.np.lib.format.write_array = die
robustfit.save_robust_dataset(sys.argv[1], np.ones((9, 4)), np.arange(9))
"""
    done = subprocess.run([sys.executable, "-c", script, str(saved)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert saved.read_bytes() == before
    assert len(load_robust_dataset(saved)) == 20


def test_an_error_while_writing_leaves_the_old_file(digits, saved, monkeypatch):
    before = saved.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda f: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        save_robust_dataset(saved, np.ones((9, 4)), np.arange(9))
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == ["set.npz"]


# --- other shapes of the same set -----------------------------------------------------


def test_torch_view(digits, path):
    X, y, _, _ = digits
    view = save_robust_dataset(path, X[:20], y[:20].astype(str)).to_torch()
    loader = torch.utils.data.DataLoader(view, batch_size=8)
    images, labels = zip(*loader, strict=True)
    np.testing.assert_array_equal(torch.cat(images).numpy(), X[:20])
    np.testing.assert_array_equal(torch.cat(labels).numpy(), y[:20])
    assert labels[0].dtype == torch.int64
    assert isinstance(view, torch.utils.data.Dataset)


def test_torch_view_of_soft_labels(path):
    soft = np.array([[0.25, 0.75], [1.0, 0.0]])
    view = save_robust_dataset(path, np.zeros((2, 3)), soft).to_torch()
    assert view[0][1].tolist() == [0.25, 0.75]
    assert view[0][1].dtype == torch.float32


def test_png_folders_read_back(digits, path):
    image = pytest.importorskip("PIL.Image")
    X, y, _, _ = digits
    labels = np.array([f"n{c}" for c in y[:20]])
    dataset = save_robust_dataset(path, X[:20], labels, threat_model=LINF)
    folder = dataset.export_png(path.parent / "images")
    files = sorted(folder.glob("*/*.png"), key=lambda p: p.name)
    assert len(files) == 20
    for row, file in enumerate(files):
        assert file.parent.name == f"{y[row]}-{labels[row]}"
        pixels = np.asarray(image.open(file), dtype=float) / 255
        assert np.abs(pixels - X[row, 0]).max() <= 1 / 510 + 1e-6
    card = json.loads((folder / "card.json").read_text())
    assert "rounded" in card["png"]
    assert sorted(p.name for p in path.parent.iterdir()) == ["images", "set.npz"]
    with pytest.raises(FileExistsError, match="exists"):
        dataset.export_png(folder)


def test_png_of_colours_and_another_range(path):
    image = pytest.importorskip("PIL.Image")
    X = np.linspace(-1, 1, 2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    threat_model = ThreatModel("linf", 0.1, (-1.0, 1.0))
    soft = np.array([[0.1, 0.9], [0.8, 0.2]])
    dataset = save_robust_dataset(path, X, soft, threat_model=threat_model)
    folder = dataset.export_png(path.parent / "images")
    pixels = np.asarray(image.open(folder / "1" / "0.png"))
    assert pixels.shape == (4, 5, 3)
    assert pixels[0, 0, 0] == 0
    np.testing.assert_allclose(
        pixels.transpose(2, 0, 1) / 255 * 2 - 1, X[0], atol=1 / 255
    )
    with (folder / "soft_labels.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["row", "0", "1"]
    np.testing.assert_allclose([float(v) for v in rows[1][1:]], soft[0], rtol=1e-6)


def test_png_by_hand():
    image = pytest.importorskip("PIL.Image")
    pixels = np.array([[[0, 7], [255, 128]]], dtype=np.uint8)
    decoded = np.asarray(image.open(io.BytesIO(png_bytes(pixels))))
    np.testing.assert_array_equal(decoded, pixels[0])


def test_labels_cannot_leave_the_folder(digits, path):
    X, _, _, _ = digits
    labels = np.array(["../../up", "/root", "a b", ".."])
    dataset = save_robust_dataset(path, X[:4], labels, threat_model=LINF)
    folder = dataset.export_png(path.parent / "images")
    assert len(list(folder.glob("*/*.png"))) == 4
    assert sorted(p.name for p in path.parent.iterdir()) == ["images", "set.npz"]
    names = class_folders(np.array([f"class {i}/" for i in range(12)]))
    assert names == sorted(names)
    assert not any("/" in name for name in names)
    assert class_folders(np.arange(3)) == ["0", "1", "2"]


def test_what_png_cannot_hold(digits, path):
    X, y, _, _ = digits
    folder = path.parent / "images"
    rows = X[:20].reshape(20, -1)
    for images, threat_model, error, message in [
        (rows, LINF, ImageShapeError, "1 or 3 channels"),
        (np.repeat(X[:20], 2, axis=1), LINF, ImageShapeError, "1 or 3 channels"),
        (X[:20], None, ValueError, "clip_range"),
    ]:
        dataset = save_robust_dataset(path, images, y[:20], threat_model=threat_model)
        with pytest.raises(error, match=message):
            dataset.export_png(folder)
        assert not folder.exists()
    save_robust_dataset(
        path, rows, y[:20], threat_model=LINF, image_shape=(1, 8, 8)
    ).export_png(folder)


def test_images_outside_their_range_are_not_saved(digits, path):
    X, y, _, _ = digits
    with pytest.raises(PixelRangeError, match="lies in"):
        save_robust_dataset(path, X[:20] * 3, y[:20], threat_model=LINF)
    assert not path.exists()


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("flat", [False, True])
def test_hugging_face(digits, path, soft, flat):
    pytest.importorskip("datasets")
    X, y, _, _ = digits
    X = X[:20].reshape(20, -1) if flat else X[:20]
    labels = np.eye(10)[y[:20]] * 0.9 + 0.01 if soft else y[:20].astype(str)
    dataset = save_robust_dataset(path, X, labels)
    table = dataset.to_huggingface()
    assert table.num_rows == 20
    assert json.loads(table.info.description) == dataset.card
    columns = table.with_format("numpy")
    np.testing.assert_array_equal(np.asarray(columns["image"][:]), X)
    np.testing.assert_array_equal(np.asarray(columns["label"][:]), dataset.targets)
    if not soft:
        assert table.features["label"].names == [str(i) for i in range(10)]


def test_without_the_library_it_says_what_to_install(digits, path, monkeypatch):
    X, y, _, _ = digits
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match="pip install datasets"):
        save_robust_dataset(path, X[:5], y[:5]).to_huggingface()


def test_natural_training_on_a_loaded_set(digits, path):
    X, y, X_test, y_test = digits
    save_robust_dataset(path, NoisyDataset(eps=0.05, random_state=0).fit(X, y))
    loaded = load_robust_dataset(path)
    assert isinstance(loaded, RobustDataset)
    net = default_classifier((1, 8, 8), 10, max_epochs=40)
    torch.manual_seed(0)
    assert net.fit(loaded.X, loaded.y).score(X_test, y_test) > 0.8
