// A turn as a card; its content depends on the zoom.

const LEAST_LETTERS = 9;
const SANS = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif';

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

// When zoomed out the strip keeps a visible width.
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

// Zoomed out: the board and, in readable letters, the action.
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
  const mark = isSmall ? null : markOf(node);
  const middle = node.height * (mark ? 0.33 : 0.5);
  write(paint, name(node), left, middle, room, `600 ${letters}px ${SANS}`, colour);
  if (!mark) return;
  const font = `${node.end === "won" ? 600 : 400} ${letters}px ${SANS}`;
  write(paint, mark[0], left, node.height * 0.67, room, font, mark[1]);
}

function markOf(node) {
  if (node.end === "won") return ["★ won", palette.won];
  if (node.end === "lost") return ["✕ lost", palette.ink];
  return node.advantage ? [signed(node.advantage), shadeOf(node)] : null;
}

function drawDropped({ paint, node }) {
  const y = node.height / 2;
  const font = `11px ${SANS}`;
  write(paint, `duplicate: ${name(node)}`, 14, y + 0.5, node.width - 70, font, palette.soft);
  writeRight(paint, "dropped", node.width - 8, y + 0.5, font, palette.soft);
}

// Zoomed in: rank among the proposals, action, advantage; the board; both probabilities and the value.
function drawDetails(scene) {
  const { paint, node } = scene;
  const y = node.end === "merged" ? node.height / 2 : 15;
  badge(paint, node, 20, y);
  const font = `600 13px ${SANS}`;
  if (node.end === "merged") {
    const has = drawPicture(scene, node.width - 32, 4, 26), end = node.width - (has ? 40 : 10);
    write(paint, title(node), 34, y, end - 100, font, palette.soft);
    if (node.advantage) writeRight(paint, signed(node.advantage), end, y, font, shadeOf(node));
    else writeRight(paint, "merged", end, y, `11px ${SANS}`, palette.soft);
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
  bar(paint, "sampled", node.sampled, left, 57, right);
  const isWon = node.end === "won";
  const small = `${isWon ? 600 : 400} 11px ${SANS}`;
  write(paint, closing(node), left, 81, right - left, small, isWon ? palette.won : palette.soft);
}

function closing(node) {
  const mark = { won: "★ ", lost: "✕ " }[node.end] ?? "";
  const along = node.sketch && !isBoard(node.after) ? `: ${node.sketch}` : "";
  if (node.end) return mark + node.end + along;
  return node.value === null ? "" : `value ${plainNumber(node.value)}`;
}

// The first proposal, an ordinary sample, has a filled badge.
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

const LABEL = 46; // width of the label of a bar

function bar(paint, label, logprob, left, y, right) {
  write(paint, label, left, y, LABEL - 2, `10.5px ${SANS}`, palette.soft);
  if (logprob === null) {
    write(paint, "not saved", left + LABEL, y, right - left - LABEL, `10.5px ${SANS}`, palette.soft);
    return;
  }
  const full = right - left - LABEL;
  paint.fillStyle = palette.line;
  paint.fillRect(left + LABEL, y + 5, full, 2);
  paint.fillStyle = palette.ink;
  paint.fillRect(left + LABEL, y + 5, full * Math.min(1, Math.exp(logprob)), 2);
  writeRight(paint, probability(logprob), right, y - 1, `11px ${SANS}`, palette.ink);
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
    while (short.length > 1 && paint.measureText(short).width > room) {
      short = `${short.slice(0, -2)}…`;
    }
    fitted.set(key, short);
  }
  return fitted.get(key);
}

function shadeOf(node) {
  return node.advantage > 0 ? palette.plus : palette.minus;
}
