"""Lattices: cell geometry, Ewald sphere, intensities."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_xtal.errors import ParameterError
from napari_xtal.simulate.crystal import LYSOZYME, Crystal, random_rotation, reciprocal_basis

WAVELENGTH = 1.3


@pytest.fixture(scope="module")
def crystal():
    return Crystal(LYSOZYME, 0.35, np.random.default_rng(0))


@settings(deadline=None)
@given(
    lengths=st.tuples(*[st.floats(20, 300)] * 3),
    angles=st.tuples(*[st.floats(70, 110)] * 3),
)
def test_reciprocal_basis_belongs_to_the_cell(lengths, angles):
    basis = reciprocal_basis((*lengths, *angles))
    direct = np.linalg.inv(basis).T
    np.testing.assert_allclose(np.linalg.norm(direct, axis=0), lengths, rtol=1e-9)
    a, b, c = direct.T
    cosines = [u @ v / np.linalg.norm(u) / np.linalg.norm(v) for u, v in ((b, c), (a, c), (a, b))]
    np.testing.assert_allclose(np.rad2deg(np.arccos(cosines)), angles, rtol=1e-9)


@pytest.mark.parametrize(
    "cell", [(10, 10, 10, 90, 90), (10, 0, 10, 90, 90, 90), (10, 10, 10, 150, 150, 150)]
)
def test_impossible_cells_are_refused(cell):
    with pytest.raises(ParameterError, match="cell"):
        reciprocal_basis(cell)


def test_too_large_problems_are_refused():
    with pytest.raises(ParameterError, match="too many"):
        Crystal((500, 500, 500, 90, 90, 90), 1.0, np.random.default_rng(0))


def test_rotations_are_uniform():
    rng = np.random.default_rng(1)
    matrices = np.stack([random_rotation(rng) for _ in range(4000)])
    np.testing.assert_allclose(np.linalg.det(matrices), 1.0)
    np.testing.assert_allclose(
        matrices @ matrices.transpose(0, 2, 1),
        np.broadcast_to(np.eye(3), matrices.shape),
        atol=1e-12,
    )
    # A uniformly rotated axis has z uniform in -1 .. 1.
    z = matrices[:, 2, 0]
    assert abs(z.mean()) < 0.04
    assert z.var() == pytest.approx(1 / 3, rel=0.06)


def test_reflections_lie_on_the_ewald_sphere(crystal):
    rng = np.random.default_rng(2)
    for _ in range(5):
        rotation = random_rotation(rng)
        found = crystal.diffract(rotation, WAVELENGTH)
        assert len(found.hkl) > 50
        outgoing = found.q + [0, 0, 1 / WAVELENGTH]
        lengths = np.linalg.norm(outgoing, axis=1)
        np.testing.assert_allclose(lengths - 1 / WAVELENGTH, found.excitation, atol=1e-12)
        assert np.abs(found.excitation).max() < 3 * np.hypot(4e-4, 5e-4 * 0.35)
        # q is the rotated reciprocal-lattice vector of the stated indices.
        np.testing.assert_allclose(
            found.q, found.hkl @ (rotation @ reciprocal_basis(LYSOZYME)).T, atol=1e-12
        )
        # Bragg's law at the place where the ray meets the detector.
        theta = np.arctan(np.hypot(*found.tan.T)) / 2
        np.testing.assert_allclose(
            2 * np.sin(theta) / WAVELENGTH, np.linalg.norm(found.q, axis=1), atol=2e-3
        )


def test_no_excited_reflection_is_missed(crystal):
    rotation = random_rotation(np.random.default_rng(3))
    found = crystal.diffract(rotation, WAVELENGTH)
    q = crystal.hkl @ (rotation @ reciprocal_basis(LYSOZYME)).T
    excitation = np.linalg.norm(q + [0, 0, 1 / WAVELENGTH], axis=1) - 1 / WAVELENGTH
    width = np.hypot(4e-4, 5e-4 * np.linalg.norm(q, axis=1))
    assert len(found.hkl) == np.count_nonzero(np.abs(excitation) < 3 * width)


def test_intensities_follow_wilson_and_friedel(crystal):
    full = crystal._full * np.exp(25.0 * np.sum(crystal._q**2, axis=1) / 2)
    # Acentric Wilson statistics: <I^2> / <I>^2 = 2.
    assert np.mean(full**2) / np.mean(full) ** 2 == pytest.approx(2.0, rel=0.05)
    mates = {tuple(hkl): value for hkl, value in zip(crystal.hkl, full, strict=True)}
    for hkl in crystal.hkl[:: len(crystal.hkl) // 50]:
        assert mates[tuple(hkl)] == pytest.approx(mates[tuple(-hkl)])
