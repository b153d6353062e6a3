"""Compiled flood fill over connected pixels, shared by the two classic finders.

Pixels that may belong to a peak are *marked* in a map of the frame; a fill walks
over marked pixels of one panel, so that masks and panel borders end a blob.
"""

from __future__ import annotations

from numba import njit

from napari_xtal.peaks.jit import JIT

UNMARKED, MARKED, VISITED = 0, 1, 2


@njit(**JIT)
def fill(marks, panels, row, col, rows, cols, start):
    """Collect the marked pixels that are 8-connected to a marked one on its panel.

    They become visited; their positions go to `rows`, `cols` from `start` on, the
    given pixel first. Returns one past the last of them.
    """
    n_ss, n_fs = marks.shape
    panel = panels[row, col]
    marks[row, col] = VISITED
    rows[start], cols[start] = row, col
    done, end = start, start + 1
    while done < end:
        r, c = rows[done], cols[done]
        done += 1
        for y in range(max(r - 1, 0), min(r + 2, n_ss)):
            for x in range(max(c - 1, 0), min(c + 2, n_fs)):
                if marks[y, x] == MARKED and panels[y, x] == panel:
                    marks[y, x] = VISITED
                    rows[end], cols[end] = y, x
                    end += 1
    return end
