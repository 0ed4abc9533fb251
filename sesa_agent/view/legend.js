// The legend of colours, marks and keys.

const LEGEND_KEYS = [
  ["← →", "parent, child"], ["↑ ↓", "proposals"], ["/", "search"], ["s", "next success"],
  ["f", "fit"], ["+ −", "zoom"], ["PgDn", "next tree"],
];

function showLegend(legend, env) {
  const swatch = (style, kind = "", text = "") => (
    make("i", { className: `swatch ${kind}`, style }, text)
  );
  const item = (mark, text) => make("span", {}, mark, text);
  const items = [
    item(swatch("background: var(--plus)", "strip"), "probability increased"),
    item(swatch("background: var(--minus)", "strip"), "probability decreased (paler: less)"),
    item(swatch("background: var(--won-card); border: 2px solid var(--won)"), "★ won"),
    item(swatch("background: var(--won); height: 3px"), "path to a success"),
    item(swatch("background: var(--ink); height: 3px"), "path to the selected turn"),
    item(swatch("", "badge filled", "1"), "first proposal, an ordinary sample"),
    item(swatch("", "badge", "2"), "later proposal"),
    item(swatch("", "dashed"), "state reached before, or dropped duplicate"),
  ];
  const tiles = [...new Set(Object.values(TILES[env] ?? {}))].filter(tile => TILE_WORDS[tile]);
  items.push(...tiles.map(tile => item(tileCanvas(tile), TILE_WORDS[tile])));
  items.push(...LEGEND_KEYS.map(([key, text]) => item(make("kbd", {}, key), text)));
  legend.replaceChildren(...items);
}

function tileCanvas(tile) {
  const ratio = window.devicePixelRatio || 1;
  const picture = make("canvas", { width: 15 * ratio, height: 15 * ratio, "aria-hidden": "true" });
  picture.style.width = picture.style.height = "15px";
  drawTile(picture.getContext("2d"), tile, 0, 0, 15 * ratio);
  return picture;
}
