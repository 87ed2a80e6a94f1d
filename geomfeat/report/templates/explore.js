// The linked plots of a sweep: a map over two conditions, and the plane of two numbers. Everything is drawn from the
// JSON in #sweep-data; choosing, filtering and pointing only redraw.
var redraw = null; // set once the plots are drawn
window.pagePlots.whenReady(function () {
  "use strict";
  var paint = window.pagePlots.paint, data = JSON.parse(document.getElementById("sweep-data").textContent);
  var config = { responsive: true, displaylogo: false, displayModeBar: false };
  function scaleOf(colours) { return colours.map(function (c, i) { return [i / (colours.length - 1), c]; }); }
  // Signed numbers have 0 in the middle of a diverging scale.
  function colouring(of, values) {
    if (!of.signed) { return { scale: scaleOf(data.colours), ends: {}, line: data.on_scale }; }
    var most = Math.max.apply(null, values.filter(function (v) { return v !== null; }).map(Math.abs).concat(1e-9));
    return { scale: scaleOf(data.diverging), ends: { min: -most, max: most }, line: "#101214" };
  }
  var withCourses = data.courses.some(function (c) { return c.steps.length > 1; });
  var pointed = null; // the trainings of the cell that is pointed at

  function chosen(id) { return document.getElementById("choose-" + id).value; }
  function byName(list, name) { return list.find(function (item) { return item.name === name; }); }
  function unique(values) {
    return Array.from(new Set(values.filter(function (v) { return v !== null; }))).sort(function (a, b) { return a - b; });
  }
  function number(v) { return v === null || v === undefined ? "none" : String(Number(v.toPrecision(3))); }
  // Plotly reads some HTML, %{...} and $...$ in what it is given.
  function plain(text) {
    return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;")
      .replace(/%\{/g, "%&#123;").replace(/\$/g, "&#36;");
  }
  function wrapped(text) { return plain(text.length > 90 ? text.replace(/(.{60,90}?) /g, "$1\n") : text).replace(/\n/g, "<br>"); }
  function place(axis, v) { return axis.log ? Math.log10(v) : v; }
  function mean(values) { return values.reduce(function (a, b) { return a + b; }, 0) / values.length; }

  // The trainings that all filters let through; a condition that is an axis of the map is not filtered by.
  function shown(skip) {
    var wanted = data.filters.filter(function (f) { return skip.indexOf(f.name) < 0; }).map(function (f) {
      return { values: f.values, value: chosen("filter-" + f.name) };
    });
    return data.trainings.map(function (_, i) { return i; }).filter(function (i) {
      return wanted.every(function (f) { return f.value === "" || f.values[i] === f.value; });
    });
  }

  // What stands for a training: run, seed, conditions, the number, phase, and its failure.
  function hover(i, lines) {
    var conditions = data.axes.map(function (a) { return a.name + " " + number(a.values[i]); });
    var groups = data.filters.filter(function (f) { return f.one; }).map(function (f) { return f.title + " " + f.values[i]; });
    return ["run " + data.trainings[i] + ", seed " + data.seed[i], groups.concat(conditions).join(", ")]
      .concat(lines, [data.phase[i], data.why[i]]).filter(Boolean).map(wrapped).join("<br>");
  }

  function cellsOf(rows, x, y) {
    var cells = new Map();
    rows.forEach(function (i) {
      if (x.values[i] === null || y.values[i] === null) { return; }
      var key = x.values[i] + "|" + y.values[i];
      if (!cells.has(key)) { cells.set(key, { x: x.values[i], y: y.values[i], rows: [] }); }
      cells.get(key).rows.push(i);
    });
    return cells;
  }

  function summary(cell, of, name) {
    var good = cell.rows.filter(function (i) { return data.used[i] && of.values[i] !== null; });
    var values = good.map(function (i) { return of.values[i]; });
    var value = values.length ? mean(values) : null;
    var others = cell.rows.map(function (i) { return data.phase[i]; }).filter(function (p) { return p && p !== "flow"; });
    var bad = cell.rows.length - good.length;
    var lines = [name + ": " + number(value) + " (mean of " + good.length + ")"];
    cell.rows.slice(0, 6).forEach(function (i) {
      lines.push("run " + data.trainings[i] + ", seed " + data.seed[i] + ": " + number(of.values[i]) +
        (data.phase[i] ? ", " + data.phase[i] : "") + (data.why[i] ? ", " + data.why[i] : ""));
    });
    if (cell.rows.length > 6) { lines.push("and " + (cell.rows.length - 6) + " more trainings"); }
    return { value: value, lines: lines, mark: others.length ? others[0] : bad ? "left out" : "" };
  }

  function quietAxis(title) {
    return { title: { text: plain(title), font: { size: 12 } }, zeroline: false, gridcolor: data.grey, automargin: true, ticks: "outside", tickcolor: data.quiet };
  }
  function layout(x, y, more) {
    return Object.assign({
      xaxis: x, yaxis: y, margin: { l: 60, r: 10, t: 34, b: 50 }, font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: data.ink }, paper_bgcolor: "#ffffff", plot_bgcolor: "#ffffff",
      hovermode: "closest", dragmode: false, hoverlabel: { bgcolor: "#ffffff", font: { color: data.ink }, align: "left" },
      legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom" }
    }, more);
  }
  function ticked(axis, values) {
    return Object.assign(quietAxis(axis.title), {
      tickvals: values.map(function (v) { return place(axis, v); }), ticktext: values.map(number)
    });
  }

  function drawMap() {
    var x = byName(data.axes, chosen("x")), y = byName(data.axes, chosen("y")), of = byName(data.numbers, chosen("number"));
    var rows = shown([x.name, y.name]), cells = cellsOf(rows, x, y);
    var all = Array.from(cells.values()).map(function (c) { return Object.assign(c, summary(c, of, of.name)); });
    all.forEach(function (c) {
      c.text = [x.name + " " + number(c.x) + ", " + y.name + " " + number(c.y)].concat(c.lines).map(wrapped).join("<br>");
    });
    var xs = unique(all.map(function (c) { return c.x; })), ys = unique(all.map(function (c) { return c.y; }));
    var isGrid = all.length >= data.covered * xs.length * ys.length && xs.length > 1 && ys.length > 1;
    var at = function (v, w) { return cells.get(v + "|" + w); };
    var px = function (v) { return place(x, v); }, py = function (v) { return place(y, v); };
    var table = function (name) {
      return ys.map(function (w) { return xs.map(function (v) { var c = at(v, w); return c ? c[name] : null; }); });
    };
    var bar = { title: { text: plain(of.name), side: "right" }, thickness: 12 }, traces;
    var colours = colouring(of, all.map(function (c) { return c.value; }));
    if (isGrid) {
      traces = [{ type: "heatmap", x: xs.map(px), y: ys.map(py), z: table("value"), text: table("text"), zmin: colours.ends.min, zmax: colours.ends.max, colorscale: colours.scale, colorbar: bar, hoverongaps: true, hovertemplate: "%{text}<extra></extra>" }];
      traces.push({ type: "contour", showlegend: false, x: xs.map(px), y: ys.map(py), z: table("value"), hoverinfo: "skip", showscale: false, ncontours: 7, contours: { coloring: "none", showlabels: true, labelfont: { color: colours.line, size: 10 } }, line: { color: colours.line, width: 1.5 } });
    } else {
      traces = [{ type: "scatter", mode: "markers", x: all.map(function (c) { return px(c.x); }), y: all.map(function (c) { return py(c.y); }), text: all.map(function (c) { return c.text; }), marker: { size: 11, color: all.map(function (c) { return c.value; }), cmin: colours.ends.min, cmax: colours.ends.max, colorscale: colours.scale, colorbar: bar, line: { width: 1, color: data.quiet } }, hovertemplate: "%{text}<extra></extra>", showlegend: false }];
    }
    Object.keys(data.marks).forEach(function (kind) {
      var some = all.filter(function (c) { return c.mark === kind; });
      if (!some.length) { return; }
      traces.push({ type: "scatter", mode: "markers", name: kind, x: some.map(function (c) { return px(c.x); }), y: some.map(function (c) { return py(c.y); }), hoverinfo: "skip", showlegend: true, marker: { symbol: data.marks[kind], size: 13, color: data.warning, line: { color: data.warning, width: 2.5 } } });
    });
    var few = function (v) { return v.length <= 12; };
    var frame = layout(few(xs) ? ticked(x, xs) : quietAxis((x.log ? "log10 " : "") + x.title), few(ys) ? ticked(y, ys) : quietAxis((y.log ? "log10 " : "") + y.title), isGrid ? { plot_bgcolor: data.grey } : {});
    var div = document.getElementById("explore-map");
    Plotly.react(div, paint(traces), paint(frame), config);
    div.onPoint = function (p) {
      var c = isGrid ? at(xs[p.pointIndex[1]], ys[p.pointIndex[0]]) : all[p.pointIndex];
      pointed = c ? c.rows : null;
      drawPlane();
    };
    document.getElementById("explore-words").textContent = words(rows, all, x, y);
  }

  // How much the map shows, and what its cells average over.
  function words(rows, all, x, y) {
    var over = data.filters.map(function (f) { return f.name; }).concat(data.axes.map(function (a) { return a.name; }));
    over = Array.from(new Set(over)).filter(function (name) {
      if (name === x.name || name === y.name) { return false; }
      var values = (byName(data.filters, name) || byName(data.axes, name)).values;
      return all.some(function (c) { return new Set(c.rows.map(function (i) { return values[i]; })).size > 1; });
    });
    var bad = rows.filter(function (i) { return !data.used[i]; }).length;
    return rows.length + (rows.length === 1 ? " training in " : " trainings in ") + all.length + " cells; " +
      (over.length ? "a cell is the mean over " + over.join(", ") : "one training in every cell") +
      (bad ? "; " + bad + (bad === 1 ? " training is" : " trainings are") + " left out of the means, point at a marked cell to see why." : ".");
  }

  function path(i, name) {
    var course = data.courses[i];
    if (course && course.values[name]) { return { steps: course.steps, values: course.values[name] }; }
    return null;
  }

  function drawPlane() {
    var a = byName(data.numbers, chosen("plane-x")), b = byName(data.numbers, chosen("plane-y"));
    var x = byName(data.axes, chosen("x")), y = byName(data.axes, chosen("y")), by = byName(data.axes, chosen("colour"));
    var rows = shown([x.name, y.name]), traces = [], ends = [], known = by.values.filter(function (v) { return v !== null; });
    var low = Math.min.apply(null, known.map(function (v) { return place(by, v); }));
    var high = Math.max.apply(null, known.map(function (v) { return place(by, v); }));
    var colour = function (i) {
      var share = by.values[i] === null || high === low ? 0 : (place(by, by.values[i]) - low) / (high - low);
      return data.colours[Math.round(share * (data.colours.length - 3))];
    };
    var faint = function (i) { return pointed && pointed.indexOf(i) < 0; };
    rows.forEach(function (i) {
      var p = path(i, a.name), q = path(i, b.name), last = { i: i, x: a.values[i], y: b.values[i] };
      if (p && q) {
        traces.push({ type: "scatter", mode: "lines+markers", x: p.values, y: q.values, showlegend: false, opacity: faint(i) ? 0.12 : 0.9, line: { color: colour(i), width: 1.5 }, marker: { size: 3, color: colour(i) }, text: p.steps.map(function (s, k) { return hover(i, ["step " + number(s) + ": " + a.name + " " + number(p.values[k]) + ", " + b.name + " " + number(q.values[k])]); }), hovertemplate: "%{text}<extra></extra>" });
      }
      ends.push(last);
    });
    traces.push({
      type: "scatter", mode: "markers", showlegend: false, x: ends.map(function (e) { return e.x; }), y: ends.map(function (e) { return e.y; }),
      text: ends.map(function (e) { return hover(e.i, [a.name + " " + number(e.x), b.name + " " + number(e.y)]); }), hovertemplate: "%{text}<extra></extra>",
      marker: { size: 9, color: ends.map(function (e) { return colour(e.i); }), opacity: ends.map(function (e) { return faint(e.i) ? 0.15 : 1; }), symbol: ends.map(function (e) { return data.used[e.i] ? "circle" : "x"; }), line: { width: 1, color: data.quiet } }
    });
    Plotly.react(document.getElementById("explore-plane"), paint(traces), paint(layout(quietAxis(a.name), quietAxis(b.name), { margin: { l: 60, r: 10, t: 10, b: 50 } })), config);
    var hidden = rows.filter(function (i) { return a.values[i] === null || b.values[i] === null; }).length;
    document.getElementById("plane-words").textContent = rows.length - hidden + " trainings" + (withCourses ? ", their last number as a large mark" : "") + "; crosses are left out of fits" + (hidden ? "; " + hidden + " have no such number" : "") + ". Colour: " + by.title + ", dark is small." + (pointed ? " Faint: not in the cell pointed at." : "");
  }

  function draw() {
    pointed = null;
    data.filters.forEach(function (f) {
      var isAxis = f.name === chosen("x") || f.name === chosen("y");
      document.getElementById("choose-filter-" + f.name).disabled = isAxis;
    });
    drawMap();
    drawPlane();
    document.documentElement.setAttribute("data-explorer", "drawn");
  }
  // Two axes of a map are never the same condition: choosing the other one's swaps them.
  var before = { x: chosen("x"), y: chosen("y") };
  document.querySelectorAll("[id^=choose-]").forEach(function (select) {
    select.addEventListener("change", function () {
      if (chosen("x") === chosen("y")) {
        var other = select.id === "choose-x" ? "y" : "x";
        document.getElementById("choose-" + other).value = before[select.id === "choose-x" ? "x" : "y"];
      }
      before = { x: chosen("x"), y: chosen("y") };
      draw();
    });
  });
  draw();
  var map = document.getElementById("explore-map");
  map.on("plotly_hover", function (event) { map.onPoint(event.points[0]); });
  map.on("plotly_unhover", function () { pointed = null; drawPlane(); });
  redraw = draw;
}, function () { if (redraw) { redraw(); } });
