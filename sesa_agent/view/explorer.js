// User interaction: choose a tree, navigate by keys, move and zoom by mouse, search.

const canvas = document.getElementById("tree");
const overview = document.getElementById("overview");
const panel = document.getElementById("panel");
const search = document.getElementById("search");
const stepList = document.getElementById("step");
const numberList = document.getElementById("number");
const state = {
  index: null, place: 0, tree: null, about: null, chosen: null, hits: [], numSeen: 0,
  // The visible part: offsets in CSS pixels, scale of the rows, and the scale at which columns fit.
  view: { x: 0, y: 0, scale: 1, fitX: 1 },
};
const trees = new Map();
let awaitsFrame = false;

function redraw() {
  if (awaitsFrame) return;
  awaitsFrame = true;
  requestAnimationFrame(() => {
    awaitsFrame = false;
    if (!state.tree) return;
    state.numSeen = drawTree(canvas, state);
    drawOverview(overview, canvas, state);
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
  const now = state.about.step;
  const option = (value, text, selected) => make("option", { value: String(value), selected }, text);
  stepList.replaceChildren(...steps.map(step => option(step, String(step), step === now)));
  const places = [...all.keys()].filter(place => all[place].step === now);
  numberList.replaceChildren(...places.map(place => {
    const { number, turns, won } = all[place];
    const text = `${number}: ${count(turns, "turn")}${won ? ", ★ won" : ""}`;
    return option(place, text, place === state.place);
  }));
}

function choose(node) {
  state.chosen = node;
  showPanel(panel, state, choose);
  const told = [name(node), node.end, node.advantage ? `advantage ${signed(node.advantage)}` : ""];
  document.getElementById("told").textContent = told.filter(Boolean).join(", ");
  reveal(node);
  redraw();
}

// Move as little as needed to have a node well within view.
function reveal(node) {
  const { view } = state;
  const [x, y] = spot(view, node), [width, height] = shownSize(view, node);
  const edge = 40;
  const top = y - height / 2, bottom = y + height / 2;
  view.x += Math.max(0, edge - x) - Math.max(0, x + width + edge - canvas.clientWidth);
  view.y += Math.max(0, edge - top) - Math.max(0, bottom + edge - canvas.clientHeight);
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
  const responses = state.tree.nodes.slice(1);
  state.hits = words ? responses.filter(node => node.haystack.includes(words)) : [];
  tellHits();
  redraw();
}

function tellHits() {
  const place = state.hits.indexOf(state.chosen);
  const text = place >= 0 ? `${place + 1} / ${state.hits.length}` : String(state.hits.length);
  document.getElementById("hits").textContent = search.value.trim() ? text : "";
}

// The next of some nodes in their order, cyclically.
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
  const level = state.tree.nodes.filter(other => other.depth === node.depth);
  level.sort((a, b) => a.y - b.y);
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
    return;
  }
  const speed = event.ctrlKey ? 0.01 : 0.0016; // a pinch arrives as small wheel events with Ctrl
  zoom(Math.exp(-event.deltaY * speed), event.offsetX, event.offsetY);
}, { passive: false });
canvas.addEventListener("dblclick", event => zoom(1.8, event.offsetX, event.offsetY));

// ---- the overview ----

function jump(event) {
  centreOn(state, canvas, event.offsetX, event.offsetY);
  redraw();
}
overview.addEventListener("pointerdown", event => {
  overview.setPointerCapture(event.pointerId);
  jump(event);
});
overview.addEventListener("pointermove", event => {
  if (event.buttons) jump(event);
});

// ---- start ----

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
  stepList.addEventListener("change", () => {
    openTree(state.index.trees.findIndex(tree => String(tree.step) === stepList.value));
  });
  numberList.addEventListener("change", () => openTree(Number(numberList.value)));
  document.getElementById("fit").addEventListener("click", fitTree);
  document.getElementById("next-win").addEventListener("click", () => next(state.tree.wins, 1));
  canvas.focus();
  window.explorer = state;
}

begin();
