// A small picture of the whole tree, if the canvas does not show all of it.

const OVERVIEW = { width: 190, height: 130, edge: 6 };

let overviewPicture = null;

// The picture is drawn once; only the frame around the visible part moves.
function drawOverview(overview, canvas, { tree, view }) {
  const box = [canvas.clientWidth, canvas.clientHeight];
  const ends = [view.x + tree.size.width * columnScale(view), view.y + tree.size.height * view.scale];
  overview.hidden = view.x >= 0 && view.y >= 0 && ends[0] <= box[0] + 1 && ends[1] <= box[1] + 1;
  if (overview.hidden) return;
  const ratio = window.devicePixelRatio || 1;
  overview.width = OVERVIEW.width * ratio;
  overview.height = OVERVIEW.height * ratio;
  const [across, down] = overviewScales(tree);
  overviewPicture ??= miniature(tree, ratio);
  const paint = overview.getContext("2d");
  paint.drawImage(overviewPicture, 0, 0);
  paint.scale(ratio, ratio);
  paint.strokeStyle = palette.ink;
  paint.lineWidth = 1.5;
  const frame = [across / columnScale(view), down / view.scale];
  paint.strokeRect(
    OVERVIEW.edge - view.x * frame[0], OVERVIEW.edge - view.y * frame[1],
    box[0] * frame[0], box[1] * frame[1],
  );
}

function miniature(tree, ratio) {
  const [across, down] = overviewScales(tree);
  const picture = document.createElement("canvas");
  picture.width = OVERVIEW.width * ratio;
  picture.height = OVERVIEW.height * ratio;
  const paint = picture.getContext("2d");
  paint.scale(ratio, ratio);
  for (const node of tree.nodes) {
    const shade = push(tree, node), isWon = node.end === "won";
    const place = [OVERVIEW.edge + node.x * across, OVERVIEW.edge + node.y * down - 1];
    paint.globalAlpha = isWon ? 1 : shade ? shade.strength : 0.45;
    paint.fillStyle = isWon ? palette.won : shade ? shade.colour : palette.soft;
    paint.fillRect(...place, Math.max(node.width * across, 2), isWon ? 3 : 2);
  }
  return picture;
}

function overviewScales({ size }) {
  const room = [OVERVIEW.width - 2 * OVERVIEW.edge, OVERVIEW.height - 2 * OVERVIEW.edge];
  return [room[0] / size.width, room[1] / size.height];
}

// Moves the canvas to the part of the tree at a point of the overview.
function centreOn({ tree, view }, canvas, x, y) {
  const [across, down] = overviewScales(tree);
  view.x = canvas.clientWidth / 2 - (x - OVERVIEW.edge) / across * columnScale(view);
  view.y = canvas.clientHeight / 2 - (y - OVERVIEW.edge) / down * view.scale;
}
