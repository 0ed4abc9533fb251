// Draws the tree on a canvas: as cards near by, as boards with their actions further off, as marks
// from afar. Rows are squeezed before columns, so a tree of thousands of turns still fits.

const NEAR = 0.74, FAR = 0.18;
const LEAST_LETTERS = 9;
const SANS = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif';

function columnScale(view) {
  return Math.max(view.scale, Math.min(view.fitX, 1));
}

// Where a node stands on the screen, in CSS pixels: its left edge and its middle.
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
  for (const node of state.hits) if (isSeen(view, node, box)) outline(paint, view, node, palette.hit, 3);
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
    if (!kind && Math.abs(rows.get(node.parent) - y2) < 1) continue; // nobody could tell them apart
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

// What training does to a response: a colour and how strongly, the correction of the gap included.
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
    paint.globalAlpha = shade ? shade.strength : node.end === "merged" || node.end === "dropped" ? 0.22 : 0.42;
    paint.fillStyle = shade ? shade.colour : palette.soft;
    paint.fillRect(x, y - height / 2, width, height);
  }
  paint.globalAlpha = 1;
  for (const [x, y, width] of won) star(paint, x + Math.max(width, 8) / 2, y, 6);
}

function drawCard(paint, state, node, level, ratio) {
  const { view, tree } = state;
  const [x, y] = spot(view, node);
  paint.save();
  paint.translate(x, y - node.height * view.scale / 2);
  paint.scale(view.scale, view.scale);
  paint.textBaseline = "middle";
  paint.textAlign = "left";
  const isWon = node.end === "won", isFaint = node.kind === "repeat" || node.end === "merged";
  paint.beginPath();
  paint.roundRect(0, 0, node.width, node.height, 7);
  paint.fillStyle = isWon ? palette["won-card"] : isFaint ? palette.paper : palette.card;
  paint.fill();
  paint.setLineDash(isFaint ? [5, 4] : []);
  paint.strokeStyle = isWon ? palette.won : palette.line;
  paint.lineWidth = isWon ? 3 : 1.2;
  paint.stroke();
  paint.setLineDash([]);
  const shade = push(tree, node);
  if (shade) {
    paint.globalAlpha = shade.strength;
    paint.fillStyle = shade.colour;
    paint.beginPath();
    paint.roundRect(0, 0, stripWidth(view), node.height, [7, 0, 0, 7]);
    paint.fill();
    paint.globalAlpha = 1;
  }
  const scene = { paint, state, node, ratio };
  if (node.kind === "start") drawStart(scene);
  else if (node.kind === "repeat") drawDropped(scene);
  else if (level === "near") drawDetails(scene);
  else drawGist(scene);
  paint.restore();
}

// From further off the strip keeps a width that can be seen.
function stripWidth(view) {
  return Math.max(7, 3.5 / view.scale);
}

function drawPicture({ paint, state, node, ratio }, x, y, size) {
  const picture = boardPicture(node.after, state.tree.data.env, size * state.view.scale * ratio);
  if (picture) paint.drawImage(picture, x, y, size, size);
  return Boolean(picture);
}

function drawStart(scene) {
  const { paint, node } = scene;
  if (drawPicture(scene, 10, 10, 80)) return;
  node.after.split("\n").slice(0, 6).forEach((line, row) => {
    write(paint, line, 10, 18 + 14 * row, 82, `10px ${SANS}`, palette.ink);
  });
}

// From further off: the board and, in letters that can be read, the action.
function drawGist(scene) {
  const { paint, node, state } = scene;
  const isSmall = node.height < CARD.height;
  const size = isSmall ? 26 : 76, strip = stripWidth(state.view) + 7;
  const has = node.after && drawPicture(scene, strip, (node.height - size) / 2, size);
  const left = has ? size + strip + 8 : strip, room = node.width - left - 5;
  const letters = Math.min(isSmall ? 21 : 26, 10.5 / state.view.scale);
  if (letters * state.view.scale < LEAST_LETTERS) {
    if (node.end === "won") star(paint, left + 0.48 * room, node.height / 2, 32);
    return;
  }
  const colour = isSmall ? palette.soft : palette.ink;
  const rows = isSmall ? [0.5] : [0.33, 0.67];
  write(paint, name(node), left, node.height * rows[0], room, `600 ${letters}px ${SANS}`, colour);
  if (!isSmall) writeMark(scene, left, node.height * rows[1], room, letters);
}

function writeMark({ paint, node }, x, y, room, letters) {
  const font = `${letters}px ${SANS}`;
  if (node.end === "won") write(paint, "★ won", x, y, room, `600 ${letters}px ${SANS}`, palette.won);
  else if (node.end === "lost") write(paint, "✕ lost", x, y, room, font, palette.ink);
  else if (node.advantage) write(paint, signed(node.advantage), x, y, room, font, shadeOf(node));
  else if (node.end) write(paint, node.end, x, y, room, font, palette.soft);
}

function drawDropped({ paint, node }) {
  const y = node.height / 2;
  write(paint, `said again: ${name(node)}`, 14, y + 0.5, node.width - 70, `11px ${SANS}`, palette.soft);
  writeRight(paint, "dropped", node.width - 8, y + 0.5, `11px ${SANS}`, palette.soft);
}

// Near by: place among the proposals, action, advantage; the board; both probabilities and the value.
function drawDetails(scene) {
  const { paint, node } = scene;
  const y = node.end === "merged" ? node.height / 2 : 15;
  badge(paint, node, 20, y);
  const font = `600 13px ${SANS}`;
  if (node.end === "merged") {
    const has = drawPicture(scene, node.width - 32, 4, 26), end = node.width - (has ? 40 : 10);
    const note = node.advantage ? signed(node.advantage) : "seen before";
    write(paint, title(node), 34, y, end - 100, font, palette.soft);
    writeRight(paint, note, end, y, node.advantage ? font : `11px ${SANS}`, node.advantage ? shadeOf(node) : palette.soft);
    return;
  }
  const gain = node.advantage ? signed(node.advantage) : "";
  const right = node.width - 10;
  paint.font = font;
  write(paint, title(node), 34, y, right - 40 - (gain ? 42 : 0), font, palette.ink);
  if (gain) writeRight(paint, gain, right, y, font, shadeOf(node));
  const has = node.after && drawPicture(scene, 12, 29, 65);
  const left = has ? 86 : 14;
  bar(paint, "plain", node.plain, left, 40, right);
  bar(paint, "drawn", node.sampled, left, 57, right);
  write(paint, closing(node), left, 81, right - left, `${node.end === "won" ? 600 : 400} 11px ${SANS}`, node.end === "won" ? palette.won : palette.soft);
}

function closing(node) {
  const mark = { won: "★ ", lost: "✕ " }[node.end] ?? "";
  const along = node.sketch && !isBoard(node.after) ? `: ${node.sketch}` : "";
  if (node.end) return mark + node.end + along;
  return node.value === null ? "" : `value ${plainNumber(node.value)}`;
}

// The first proposal, an ordinary draw, has a filled badge.
function badge(paint, node, x, y) {
  const isFirst = node.index === 0;
  paint.beginPath();
  paint.arc(x, y, 8, 0, 2 * Math.PI);
  paint.strokeStyle = paint.fillStyle = palette.soft;
  paint.lineWidth = 1.2;
  if (isFirst) paint.fill();
  else paint.stroke();
  paint.font = `600 10px ${SANS}`;
  paint.textAlign = "center";
  paint.fillStyle = isFirst ? palette.card : palette.ink;
  paint.fillText(String(node.rank), x, y + 0.5);
  paint.textAlign = "left";
}

function bar(paint, label, logprob, left, y, right) {
  write(paint, label, left, y, 36, `10.5px ${SANS}`, palette.soft);
  if (logprob === null) {
    write(paint, "not saved", left + 38, y, right - left - 38, `10.5px ${SANS}`, palette.soft);
    return;
  }
  const full = right - left - 38;
  paint.fillStyle = palette.line;
  paint.fillRect(left + 38, y + 5, full, 2);
  paint.fillStyle = palette.ink;
  paint.fillRect(left + 38, y + 5, full * Math.min(1, Math.exp(logprob)), 2);
  writeRight(paint, probability(logprob), right, y - 1, `11px ${SANS}`, palette.ink);
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

const fitted = new Map();

function write(paint, text, x, y, room, font, colour) {
  paint.font = font;
  paint.fillStyle = colour;
  paint.fillText(fit(paint, text, room, font), x, y);
}

function writeRight(paint, text, x, y, font, colour) {
  paint.font = font;
  paint.fillStyle = colour;
  paint.textAlign = "right";
  paint.fillText(text, x, y);
  paint.textAlign = "left";
}

function fit(paint, text, room, font) {
  const line = text.slice(0, 60).replace(/\s+/g, " ");
  const key = `${font}\n${Math.round(room)}\n${line}`;
  if (!fitted.has(key)) {
    if (fitted.size > 4000) fitted.clear();
    let short = line;
    while (short.length > 1 && paint.measureText(short).width > room) short = `${short.slice(0, -2)}…`;
    fitted.set(key, short);
  }
  return fitted.get(key);
}

function shadeOf(node) {
  return node.advantage > 0 ? palette.plus : palette.minus;
}

function plainNumber(value) {
  return value.toFixed(Math.abs(value) < 10 ? 3 : 1).replace(/^(-?)0\./, "$1.").replace("-", "−");
}

function signed(value) {
  const size = Math.abs(value);
  if (!size) return "0";
  const text = size < 0.005 ? size.toExponential(0) : size.toFixed(size < 10 ? 2 : 1);
  return `${value < 0 ? "−" : "+"}${text.replace(/^0\./, ".").replace("e-", "e−")}`;
}

// A probability where it can be read, its logarithm where it cannot.
function probability(logprob) {
  if (logprob < Math.log(0.001)) return `e^${logprob.toFixed(1).replace("-", "−")}`;
  const text = Math.min(1, Math.exp(logprob)).toFixed(3);
  return text.startsWith("0.") ? text.slice(1) : text;
}
