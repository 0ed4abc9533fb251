"""Sudokus with their solutions, and files of them."""

FULL = (1, 2, 3, 4, 3, 4, 1, 2, 2, 1, 4, 3, 4, 3, 2, 1)
GIVENS = (1, 2, 3, 4, 3, 4, 1, 2, 2, 1, 0, 3, 4, 3, 2, 0)
EASY = "530070000600195000098000060800060003400803001700020006060000280000419005000080079"
EASY_SOLVED = "534678912672195348198342567859761423426853791713924856961537284287419635345286179"
HEADER = "id,puzzle,solution,clues,difficulty"


def relabelled(shift):
    """`EASY` and its solution with every digit shifted: another puzzle."""
    signs = "".join(str((digit + shift) % 9 + 1) for digit in range(9))
    table = str.maketrans("123456789", signs)
    return EASY.replace("0", ".").translate(table), EASY_SOLVED.translate(table)


def write_csv(path, rows):
    lines = [f"{number},{puzzle},{solution},30,0.0" for number, (puzzle, solution) in rows]
    path.write_text("\n".join([HEADER, *lines]) + "\n")
    return str(path)
