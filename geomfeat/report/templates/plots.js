// Every plot of the page: unpacks Plotly, draws in the colours of the theme, hides and shows models, and prints.
window.pagePlots = (function () {
  "use strict";
  var theme = JSON.parse(document.getElementById("dark-theme").textContent);
  var paper = theme["#ffffff"];
  var veil = "rgba(" + [1, 3, 5].map(function (i) { return parseInt(paper.substr(i, 2), 16); }).join(",") + ",";
  var media = window.matchMedia("(prefers-color-scheme: dark)");
  var plots = Array.prototype.slice.call(document.querySelectorAll(".plot:not(.live)"));
  var hidden = { model: {}, at: {} };
  var waiting = [], followers = [], opened = [];
  var printing = false, specs = {}; // id of a plot -> its data and layout
  var PAPER = 680; // CSS pixels between the margins of an A4 sheet
  var config = {
    responsive: true,
    displaylogo: false,
    displayModeBar: window.matchMedia("(hover: hover)").matches ? "hover" : false,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"]
  };

  function isDark() { return media.matches && !printing; }

  // A part of a plot in the colours of the theme. Colour scales stay: they are read against their bar.
  function paint(value, key) {
    if (!isDark() || key === "colorscale") { return value; }
    if (typeof value === "string") {
      return Object.prototype.hasOwnProperty.call(theme, value) ? theme[value] : value.replace(/rgba\(255, ?255, ?255, ?/, veil);
    }
    if (Array.isArray(value)) { return value.map(function (v) { return paint(v, ""); }); }
    if (value && typeof value === "object") {
      var copy = {};
      Object.keys(value).forEach(function (k) { copy[k] = paint(value[k], k); });
      return copy;
    }
    return value;
  }

  function shown(meta) { return !(meta && (hidden.model[meta.model] || hidden.at[meta.at])); }

  // A copy, since Plotly writes into what it is given.
  function specOf(div) { return JSON.parse(JSON.stringify(specs[div.id])); }

  function draw(div, width) {
    var spec = specOf(div);
    spec.data.forEach(function (t) { if (!shown(t.meta)) { t.visible = false; } });
    if (width) { spec.layout.width = width; }
    Plotly.newPlot(div, paint(spec.data), paint(spec.layout), config);
  }

  function reachable(div) { return div.clientWidth > 0; } // in no closed part of the page, and of no hidden model

  // One plot at a time, those in sight first, so that the page can be read and scrolled while the rest is drawn.
  function drawNext() {
    var left = plots.filter(function (div) { return !div.data && reachable(div); });
    if (!left.length) {
      document.documentElement.setAttribute("data-plots", "drawn");
      return;
    }
    var inSight = left.find(function (div) {
      var box = div.getBoundingClientRect();
      return box.bottom > 0 && box.top < window.innerHeight;
    });
    draw(inSight || left[0]);
    setTimeout(drawNext, 0);
  }

  function update() {
    plots.filter(function (div) { return div.data; }).forEach(function (div) {
      var before = div.data.map(function (t) { return t.visible !== false; });
      var after = div.data.map(function (t) { return shown(t.meta); });
      if (before.join() !== after.join()) { Plotly.restyle(div, { visible: after }); }
    });
    document.querySelectorAll(".panel[data-model]").forEach(function (panel) {
      panel.hidden = Boolean(hidden.model[panel.getAttribute("data-model")]);
    });
    plots.filter(function (div) { return div.data && reachable(div); }).forEach(function (div) {
      Plotly.Plots.resize(div); // the window may have changed while the plot could not be seen
    });
    drawNext();
  }

  function redraw() {
    plots.filter(function (div) { return div.data && reachable(div); }).forEach(function (div) { draw(div); });
    followers.forEach(function (follow) { follow(); });
  }

  function widthOnPaper(div) {
    var grid = div.closest(".panels");
    if (!grid || grid.matches(".one, .wide-panels")) { return Math.min(PAPER, parseInt(getComputedStyle(div).maxWidth, 10) || PAPER); }
    return Math.floor(PAPER / (grid.matches(".triples") ? 3 : 2)) - 8;
  }

  // Paper shows what is not drawn yet, what is folded but for long definitions, the light colours, and each plot at the
  // width it has there.
  function toPaper() {
    opened = Array.prototype.slice.call(document.querySelectorAll("details.fold:not([open]):not(.unprinted)"));
    opened.forEach(function (d) { d.open = true; });
    if (!window.Plotly) { return showTables(); }
    var wasDark = isDark();
    printing = true;
    plots.filter(reachable).forEach(function (div) {
      var width = widthOnPaper(div);
      if (div.data && !wasDark) { Plotly.relayout(div, { width: width }); } else { draw(div, width); }
    });
    document.querySelectorAll(".plot.live").forEach(function (div) {
      if (div.layout) { Plotly.relayout(div, { width: PAPER }); }
    });
    if (wasDark) { followers.forEach(function (follow) { follow(); }); }
  }

  function fromPaper() {
    if (!printing) { return; }
    printing = false;
    opened.forEach(function (d) { d.open = false; });
    document.querySelectorAll(".plot").forEach(function (div) {
      if (div.layout) { Plotly.relayout(div, { width: null, autosize: true }); }
    });
    if (isDark()) { redraw(); }
  }

  function showTables() {
    document.querySelectorAll("figure > details").forEach(function (d) { d.open = true; });
  }

  // Still pictures stand in noscript elements, which hold text where scripts run.
  function withoutPlots() {
    document.getElementById("no-plots").hidden = false;
    document.documentElement.setAttribute("data-plots", "none");
    document.querySelectorAll("figure noscript").forEach(function (n) { n.outerHTML = n.textContent; });
    showTables();
  }

  function unpack(id) {
    var packed = atob(document.getElementById(id).textContent);
    var bytes = Uint8Array.from(packed, function (c) { return c.charCodeAt(0); });
    var stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  }

  function run(unpacked) {
    specs = JSON.parse(unpacked[0]);
    var script = document.createElement("script");
    script.textContent = unpacked[1];
    document.head.appendChild(script);
    waiting.forEach(function (then) { then(); });
    drawNext();
  }

  function start() {
    if (!window.DecompressionStream) { return withoutPlots(); }
    Promise.all(["specs-gzip", "plotly-gzip"].map(unpack)).then(run, withoutPlots);
  }

  ["model", "at"].forEach(function (kind) {
    document.querySelectorAll("[data-toggle-" + kind + "]").forEach(function (button) {
      button.addEventListener("click", function () {
        var key = button.getAttribute("data-toggle-" + kind);
        hidden[kind][key] = !hidden[kind][key];
        button.setAttribute("aria-pressed", String(!hidden[kind][key]));
        if (window.Plotly) { update(); }
      });
    });
  });
  document.querySelectorAll("details.fold").forEach(function (d) {
    d.addEventListener("toggle", function () { if (d.open && window.Plotly && !printing) { drawNext(); } });
  });
  window.addEventListener("beforeprint", toPaper);
  window.addEventListener("afterprint", fromPaper);
  media.addEventListener("change", function () { if (window.Plotly) { redraw(); } });

  return {
    start: start, paint: paint, config: config, specOf: specOf,
    // `then` is called once Plotly is there; `follow` whenever the theme changes.
    whenReady: function (then, follow) { waiting.push(then); if (follow) { followers.push(follow); } }
  };
})();
