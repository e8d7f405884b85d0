"""Local frames of geographic positions against what is known of the earth."""

import numpy as np
import pytest

from sfm.geometry.wgs84 import enu_from_wgs84, wgs84_from_enu


@pytest.mark.parametrize("origin", [(46.5, 8.25, 640.0), (-33.9, 151.2, 5.0), (71.2, -179.9999, 0.0), (0.0, 0.0, 0.0)])
def test_back_and_forth(origin):
    points = np.array([[500.0, -300, 70], [0, 0, 0], [-4000, 4000, -20]])
    places = wgs84_from_enu(points, np.array(origin))
    assert (np.abs(places[:, 1]) <= 180).all()
    np.testing.assert_allclose(enu_from_wgs84(places, np.array(origin)), points, atol=1e-6)


def test_a_minute_of_latitude_is_a_nautical_mile_and_up_is_up():
    enu = enu_from_wgs84(
        np.array([[45 + 1 / 60, 10.0, 0], [45.0, 10.0, 25.0], [45.0, 10 + 1 / 60, 0]]), np.array([45.0, 10, 0])
    )
    np.testing.assert_allclose(enu[0], [0, 1852.2, -0.27], atol=0.2)
    np.testing.assert_allclose(enu[1], [0, 0, 25], atol=1e-6)
    np.testing.assert_allclose(enu[2], [1314.2, 0.19, -0.14], atol=0.2)
