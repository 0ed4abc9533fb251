// What the reader does: choose a tree, walk it by keys, move and zoom it by the mouse, search.

const canvas = document.getElementById("tree");
const overview = document.getElementById("overview");
const panel = document.getElementById("panel");
const search = document.getElementById("search");
const stepList = document.getElementById("step");
const numberList = document.getElementById("number");
const state = { index: null, tree: null, about: null, chosen: null, hits: [], view: { x: 0, y: 0, scale: 1, fitX: 1 } };
const trees = new Map();
let awaitsFrame = false;

function redraw() {
  if (awaitsFrame) return;
  awaitsFrame = true;
  requestAnimationFrame(() => {
    awaitsFrame = false;
    if (!state.tree) return;
    state.numSeen = drawTree(canvas, state);
    drawOverview();
  });
}

async function openTree(place) {
  if (!trees.has(place)) trees.set(place, layOut(buildTree(await unpack(`tree-${place}`))));
  state.place = place;
  state.tree = trees.get(place);
  state.about = state.index.trees[place];
  state.about.wins = state.tree.wins.length;
  pictures.clear();
  overviewPicture = null;
  document.getElementById("sentence").textContent = state.about.sentence;
  listChoices();
  showLegend(document.getElementById("legend"), state.tree.data.env);
  const shortest = state.tree.wins.slice().sort((a, b) => a.depth - b.depth)[0];
  state.chosen = shortest ?? state.tree.nodes[0];
  find();
  fitTree();
  choose(state.chosen);
}

function listChoices() {
  const all = state.index.trees;
  const steps = [...new Set(all.map(tree => tree.step))];
  const option = (value, text, isChosen) => make("option", { value, selected: isChosen }, text);
  stepList.replaceChildren(...steps.map(step => option(String(step), String(step), step === state.about.step)));
  const mine = all.map((tree, place) => [tree, place]).filter(([tree]) => tree.step === state.about.step);
  numberList.replaceChildren(...mine.map(([tree, place]) => option(
    String(place), `${tree.number}: ${count(tree.turns, "turn")}${tree.won ? ", ★ won" : ""}`, place === state.place,
  )));
}

function choose(node) {
  state.chosen = node;
  showPanel(panel, state, choose);
  const told = [name(node), node.end, node.advantage ? `advantage ${signed(node.advantage)}` : ""];
  document.getElementById("told").textContent = told.filter(Boolean).join(", ");
  reveal(node);
  redraw();
}

// Move as little as it takes to have a node well within sight.
function reveal(node) {
  const { view } = state;
  const [x, y] = spot(view, node), [width, height] = shownSize(view, node);
  const edge = 40;
  view.x += Math.max(0, edge - x) - Math.max(0, x + width + edge - canvas.clientWidth);
  view.y += Math.max(0, edge - (y - height / 2)) - Math.max(0, y + height / 2 + edge - canvas.clientHeight);
}

function fitTree() {
  const { view, tree } = state, edge = 24;
  const width = canvas.clientWidth - 2 * edge, height = canvas.clientHeight - 2 * edge;
  view.fitX = width / tree.size.width;
  view.scale = Math.min(height / tree.size.height, view.fitX, 1.25);
  view.x = edge + Math.max(0, (width - tree.size.width * columnScale(view)) / 2);
  view.y = edge + (height - tree.size.height * view.scale) / 2;
  redraw();
}

function zoom(factor, x, y) {
  const { view } = state;
  const place = [(x - view.x) / columnScale(view), (y - view.y) / view.scale];
  view.scale = Math.min(3, Math.max(view.scale * factor, 0.002));
  view.x = x - place[0] * columnScale(view);
  view.y = y - place[1] * view.scale;
  redraw();
}

function nodeAt(x, y) {
  const { view, tree } = state;
  let best = null, nearest = 6;
  for (const node of tree.nodes) {
    const [left, middle] = spot(view, node), [width, height] = shownSize(view, node);
    const across = Math.max(left - x, x - left - width, 0);
    const distance = Math.hypot(across, Math.max(Math.abs(y - middle) - height / 2, 0));
    if (distance < nearest) [best, nearest] = [node, distance];
  }
  return best;
}

// ---- search and successes ----

function find() {
  const words = search.value.trim().toLowerCase();
  state.hits = words ? state.tree.nodes.filter(node => node.kind !== "start" && node.haystack.includes(words)) : [];
  tellHits();
  redraw();
}

function tellHits() {
  const place = state.hits.indexOf(state.chosen);
  const text = place >= 0 ? `${place + 1} / ${state.hits.length}` : String(state.hits.length);
  document.getElementById("hits").textContent = search.value.trim() ? text : "";
}

// The next of some nodes in the order in which they stand, round and round.
function next(nodes, direction) {
  if (!nodes.length) return;
  const ordered = nodes.slice().sort((a, b) => a.y - b.y || a.x - b.x);
  const place = ordered.indexOf(state.chosen);
  const from = place >= 0 ? place : direction > 0 ? -1 : 0;
  choose(ordered[(from + direction + ordered.length) % ordered.length]);
  tellHits();
}

// ---- keys ----

function beside(node, direction) {
  const near = siblings(node), place = near.indexOf(node) + direction;
  if (near[place]) return near[place];
  const level = state.tree.nodes.filter(other => other.depth === node.depth).sort((a, b) => a.y - b.y);
  return level[level.indexOf(node) + direction];
}

function firstChild(node) {
  return node.children.find(child => child.kind === "turn" && child.wins) ?? node.children[0];
}

function zoomChosen(factor) {
  zoom(factor, ...spot(state.view, state.chosen));
  reveal(state.chosen);
}

const KEYS = {
  ArrowLeft: () => state.chosen.parent,
  ArrowRight: () => firstChild(state.chosen),
  ArrowUp: () => beside(state.chosen, -1),
  ArrowDown: () => beside(state.chosen, 1),
  Home: () => state.tree.nodes[0],
};
const ACTIONS = {
  s: () => next(state.tree.wins, 1),
  S: () => next(state.tree.wins, -1),
  n: () => next(state.hits, 1),
  N: () => next(state.hits, -1),
  f: fitTree,
  "+": () => zoomChosen(1.3),
  "=": () => zoomChosen(1.3),
  "-": () => zoomChosen(1 / 1.3),
  "/": () => { search.focus(); search.select(); },
  PageDown: () => turnTo(1),
  PageUp: () => turnTo(-1),
};

function turnTo(direction) {
  const place = state.place + direction;
  if (state.index.trees[place]) openTree(place);
}

document.addEventListener("keydown", event => {
  if (!state.tree || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select")) {
    if (event.target === search && event.key === "Enter") next(state.hits, event.shiftKey ? -1 : 1);
    if (event.target === search && event.key === "Escape") canvas.focus();
    return;
  }
  if (event.target.closest("pre, aside") && event.key.startsWith("Page")) return;
  const node = KEYS[event.key]?.();
  if (node) choose(node);
  ACTIONS[event.key]?.();
  if (KEYS[event.key] || ACTIONS[event.key]) event.preventDefault();
});

// ---- mouse ----

let held = null;

canvas.addEventListener("pointerdown", event => {
  held = { x: event.offsetX, y: event.offsetY, moved: 0 };
  canvas.setPointerCapture(event.pointerId);
  canvas.focus();
});
canvas.addEventListener("pointermove", event => {
  if (!held) {
    if (state.tree) canvas.classList.toggle("over", Boolean(nodeAt(event.offsetX, event.offsetY)));
    return;
  }
  state.view.x += event.offsetX - held.x;
  state.view.y += event.offsetY - held.y;
  const moved = held.moved + Math.hypot(event.offsetX - held.x, event.offsetY - held.y);
  held = { x: event.offsetX, y: event.offsetY, moved };
  canvas.classList.toggle("dragged", moved > 4);
  redraw();
});
canvas.addEventListener("pointerup", event => {
  const node = held && held.moved <= 4 ? nodeAt(event.offsetX, event.offsetY) : null;
  held = null;
  canvas.classList.remove("dragged");
  if (node) choose(node);
});
canvas.addEventListener("pointercancel", () => { held = null; });
canvas.addEventListener("wheel", event => {
  event.preventDefault();
  if (event.shiftKey) {
    state.view.x -= event.deltaX;
    state.view.y -= event.deltaY;
    redraw();
  } else zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0016)), event.offsetX, event.offsetY);
}, { passive: false });
canvas.addEventListener("dblclick", event => zoom(1.8, event.offsetX, event.offsetY));

// ---- the overview ----

let overviewPicture = null;

// The whole tree, small; the picture is made once, only the frame of what is seen moves.
function drawOverview() {
  const { tree, view } = state;
  const box = [canvas.clientWidth, canvas.clientHeight];
  const ends = [view.x + tree.size.width * columnScale(view), view.y + tree.size.height * view.scale];
  overview.hidden = view.x >= 0 && view.y >= 0 && ends[0] <= box[0] + 1 && ends[1] <= box[1] + 1;
  if (overview.hidden) return;
  const ratio = window.devicePixelRatio || 1, width = 190, height = 130;
  overview.width = width * ratio;
  overview.height = height * ratio;
  const across = (width - 12) / tree.size.width, down = (height - 12) / tree.size.height;
  overviewPicture ??= miniature(tree, width, height, ratio, across, down);
  const paint = overview.getContext("2d");
  paint.drawImage(overviewPicture, 0, 0);
  paint.scale(ratio, ratio);
  paint.strokeStyle = palette.ink;
  paint.lineWidth = 1.5;
  paint.strokeRect(
    6 - view.x / columnScale(view) * across, 6 - view.y / view.scale * down,
    box[0] / columnScale(view) * across, box[1] / view.scale * down,
  );
}

function miniature(tree, width, height, ratio, across, down) {
  const picture = document.createElement("canvas");
  picture.width = width * ratio;
  picture.height = height * ratio;
  const paint = picture.getContext("2d");
  paint.scale(ratio, ratio);
  for (const node of tree.nodes) {
    const shade = push(tree, node);
    paint.globalAlpha = shade ? shade.strength : 0.45;
    paint.fillStyle = node.end === "won" ? palette.won : shade ? shade.colour : palette.soft;
    paint.fillRect(6 + node.x * across, 6 + node.y * down - 1, Math.max(node.width * across, 2), node.end === "won" ? 3 : 2);
  }
  return picture;
}

function jump(event) {
  const { tree, view } = state;
  view.x = canvas.clientWidth / 2 - (event.offsetX - 6) / (190 - 12) * tree.size.width * columnScale(view);
  view.y = canvas.clientHeight / 2 - (event.offsetY - 6) / (130 - 12) * tree.size.height * view.scale;
  redraw();
}
overview.addEventListener("pointerdown", event => { overview.setPointerCapture(event.pointerId); jump(event); });
overview.addEventListener("pointermove", event => { if (event.buttons) jump(event); });

// ---- the legend ----

function showLegend(legend, env) {
  const swatch = (style, className = "", text = "") => make("i", { className: `swatch ${className}`, style }, text);
  const item = (mark, text) => make("span", {}, mark, text);
  const items = [
    item(swatch("background: var(--plus)", "strip"), "made likelier"),
    item(swatch("background: var(--minus)", "strip"), "made less likely (paler: less so; none: not taught)"),
    item(swatch("background: var(--won-card); border: 2px solid var(--won)"), "★ won"),
    item(swatch("background: var(--won); height: 3px"), "way to a success"),
    item(swatch("background: var(--ink); height: 3px"), "way to the chosen turn"),
    item(swatch("", "badge filled", "1"), "first proposal, an ordinary draw"),
    item(swatch("", "badge", "2"), "later proposal"),
    item(swatch("", "dashed"), "seen before, or said again and dropped"),
  ];
  const tiles = [...new Set(Object.values(TILES[env] ?? {}))].filter(tile => TILE_WORDS[tile]);
  items.push(...tiles.map(tile => item(tileCanvas(tile), TILE_WORDS[tile])));
  const keys = [["← →", "parent, child"], ["↑ ↓", "proposals"], ["/", "search"], ["s", "next success"], ["f", "fit"], ["+ −", "zoom"], ["PgDn", "next tree"]];
  items.push(...keys.map(([key, text]) => item(make("kbd", {}, key), text)));
  legend.replaceChildren(...items);
}

function tileCanvas(tile) {
  const ratio = window.devicePixelRatio || 1;
  const picture = make("canvas", { width: 15 * ratio, height: 15 * ratio, "aria-hidden": "true" });
  picture.style.width = picture.style.height = "15px";
  drawTile(picture.getContext("2d"), tile, 0, 0, 15 * ratio);
  return picture;
}

// ---- beginning ----

function resize() {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(canvas.clientWidth * ratio);
  canvas.height = Math.round(canvas.clientHeight * ratio);
  redraw();
}

function repaint() {
  readPalette();
  pictures.clear();
  overviewPicture = null;
  if (state.tree) {
    showLegend(document.getElementById("legend"), state.tree.data.env);
    choose(state.chosen);
  }
}

async function begin() {
  readPalette();
  state.index = await unpack("index");
  resize();
  await openTree(state.index.first);
  new ResizeObserver(resize).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  search.addEventListener("input", find);
  stepList.addEventListener("change", () => openTree(state.index.trees.findIndex(tree => String(tree.step) === stepList.value)));
  numberList.addEventListener("change", () => openTree(Number(numberList.value)));
  document.getElementById("fit").addEventListener("click", fitTree);
  document.getElementById("next-win").addEventListener("click", () => next(state.tree.wins, 1));
  canvas.focus();
  window.explorer = state;
}

begin();
