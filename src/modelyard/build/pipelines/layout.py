"""Where the nodes of a graph are drawn: columns from left to right, and few crossings between them."""

from itertools import pairwise
from typing import NamedTuple

from modelyard.build.pipelines.nodes import Graph, Node

SWEEPS = 4


class Spot(NamedTuple):
    """A place in the grid: a node's, or (with `node` None) one that an edge over several columns passes through."""

    column: int
    row: float
    node: Node | None


class Layout(NamedTuple):
    """`edges`: the spots that each goes through, from parent to child; rows count from 0, halves included."""

    spots: list[Spot]
    edges: list[tuple[Node, Node, list[Spot]]]
    columns: int
    rows: float


class _Cell:
    """A node or a stretch of an edge while places are looked for."""

    def __init__(self, column: int, node: Node | None) -> None:
        self.column, self.node, self.row = column, node, 0.0
        self.left: list[_Cell] = []
        self.right: list[_Cell] = []


def arrange(graph: Graph) -> Layout:
    """Each node in the column after its last parent, near the nodes that it is joined with."""
    cells: dict[str, _Cell] = {}
    grid: list[list[_Cell]] = []
    chains: list[tuple[Node, Node, list[_Cell]]] = []
    for node in graph.nodes:
        column = 1 + max((cells[parent.name].column for parent in node.parents), default=-1)
        cells[node.name] = cell = _placed(grid, column, node)
        for parent in node.parents:
            chains.append((parent, node, _chain(grid, cells[parent.name], cell)))
    for column in grid:
        _number(column)
    for sweep in range(SWEEPS):
        forward = sweep % 2 == 0
        for column in grid if forward else reversed(grid):
            _sort(column, forward)
    high = max((len(column) for column in grid), default=0)
    for column in grid:
        for cell in column:
            cell.row += (high - len(column)) / 2
    spots = [_spot(cell) for column in grid for cell in column if cell.node is not None]
    edges = [(parent, node, [_spot(cell) for cell in chain]) for parent, node, chain in chains]
    return Layout(spots, edges, len(grid), high)


def _placed(grid: list[list[_Cell]], column: int, node: Node | None) -> _Cell:
    while len(grid) <= column:
        grid.append([])
    cell = _Cell(column, node)
    grid[column].append(cell)
    return cell


def _chain(grid: list[list[_Cell]], start: _Cell, end: _Cell) -> list[_Cell]:
    """The cells of an edge, with one of its own in every column that it passes."""
    between = [_placed(grid, column, None) for column in range(start.column + 1, end.column)]
    chain = [start, *between, end]
    for before, after in pairwise(chain):
        before.right.append(after)
        after.left.append(before)
    return chain


def _sort(column: list[_Cell], forward: bool) -> None:
    """Order a column by where its neighbours on one side are; what has none there stays where it is."""

    def middle(cell: _Cell) -> float:
        near = cell.left if forward else cell.right
        return sum(each.row for each in near) / len(near) if near else cell.row

    column.sort(key=middle)
    _number(column)


def _number(column: list[_Cell]) -> None:
    for row, cell in enumerate(column):
        cell.row = float(row)


def _spot(cell: _Cell) -> Spot:
    return Spot(cell.column, cell.row, cell.node)
