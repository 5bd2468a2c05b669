import numpy as np
import pytest

from robustfit.sklearn_to_torch.label_columns import check_columns, label_columns

NUMBERS = np.array([3, 5, 9])
WORDS = np.array(["cat", "cow", "dog"])


@pytest.mark.parametrize(
    ("y", "classes", "expected"),
    [
        ([3, 9, 5], NUMBERS, [0, 2, 1]),
        ([3.0, 9.0], NUMBERS, [0, 2]),
        ([4, 100, -1], NUMBERS, [-1, -1, -1]),  # a fold may lack a class
        (np.array([3, 9.0], dtype=object), NUMBERS, [0, 2]),
        (np.uint8([9, 3]), NUMBERS, [2, 0]),
        ([9, 3], NUMBERS.astype(float), [2, 0]),
        ([9, 3, 5], NUMBERS[::-1], [0, 2, 1]),
        ([True, False], np.array([0, 1]), [1, 0]),
        ([1, 0, 2], np.array([False, True]), [1, 0, -1]),
        (["dog", "cat", "doe"], WORDS, [2, 0, -1]),
        (np.array(["dog", "cat"], dtype=object), WORDS, [2, 0]),
        (["dog", "cat"], WORDS.astype(object), [2, 0]),
        (["a much longer label"], WORDS, [-1]),
        ([2, 0], None, [2, 0]),
        ([2.0, 0.0], None, [2, 0]),
        ([True, False], None, [1, 0]),
        (np.array([2, True, 0.0], dtype=object), None, [2, 1, 0]),
        ([], NUMBERS, []),
    ],
)
def test_columns_of_labels(y, classes, expected):
    columns = label_columns(y, classes)
    assert columns.tolist() == expected
    assert columns.dtype == np.int64


@pytest.mark.parametrize(
    ("y", "classes", "label"),
    [
        ([3, 5], WORDS, "3"),
        ([3, 5], WORDS.astype(object), "3"),
        (["3", "5"], NUMBERS, "'3'"),
        (np.array([3, "5"], dtype=object), NUMBERS, "'5'"),
        (np.array([3, None], dtype=object), NUMBERS, "None"),
        (np.array(["cat", np.nan], dtype=object), WORDS, "nan"),
        ([b"cat"], WORDS, "b'cat'"),
        ([True], WORDS, "True"),
        ([3, np.nan], NUMBERS, "nan"),
        ([3, np.inf], NUMBERS, "inf"),
        ([3, 5.5], NUMBERS, "5.5"),
        (np.array([3, 5.5], dtype=object), NUMBERS, "5.5"),
        ([0, 1.5], None, "1.5"),
        ([0, np.nan], None, "nan"),
        (["one"], None, "'one'"),
        ([None], None, "None"),
    ],
)
def test_labels_of_no_class_are_refused(y, classes, label):
    expected = "whole numbers" if classes is None else "the model's classes"
    with pytest.raises(ValueError, match=f"y holds the label {label}.*{expected}"):
        label_columns(y, classes)


@pytest.mark.parametrize(("y", "label"), [([0, 3], 3), ([-1, 1], -1), ([7.0], 7.0)])
def test_labels_beyond_the_outputs_are_refused(y, label):
    with pytest.raises(ValueError, match=f"label {label}, and the model has 3 outputs"):
        check_columns(y, label_columns(y), 3)


def test_more_classes_than_outputs_are_refused():
    with pytest.raises(ValueError, match=r"class 2 of 3, and the model returns 2"):
        check_columns(["cat", "dog"], label_columns(["cat", "dog"], WORDS), 2, WORDS)


def test_fitting_labels_pass():
    check_columns([0, 2], np.array([0, 2]), 3)
    check_columns(["cat", "?"], np.array([0, -1]), 3, WORDS)


def test_long_lists_of_classes_are_cut():
    with pytest.raises(ValueError, match=r"\[0, 1, .*, 9, \.\.\.\]"):
        label_columns(["a"], np.arange(1000))
