// Draws the tree on a canvas: with less and less zoom as cards, as boards with actions, as marks. Rows
// shrink before columns, so that a tree with thousands of turns still fits.

const NEAR = 0.74, FAR = 0.18;

function columnScale(view) {
  return Math.max(view.scale, Math.min(view.fitX, 1));
}

// The position of a node on the screen, in CSS pixels: its left edge and its middle.
function spot(view, node) {
  return [node.x * columnScale(view) + view.x, node.y * view.scale + view.y];
}

function shownSize(view, node) {
  return [Math.max(node.width * view.scale, 5), Math.max(node.height * view.scale, 1.6)];
}

function drawTree(canvas, state) {
  const { tree, view } = state;
  const ratio = canvas.width / canvas.clientWidth;
  const paint = canvas.getContext("2d", { alpha: false });
  paint.setTransform(ratio, 0, 0, ratio, 0, 0);
  paint.fillStyle = palette.paper;
  paint.fillRect(0, 0, canvas.clientWidth, canvas.clientHeight);
  const box = { width: canvas.clientWidth, height: canvas.clientHeight };
  const path = new Set(pathTo(state.chosen));
  drawEdges(paint, state, box, path);
  const level = view.scale >= NEAR ? "near" : view.scale >= FAR ? "middle" : "far";
  const seen = tree.nodes.filter(node => isSeen(view, node, box));
  if (level === "far") drawMarks(paint, state, seen);
  else for (const node of seen) drawCard(paint, state, node, level, ratio);
  drawTwin(paint, state);
  for (const node of state.hits) {
    if (isSeen(view, node, box)) outline(paint, view, node, palette.hit, 3);
  }
  if (state.chosen) outline(paint, view, state.chosen, palette.ink, 2.5);
  return seen.length;
}

function isSeen(view, node, box) {
  const [x, y] = spot(view, node);
  const [width, height] = shownSize(view, node);
  return x < box.width && x + width > 0 && y - height < box.height && y + height > 0;
}

function drawEdges(paint, state, box, path) {
  const { view, tree } = state;
  const kinds = [
    { colour: palette.edge, width: Math.min(1.4, Math.max(0.6, 2 * view.scale)), path: new Path2D() },
    { colour: palette.won, width: Math.min(2.6, Math.max(1.1, 4 * view.scale)), path: new Path2D() },
    { colour: palette.ink, width: 2.4, path: new Path2D() },
  ];
  const isCurved = view.scale >= FAR, rows = new Map();
  for (const node of tree.nodes) {
    if (!node.parent) continue;
    const [left, y1] = spot(view, node.parent);
    const [x2, y2] = spot(view, node);
    const x1 = left + shownSize(view, node.parent)[0];
    if (x2 < 0 || left > box.width) continue;
    if (Math.max(y1, y2) < 0 || Math.min(y1, y2) > box.height) continue;
    const kind = path.has(node) ? 2 : node.wins ? 1 : 0;
    if (!kind && Math.abs(rows.get(node.parent) - y2) < 1) continue; // they would overlap
    rows.set(node.parent, y2);
    const line = kinds[kind].path;
    line.moveTo(x1, y1);
    if (isCurved) {
      const bend = (x2 - x1) / 2;
      line.bezierCurveTo(x1 + bend, y1, x2 - bend, y2, x2, y2);
    } else line.lineTo(x2, y2);
  }
  for (const kind of kinds) {
    paint.strokeStyle = kind.colour;
    paint.lineWidth = kind.width;
    paint.stroke(kind.path);
  }
}

// The effect of training on a response as a colour and its strength, including the correction.
function push(tree, node) {
  if (!node.advantage) return null;
  const strength = 0.25 + 0.75 * Math.abs(node.advantage * (node.weight ?? 1)) / tree.largest;
  return { colour: node.advantage > 0 ? palette.plus : palette.minus, strength };
}

function drawMarks(paint, state, seen) {
  const won = [];
  for (const node of seen) {
    const [x, y] = spot(state.view, node);
    const [width, height] = shownSize(state.view, node);
    const shade = push(state.tree, node);
    if (node.end === "won") won.push([x, y, width]);
    const faint = node.end === "merged" || node.end === "dropped" ? 0.22 : 0.42;
    paint.globalAlpha = shade ? shade.strength : faint;
    paint.fillStyle = shade ? shade.colour : palette.soft;
    paint.fillRect(x, y - height / 2, width, height);
  }
  paint.globalAlpha = 1;
  for (const [x, y, width] of won) star(paint, x + Math.max(width, 8) / 2, y, 6);
}

function drawTwin(paint, { view, chosen }) {
  if (!chosen?.twin) return;
  const [x1, y1] = spot(view, chosen), [x2, y2] = spot(view, chosen.twin);
  const width = shownSize(view, chosen.twin)[0];
  paint.setLineDash([6, 5]);
  paint.strokeStyle = palette.ink;
  paint.lineWidth = 1.6;
  paint.beginPath();
  paint.moveTo(x1, y1);
  paint.bezierCurveTo(x1 - 60, y1, x2 + width + 60, y2, x2 + width, y2);
  paint.stroke();
  paint.setLineDash([]);
  outline(paint, view, chosen.twin, palette.soft, 2);
}

function outline(paint, view, node, colour, width) {
  const [x, y] = spot(view, node), [w, h] = shownSize(view, node);
  paint.strokeStyle = colour;
  paint.lineWidth = width;
  paint.beginPath();
  paint.roundRect(x - 4, y - h / 2 - 4, w + 8, h + 8, Math.min(10, 4 + 7 * view.scale));
  paint.stroke();
}

function star(paint, x, y, radius) {
  paint.beginPath();
  for (let point = 0; point < 10; point++) {
    const reach = point % 2 ? radius * 0.45 : radius, angle = (point / 5 - 0.5) * Math.PI;
    paint.lineTo(x + reach * Math.cos(angle), y + reach * Math.sin(angle));
  }
  paint.closePath();
  paint.lineWidth = 2;
  paint.strokeStyle = palette.paper;
  paint.stroke();
  paint.fillStyle = palette.won;
  paint.fill();
}
