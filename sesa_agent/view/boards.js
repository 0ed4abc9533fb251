// Boards as pictures. Known games have their own tiles; another regular grid of characters is drawn
// character by character; everything else is text.

const TILES = {
  "sesa/Sokoban-v0": {
    "#": "wall", _: "floor", O: "target", X: "box", "√": "stored", P: "player", S: "player-on-target",
  },
  "sesa/FrozenLake-v0": {
    _: "ice", O: "hole", G: "goal", P: "player-on-ice", X: "fallen", "√": "arrived",
  },
};
const TILE_WORDS = {
  wall: "wall", box: "box", target: "target", stored: "box on target", player: "player",
  ice: "ice", hole: "hole", goal: "goal", "player-on-ice": "player", fallen: "player in a hole",
  arrived: "goal reached",
};
const MOST_PICTURES = 1500;

let palette = {};

function readPalette() {
  const style = getComputedStyle(document.documentElement);
  const names = [
    "paper", "card", "ink", "soft", "line", "edge", "won", "won-card", "plus", "minus", "hit", "wall",
    "floor", "target", "box", "box-edge", "stored", "player", "ice", "hole",
  ];
  palette = Object.fromEntries(names.map(key => [key, style.getPropertyValue(`--${key}`).trim()]));
}

function boardRows(text) {
  const rows = text.split("\n").map(row => [...row]);
  const isEven = rows.length > 1 && rows.every(row => row.length === rows[0].length);
  return isEven && rows[0].length <= 24 && rows[0].length > 1 && !text.includes(" ") ? rows : null;
}

function isBoard(text) {
  return boardRows(text) !== null;
}

// Draws a board into a square; returns false if the text is not a board.
function drawBoard(paint, text, env, x, y, size) {
  const rows = boardRows(text);
  if (!rows) return false;
  const cell = size / Math.max(rows.length, rows[0].length);
  const left = x + (size - cell * rows[0].length) / 2;
  const top = y + (size - cell * rows.length) / 2;
  const tiles = TILES[env];
  rows.forEach((row, r) => row.forEach((sign, c) => {
    const place = [left + c * cell, top + r * cell, cell];
    if (tiles && tiles[sign]) drawTile(paint, tiles[sign], ...place);
    else drawSign(paint, sign, ...place);
  }));
  return true;
}

function drawSign(paint, sign, x, y, size) {
  square(paint, sign === "#" ? palette.wall : palette.floor, x, y, size);
  if (sign === "#") return;
  paint.fillStyle = "_.".includes(sign) ? palette.soft : palette.ink;
  paint.font = `${size * 0.68}px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace`;
  paint.textAlign = "center";
  paint.textBaseline = "middle";
  paint.fillText(sign, x + size / 2, y + size * 0.54);
}

function drawTile(paint, tile, x, y, size) {
  const middle = [x + size / 2, y + size / 2];
  const isIce = ["ice", "hole", "goal", "player-on-ice", "fallen", "arrived"].includes(tile);
  square(paint, tile === "wall" ? palette.wall : isIce ? palette.ice : palette.floor, x, y, size);
  if (tile === "hole" || tile === "fallen") disc(paint, palette.hole, ...middle, size * 0.4);
  if (tile === "target" || tile === "player-on-target" || tile === "goal") {
    ring(paint, palette.target, ...middle, size * 0.27, size * 0.12);
  }
  if (tile === "box" || tile === "stored") crate(paint, tile === "stored", x, y, size);
  if (tile === "player" || tile === "player-on-ice") {
    disc(paint, palette.player, ...middle, size * 0.32);
  }
  if (tile === "player-on-target" || tile === "arrived") {
    disc(paint, palette.player, ...middle, size * 0.19);
  }
  if (tile === "arrived") ring(paint, palette.won, ...middle, size * 0.36, size * 0.12);
  if (tile === "fallen") disc(paint, palette.player, ...middle, size * 0.15);
}

function square(paint, colour, x, y, size) {
  const seam = Math.min(0.5, size * 0.03);
  paint.fillStyle = colour;
  paint.fillRect(x + seam, y + seam, size - 2 * seam, size - 2 * seam);
}

function disc(paint, colour, x, y, radius) {
  paint.fillStyle = colour;
  paint.beginPath();
  paint.arc(x, y, radius, 0, 2 * Math.PI);
  paint.fill();
}

function ring(paint, colour, x, y, radius, width) {
  paint.strokeStyle = colour;
  paint.lineWidth = width;
  paint.beginPath();
  paint.arc(x, y, radius, 0, 2 * Math.PI);
  paint.stroke();
}

function crate(paint, isStored, x, y, size) {
  const edge = size * 0.14, inner = size - 2 * edge;
  paint.fillStyle = isStored ? palette.stored : palette.box;
  paint.strokeStyle = palette["box-edge"];
  paint.lineWidth = size * 0.07;
  paint.beginPath();
  paint.rect(x + edge, y + edge, inner, inner);
  paint.fill();
  paint.moveTo(x + edge, y + edge);
  paint.lineTo(x + edge + inner, y + edge + inner);
  paint.moveTo(x + edge + inner, y + edge);
  paint.lineTo(x + edge, y + edge + inner);
  paint.stroke();
}

// A cache of pictures of boards in a few sizes.
const pictures = new Map();

function boardPicture(text, env, pixels) {
  const size = [24, 48, 96, 192].find(known => known >= pixels) ?? 384;
  const key = `${size}\n${text}`;
  if (!pictures.has(key)) {
    if (pictures.size >= MOST_PICTURES) pictures.clear();
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = size;
    const isDrawn = drawBoard(canvas.getContext("2d"), text, env, 0, 0, size);
    pictures.set(key, isDrawn ? canvas : null);
  }
  return pictures.get(key);
}
