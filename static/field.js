"use strict";
// The field of all agents: one byte per seat (16 * tier + class of state), drawn a dot each, bands by tier.
(() => {
  const COLUMNS = 50, BYTES_PER_PIXEL = 4;
  const TIERS = [4, 3, 2, 1];
  const section = document.getElementById("fields");
  const swatches = [...document.querySelectorAll("#swatches .swatch")];
  if (!section) return;
  let bytes = null;

  // The colours as the theme resolves them: order of the swatches is the order of the classes.
  const colours = () => swatches.map((swatch) => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    canvas.fillStyle = getComputedStyle(swatch).backgroundColor;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  });

  const draw = (canvas, palette) => {
    const offset = Number(canvas.dataset.offset), seats = Number(canvas.dataset.seats);
    const own = bytes.subarray(offset, offset + seats);
    const bands = TIERS.map((tier) => own.filter((byte) => byte >> 4 === tier)).filter((band) => band.length);
    const columns = Math.min(COLUMNS, Math.max(10, Math.ceil(Math.sqrt(seats * 1.6))));
    const rows = bands.reduce((sum, band) => sum + Math.ceil(band.length / columns), bands.length - 1);
    canvas.width = columns;
    canvas.height = rows;
    canvas.style.aspectRatio = `${columns} / ${rows}`;
    const context = canvas.getContext("2d");
    const image = context.createImageData(columns, rows);
    let row = 0;
    for (const band of bands) {
      band.forEach((byte, place) => {
        const at = ((row + Math.floor(place / columns)) * columns + (place % columns)) * BYTES_PER_PIXEL;
        image.data.set(palette[byte & 15] ?? palette[palette.length - 1], at);
      });
      row += Math.ceil(band.length / columns) + 1; // an empty row between the bands
    }
    context.putImageData(image, 0, 0);
  };
  const drawAll = () => {
    if (!bytes) return;
    const palette = colours();
    for (const canvas of section.querySelectorAll("canvas")) draw(canvas, palette);
  };
  const load = async () => {
    try {
      const answer = await fetch(section.dataset.field, { cache: "no-cache" });
      if (!answer.ok) return;
      bytes = new Uint8Array(await answer.arrayBuffer());
      drawAll();
    } catch { /* the counts beside each field say the same in text */ }
  };
  section.addEventListener("htmx:afterSwap", () => { drawAll(); load(); });
  document.addEventListener("portal:theme", drawAll);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  load();
})();
