"""Boards for tests, and their shortest solutions by brute force."""

from collections import deque


def corridor(cells):
    wall = "#" * (len(cells) + 2)
    return f"{wall}\n#{cells}#\n{wall}"


def brute_force_length(text, max_length):
    """Length of the shortest solution: breadth-first search with its own rules, on text boards."""
    width = text.index("\n") + 1

    def moved(board, step):
        at = next(i for i, c in enumerate(board) if c in "PS")
        cell, beyond = at + step, at + 2 * step
        board = list(board)
        if board[cell] == "#":
            return None
        if board[cell] in "X√":
            if board[beyond] not in "_O":
                return None
            board[beyond] = "√" if board[beyond] == "O" else "X"
            board[cell] = "O" if board[cell] == "√" else "_"
        board[cell] = "S" if board[cell] == "O" else "P"
        board[at] = "O" if board[at] == "S" else "_"
        return "".join(board)

    lengths, waiting = {text: 0}, deque([text])
    while waiting:
        board = waiting.popleft()
        if "X" not in board:
            return lengths[board]
        if lengths[board] == max_length:
            continue
        for step in (-width, width, -1, 1):
            child = moved(board, step)
            if child is not None and child not in lengths:
                lengths[child] = lengths[board] + 1
                waiting.append(child)
    return None
