"use strict";
// Draws the values that the program computed; no metric is computed here.
(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 44rem)");
  const DASHES = ["solid", "dash", "dot"];
  const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "star", "x"];

  // ---- the table: sort, filter, baselines

  const table = $("ablation");

  function cellValue(row, column) {
    const cell = row.cells[column];
    if ("order" in cell.dataset) return cell.dataset.order === "" ? NaN : Number(cell.dataset.order);
    if ("value" in cell.dataset) return cell.dataset.value === "" ? NaN : Number(cell.dataset.value);
    const text = cell.textContent.trim();
    return cell.classList.contains("number") ? parseFloat(text.replace("−", "-").replaceAll(",", "")) : text;
  }

  function compareCells(a, b, sign) {
    if (typeof a === "string") return sign * a.localeCompare(b, undefined, { numeric: true });
    if (isNaN(a) || isNaN(b)) return isNaN(a) - isNaN(b); // missing values are last in both directions
    return sign * (a - b);
  }

  function sortBy(header) {
    const sorted = header.closest("table");
    const first = header.dataset.first || "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const direction = header.getAttribute("aria-sort") === first ? other : first;
    for (const cell of header.parentNode.cells) cell.setAttribute("aria-sort", cell === header ? direction : "none");
    const sign = direction === "ascending" ? 1 : -1;
    for (const body of sorted.tBodies) {
      const rows = [...body.rows].filter((row) => !row.classList.contains("group"));
      rows.sort((a, b) => compareCells(cellValue(a, header.cellIndex), cellValue(b, header.cellIndex), sign));
      body.append(...rows);
    }
    if (sorted === table) drawForests();
  }

  function filterRows() {
    const terms = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0, all = 0;
    for (const body of table.tBodies) {
      const heading = body.querySelector(".group");
      const rows = [...body.rows].filter((row) => row !== heading);
      let shownInBody = 0;
      for (const row of rows) {
        const text = `${row.textContent} ${heading ? heading.textContent : ""}`.toLowerCase();
        row.hidden = !terms.every((term) => text.includes(term));
        const counts = $("baselines").checked || !row.classList.contains("baseline");
        all += counts;
        shownInBody += counts && !row.hidden;
      }
      if (heading) heading.hidden = !shownInBody;
      shown += shownInBody;
    }
    $("count").textContent = shown === all ? `${all} lines` : `${shown} of ${all} lines`;
    drawForests();
  }

  for (const button of document.querySelectorAll(".sortable thead button")) button.addEventListener("click", () => sortBy(button.parentNode));
  $("filter").addEventListener("input", filterRows);
  $("baselines").addEventListener("change", () => {
    table.classList.toggle("no-baselines", !$("baselines").checked);
    filterRows();
  });

  // ---- tables as LaTeX

  // A page on an insecure server has no clipboard of its own; there the text is selected and copied.
  async function copyText(text) {
    if (navigator.clipboard) return navigator.clipboard.writeText(text);
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    if (!copied) throw new Error("not copied");
  }

  for (const button of document.querySelectorAll(".copy")) {
    const title = button.textContent;
    button.setAttribute("aria-live", "polite");
    button.addEventListener("click", async () => {
      button.textContent = await copyText(data.latex[button.dataset.latex]).then(() => "Copied", () => "The browser refused to copy");
      setTimeout(() => { button.textContent = title; }, 2000);
    });
  }

  // ---- plots

  const safe = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;"); // Plotly reads some HTML in labels
  const shown = (value) => (value === null ? "NaN" : value.toFixed(3).replace("-", "−"));
  const CONFIG = { displayModeBar: false, responsive: true, displaylogo: false, showTips: false };

  function colours() {
    const style = getComputedStyle(document.documentElement);
    const get = (name) => style.getPropertyValue(name).trim();
    return { paper: get("--paper"), ink: get("--ink"), quiet: get("--quiet"), line: get("--line"), accent: get("--accent"), series: get("--series").split(/\s+/) };
  }

  function layout(colour, more) {
    const axis = { gridcolor: colour.line, linecolor: colour.quiet, zeroline: false, automargin: true, title: { font: { size: 13 } } };
    const base = {
      paper_bgcolor: colour.paper, plot_bgcolor: colour.paper, font: { color: colour.ink, family: getComputedStyle(document.body).fontFamily, size: 12 },
      margin: { l: 12, r: 12, t: 12, b: 40 }, hovermode: "closest", dragmode: false, ...more,
    };
    const titled = (own) => ({ ...axis, ...own, title: { ...axis.title, ...own.title } });
    return { ...base, xaxis: titled(more.xaxis), yaxis: titled(more.yaxis) };
  }

  // On paper a plot has the size that its place has there; the library would measure it too late.
  const size = (box) => (document.documentElement.classList.contains("printing") ? { width: box.clientWidth, height: box.clientHeight } : {});

  let Plots = null;

  async function loadPlotly() {
    const packed = Uint8Array.from(atob($("plotly").textContent), (letter) => letter.charCodeAt(0));
    const script = document.createElement("script");
    script.textContent = await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
    document.head.append(script);
    $("plotly").remove();
    return window.Plotly;
  }

  function interval(lines, colour, metric, baseline) {
    const at = lines.map((line, place) => ({ ...line, y: -place })).filter((line) => line.baseline === baseline && line.metrics[metric][0] !== null);
    const values = at.map((line) => line.metrics[metric]);
    const tone = baseline ? colour.quiet : colour.accent;
    return {
      type: "scatter", mode: "markers", x: values.map((v) => v[0]), y: at.map((line) => line.y),
      marker: { size: 9, color: baseline ? colour.paper : tone, line: { color: tone, width: 2 }, symbol: baseline ? "diamond" : "circle" },
      error_x: {
        type: "data", symmetric: false, array: values.map((v) => (v[2] === null ? 0 : v[2] - v[0])), arrayminus: values.map((v) => (v[1] === null ? 0 : v[0] - v[1])),
        color: tone, thickness: baseline ? 1.2 : 2, width: 0,
      },
      customdata: values.map((v) => v.map(shown)), hovertemplate: "%{customdata[0]} [%{customdata[1]}, %{customdata[2]}]<extra></extra>",
    };
  }

  // Break a title into lines of at most `limit` letters, between its parts, or within a part that is longer.
  function inLines(title, limit) {
    const parts = title.split(" · ").flatMap((part) => part.match(new RegExp(`.{1,${limit}}`, "gu")) || []);
    return parts.reduce((lines, part) => {
      const longer = lines.length ? `${lines.at(-1)} · ${part}` : part;
      return lines.length && longer.length > limit ? [...lines, part] : [...lines.slice(0, -1), longer];
    }, []);
  }

  function drawForests() {
    if (!Plots) return;
    const colour = colours(), metric = $("metric").value, baselines = $("baselines").checked;
    const rows = [...table.tBodies].flatMap((body) => [...body.rows]).filter((row) => row.dataset.key && !row.hidden);
    const place = new Map(rows.map((row, number) => [row.dataset.key, number]));
    data.forests.forEach((forest, number) => {
      const lines = forest.lines.filter((line) => place.has(line.key) && (baselines || !line.baseline)).sort((a, b) => place.get(a.key) - place.get(b.key));
      const box = $(`forest-${number}`);
      box.parentNode.hidden = !lines.length;
      if (!lines.length) return;
      const titles = lines.map((line) => inLines(line.title, Math.max(12, Math.floor(box.clientWidth / 7))));
      const names = lines.map((line, row) => ({
        x: 0, xref: "paper", xanchor: "left", y: -row, yanchor: "bottom", yshift: 7, showarrow: false, align: "left",
        text: titles[row].map(safe).join("<br>"), bgcolor: colour.paper, borderpad: 0, font: { size: 12, color: line.baseline ? colour.quiet : colour.ink },
      }));
      const height = lines.length * (30 + 16 * Math.max(1, ...titles.map((title) => title.length))) + 64;
      Plots.react(box, [interval(lines, colour, metric, false), interval(lines, colour, metric, true)], layout(colour, {
        ...size(box), height, showlegend: false, annotations: names,
        xaxis: { title: { text: data.labels[metric] }, fixedrange: true },
        yaxis: { range: [0.4 - lines.length, 0.9], showticklabels: false, showgrid: false, fixedrange: true },
      }), CONFIG);
    });
  }

  function makeForests() {
    const several = new Set(data.forests.map((forest) => forest.data)).size > 1;
    $("forests").replaceChildren(...data.forests.map((forest, number) => {
      const place = document.createElement("div"), title = document.createElement("h3"), box = document.createElement("div");
      place.className = box.className = "plot";
      title.textContent = several ? `${forest.target}, ${forest.data}` : forest.target;
      box.id = `forest-${number}`;
      box.setAttribute("role", "img");
      box.setAttribute("aria-label", `Intervals of ${title.textContent}; the table above has the same values`);
      place.append(title, box);
      return place;
    }));
  }

  // ---- a closer look

  let points = [], chosen = -1;

  const trial = () => data.trials[$("run").value][$("target").value][Number($("repeat").value)];

  function fill(select, entries) {
    const before = select.value;
    select.replaceChildren(...entries.map(([value, text]) => new Option(text, value)));
    if (entries.some(([value]) => String(value) === before)) select.value = before;
  }

  function chooseRun() {
    const targets = data.trials[$("run").value];
    fill($("target"), Object.keys(targets).map((name) => [name, name]));
    fill($("repeat"), targets[$("target").value].map((trial, number) => [number, trial.repeat]));
    showDetail();
  }

  function showDetail() {
    for (const detail of document.querySelectorAll(".detail")) {
      detail.hidden = detail.dataset.run !== $("run").value || detail.dataset.target !== $("target").value;
      if (detail.hidden) continue;
      for (const image of detail.querySelectorAll("img[data-image]")) image.src = source(image.dataset.image);
      for (const image of detail.querySelectorAll("img[data-image-prompt]")) image.src = jpeg(data.imagePrompts[image.dataset.imagePrompt]);
    }
    showParts();
    drawPoints();
    drawCurves();
  }

  // Show the selected breakdown, or the first one if the run does not have the selected one.
  function showParts() {
    const parts = [...document.querySelectorAll(".detail:not([hidden]) .part")];
    $("part-field").hidden = parts.length < 2;
    const wanted = parts.find((part) => part.dataset.part === $("part").value) || parts[0];
    for (const part of parts) part.hidden = part !== wanted;
  }

  const jpeg = (bytes) => `data:image/jpeg;base64,${bytes}`;
  const source = (number) => (number in data.thumbnails ? jpeg(data.thumbnails[number]) : "");

  function pointsOf(one) {
    const images = data.shared[one.images], truth = data.shared[one.truth];
    const all = images.map((image, row) => ({ image, truth: truth[row], prediction: one.prediction[row], generator: data.generators[image] }));
    return all.sort((a, b) => a.prediction - b.prediction);
  }

  function drawPoints(keep = -1) {
    const one = trial();
    points = pointsOf(one);
    const values = Object.entries(data.labels).map(([name, label]) => `${label} ${shown(one.metrics[name])}`);
    $("values").textContent = `Repeat ${one.repeat}, ${points.length} test images: ${values.join(", ")}.` + (one.without ? ` ${one.without} images without a prediction are not shown.` : "");
    if (!Plots) return show(keep);
    const colour = colours();
    const generators = [...new Set(data.generators)].sort().filter((name) => points.some((point) => point.generator === name));
    const traces = generators.map((name, number) => {
      const rows = points.map((_, row) => row).filter((row) => points[row].generator === name);
      return {
        type: "scatter", mode: "markers", name: safe(name), customdata: rows, x: rows.map((row) => points[row].prediction), y: rows.map((row) => points[row].truth),
        hoverinfo: "none", marker: { size: 7, opacity: 0.75, color: colour.series[number % colour.series.length], symbol: SYMBOLS[number % SYMBOLS.length] },
      };
    });
    const curve = { type: "scatter", mode: "lines", name: "logistic", x: one.curve[0], y: one.curve[1], hoverinfo: "skip", line: { color: colour.ink, width: 2 } };
    const mark = { type: "scatter", mode: "markers", x: [], y: [], hoverinfo: "skip", showlegend: false, marker: { size: 15, color: "rgba(0,0,0,0)", line: { color: colour.ink, width: 2.5 } } };
    Plots.react($("points"), [...traces, curve, mark], layout(colour, {
      ...size($("points")), dragmode: matchMedia("(pointer: fine)").matches ? "zoom" : false, uirevision: `${$("run").value} ${$("target").value}`,
      xaxis: { title: { text: "predicted score" } }, yaxis: { title: { text: "MOS" } },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, margin: { l: 12, r: 12, t: 12, b: 44 },
    }), CONFIG);
    if (!$("points").dataset.listens) listenToPoints();
    show(keep);
  }

  // A line with the band around it from the lowest to the highest repeat.
  function withBand(line, tone, dash, axis) {
    const shared = { type: "scatter", mode: "lines", x: line.epochs, yaxis: axis, legendgroup: line.name };
    const edge = { ...shared, line: { width: 0, color: tone }, hoverinfo: "skip", showlegend: false };
    const mode = line.epochs.length > 1 ? "lines" : "markers";
    return [
      { ...edge, y: line.low }, { ...edge, y: line.high, fill: "tonexty", fillcolor: `${tone}2e` },
      { ...shared, mode, y: line.mean, name: line.label, line: { color: tone, width: 2, dash }, marker: { color: tone, size: 8 }, hovertemplate: `epoch %{x}: %{y:.4~g}<extra></extra>` },
    ];
  }

  function drawCurves() {
    const lines = data.curves[$("run").value][$("target").value];
    $("training").hidden = !lines.length;
    if (!lines.length) return;
    const repeats = data.trials[$("run").value][$("target").value].length;
    const range = repeats > 1 ? ` Lines are means over ${repeats} repeats, and bands reach from the lowest repeat to the highest; a repeat that stopped early is left out of later epochs.` : "";
    $("trained").textContent = `Loss and SRCC of the test rows after every epoch of ${$("target").value}.${range} The test rows select no epoch, except for the values that are marked as optimistic.`;
    if (!Plots) return;
    const colour = colours();
    const losses = lines.filter((line) => line.name !== "test_srcc");
    const epochs = Math.max(...lines.flatMap((line) => line.epochs));
    const log = losses.every((line) => line.low.every((value) => value === null || value > 0));
    const traces = lines.flatMap((line, number) => withBand(line, colour.series[number], DASHES[number % DASHES.length], line.name === "test_srcc" ? "y" : "y2"));
    const plotted = layout(colour, {
      ...size($("curves")), height: 440, hovermode: "x", showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
      xaxis: { title: { text: "epoch" }, fixedrange: true, anchor: "y", rangemode: "tozero", ...(epochs <= 12 ? { dtick: 1 } : {}) },
      yaxis: { title: { text: "SRCC" }, domain: [0, 0.44], fixedrange: true },
    });
    const values = losses.flatMap((line) => [...line.low, ...line.high]).filter((value) => value !== null), decades = log && Math.max(...values) > 20 * Math.min(...values);
    plotted.yaxis2 = {
      ...plotted.yaxis, title: { ...plotted.yaxis.title, text: log ? "loss (log scale)" : "loss" }, domain: [0.56, 1], type: log ? "log" : "linear",
      ...(log ? { dtick: decades ? 1 : "D2" } : {}),
    };
    Plots.react($("curves"), traces, plotted, CONFIG);
  }

  function listenToPoints() {
    $("points").dataset.listens = "yes";
    const pick = (event) => event.points.length && event.points[0].customdata !== undefined && show(event.points[0].customdata);
    $("points").on("plotly_hover", pick);
    $("points").on("plotly_click", pick);
  }

  function facts(pairs) {
    return pairs.flatMap(([name, value]) => {
      const term = document.createElement("dt"), text = document.createElement("dd");
      term.textContent = name;
      value.split("_").forEach((part, number) => text.append(...(number ? ["_", document.createElement("wbr"), part] : [part]))); // may break there
      return [term, text];
    });
  }

  function show(row) {
    chosen = row;
    const point = points[row], image = $("card-image");
    const address = point ? source(point.image) : "";
    image.hidden = !address;
    $("card-none").hidden = Boolean(address);
    if (address) image.src = address;
    if (!point) $("card-none").textContent = "Hover, tap, or use the arrow keys on the plot to see an image.";
    else $("card-none").textContent = "This image is not in the page.";
    $("card-text").replaceChildren(...(point ? facts([
      ["name", data.names[point.image]], ["generator", point.generator], ["MOS", shown(point.truth)], ["predicted", shown(point.prediction)],
    ]) : []));
    if ($("points").data) Plots.restyle($("points"), { x: [point ? [point.prediction] : []], y: [point ? [point.truth] : []] }, [$("points").data.length - 1]);
  }

  const STEPS = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10 };

  $("points").addEventListener("keydown", (event) => {
    const last = points.length - 1;
    let row = null;
    if (event.key in STEPS) row = chosen < 0 ? (STEPS[event.key] > 0 ? 0 : last) : Math.min(last, Math.max(0, chosen + STEPS[event.key]));
    if (event.key === "Home") row = 0;
    if (event.key === "End") row = last;
    if (row === null || last < 0) return;
    event.preventDefault();
    show(row);
  });

  $("run").addEventListener("change", chooseRun);
  $("target").addEventListener("change", chooseRun);
  $("repeat").addEventListener("change", () => drawPoints());
  $("part").addEventListener("change", showParts);
  $("metric").addEventListener("change", drawForests);

  const redraw = () => { drawForests(); drawPoints(chosen); drawCurves(); };
  dark.addEventListener("change", redraw);
  narrow.addEventListener("change", redraw);

  // On paper the plots have the light colours and the width of the paper.
  function drawFor(printing) {
    document.documentElement.classList.toggle("printing", printing);
    for (const details of document.querySelectorAll("details.many")) if (printing) details.open = true;
    redraw();
  }
  addEventListener("beforeprint", () => drawFor(true));
  addEventListener("afterprint", () => drawFor(false));

  filterRows();
  chooseRun();
  loadPlotly().then((library) => {
    Plots = library;
    makeForests();
    redraw();
    document.documentElement.dataset.ready = "yes";
  }, () => { document.documentElement.dataset.ready = "no"; });
})();
