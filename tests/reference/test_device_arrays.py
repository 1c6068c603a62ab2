"""Arrays on their way to a device: what repeats is copied once, and states that are there are taken as they are."""

import numpy as np
import pytest
import torch

from samplernn_fast.reference.weights import as_tensor, as_tensors, moved


@pytest.mark.parametrize("column", [np.float32(0.5), np.arange(3, dtype=np.float32)[:, None]])
def test_rows_of_one_number_are_copied_once(column):
    rows = np.broadcast_to(column, (3, 1000))
    tensor = as_tensor(rows, "cpu")
    assert tensor.shape == rows.shape and tensor.untyped_storage().nbytes() == 12
    assert np.array_equal(tensor.numpy(), rows)
    assert np.array_equal(as_tensor(rows[:, 7:9], "cpu").numpy(), rows[:, 7:9])


def test_an_array_keeps_its_memory_unless_it_is_read_only():
    array = np.arange(6.0).reshape(2, 3)
    assert np.shares_memory(as_tensor(array, "cpu").numpy(), array)
    array.flags.writeable = False
    assert not np.shares_memory(as_tensor(array, "cpu").numpy(), array)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_hidden_states_have_the_numbers_of_the_backend(dtype):
    given = [np.ones((1, 2, 4), np.float64), np.asfortranarray(np.ones((1, 2, 4), np.float32))]
    tensors = as_tensors(given, "cpu", dtype)
    assert [one.numpy().dtype for one in tensors] == [dtype] * 2
    assert all(one is two for one, two in zip(as_tensors(tensors, "cpu", dtype), tensors, strict=True))
    other = np.float64 if dtype == np.float32 else np.float32
    assert [one.numpy().dtype for one in as_tensors(tensors, "cpu", other)] == [other] * 2


def test_a_call_changes_arrays_and_replaces_tensors():
    arrays, tensors = [np.zeros(3, np.float32)], [torch.zeros(3)]
    array, tensor = arrays[0], tensors[0]
    for hidden in (arrays, tensors):
        with moved(hidden, "cpu") as states:
            states[0].add_(1)
    assert arrays[0] is array and array.tolist() == [1, 1, 1]
    assert tensor.tolist() == [0, 0, 0] and tensors[0].tolist() == [1, 1, 1]


def test_a_call_that_fails_leaves_tensors_as_they_were():
    hidden = [torch.zeros(3)]
    with pytest.raises(RuntimeError), moved(hidden, "cpu") as states:
        states[0].add_(1)
        raise RuntimeError
    assert hidden[0].tolist() == [0, 0, 0]
