"""The parts that all checks of certificates are made of."""

import numpy as np
import pytest

from baselines.certificate import CertificateError, pack
from baselines.checking import expect, near, numbers, whole_number


def test_refusals_name_field_value_and_what_is_allowed():
    expect(True, "field", 1, "2")
    with pytest.raises(CertificateError, match=r"^field = 1; allowed: 2$"):
        expect(np.bool_(False), "field", 1, "2")


@pytest.mark.parametrize("claimed", [1.0 + 3e-9, 1, "1.0", None, float("nan"), True, 10**400])
def test_a_claim_is_a_float_near_the_true_number(claimed):
    near("gap", 1.0 + 1e-9, 1.0)
    near("gap", 1.0 + 1e-6, 1.0, 1e-6)
    with pytest.raises(CertificateError, match="^gap = .*recomputed"):
        near("gap", claimed, 1.0)


@pytest.mark.parametrize("value", [-1, 4, 1.0, True, "1"])
def test_a_whole_number_lies_in_its_range(value):
    assert [whole_number("n", k, 0, 3) for k in (0, 3)] == [0, 3]
    with pytest.raises(CertificateError, match="^n = .*from 0 to 3$"):
        whole_number("n", value, 0, 3)


@pytest.mark.parametrize(
    "values", [np.zeros(2), np.zeros((2, 3), np.float32), np.zeros((2, 3), np.int64), np.full((2, 3), np.inf)]
)
def test_packed_arrays_have_the_shape_the_dtype_and_finite_entries(values):
    np.testing.assert_array_equal(numbers("x", pack(np.ones((2, 3))), (2, 3)), np.ones((2, 3)))
    with pytest.raises(CertificateError, match="x"):
        numbers("x", pack(values), (2, 3))


@pytest.mark.parametrize("true", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("claimed", [0.0, 1e300, float("inf")])
def test_nothing_is_near_a_number_that_is_not_finite(true, claimed):
    with pytest.raises(CertificateError, match="x"):
        near("x", claimed, true)
