// The buttons at each figure: its panels as one SVG file, in light colours, and its tables as one CSV file.
(function () {
  "use strict";
  var SVG = "http://www.w3.org/2000/svg", WIDTH = 420, GAP = 16, LINE = 18;

  function save(name, kind, content) {
    var link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([content], { type: kind }));
    link.download = name;
    link.click();
    setTimeout(function () { URL.revokeObjectURL(link.href); }, 1000);
  }

  function nameOf(figure) {
    var heading = figure.querySelector("h3") || figure.closest("section").querySelector("h2");
    return heading.textContent.trim().toLowerCase().replace(/[^a-z0-9]+/g, "_").replace(/^_|_$/g, "").slice(0, 60) || "figure";
  }

  // Text without marks of its own: superscripts as they are typed.
  function typed(element) {
    var copy = element.cloneNode(true);
    copy.querySelectorAll("sup").forEach(function (sup) {
      var power = sup.textContent.replace("−", "-");
      sup.textContent = "^" + (/^-?[\w.]+$/.test(power) ? power : "(" + power + ")");
    });
    return copy.textContent.replace(/\u00a0/g, " ").trim();
  }

  // Numbers in full, as the cells hold them; a table's title is a line of its own.
  function csvOf(figure) {
    var quoted = function (text) { return /[",\n]/.test(text) ? '"' + text.replace(/"/g, '""') + '"' : text; };
    return Array.prototype.map.call(figure.querySelectorAll("table"), function (table) {
      var title = table.caption ? [quoted("# " + typed(table.caption))] : [];
      return title.concat(Array.prototype.map.call(table.rows, function (row) {
        return Array.prototype.map.call(row.cells, function (cell) {
          var number = cell.querySelector("data");
          return quoted(number ? number.value : typed(cell));
        }).join(",");
      })).join("\n");
    }).join("\n\n") + "\n";
  }

  function put(parent, tag, attributes, text) {
    var made = document.createElementNS(SVG, tag);
    Object.keys(attributes).forEach(function (k) { made.setAttribute(k, attributes[k]); });
    if (text) { made.textContent = text; }
    return parent.appendChild(made);
  }

  function drawnPanel(panel) {
    var div = panel.querySelector(".plot"), spec = pagePlots.specOf(div);
    var height = spec.layout.height || div.clientHeight || 300;
    return Plotly.toImage({ data: spec.data, layout: spec.layout }, { format: "svg", width: WIDTH, height: height }).then(function (uri) {
      var text = decodeURIComponent(uri.slice(uri.indexOf(",") + 1));
      return { svg: new DOMParser().parseFromString(text, "image/svg+xml").documentElement, height: height, panel: panel };
    });
  }

  // Panels in rows of up to three, each under its title and over its legend.
  function svgOf(figure) {
    var panels = Array.prototype.filter.call(figure.querySelectorAll(".panel"), function (p) { return !p.hidden; });
    return Promise.all(panels.map(drawnPanel)).then(function (drawn) {
      var across = Math.min(3, drawn.length), top = 0, root = document.createElementNS(SVG, "svg");
      root.setAttribute("xmlns", SVG);
      root.setAttribute("font-family", "sans-serif");
      put(root, "rect", { width: "100%", height: "100%", fill: "#ffffff" });
      for (var first = 0; first < drawn.length; first += across) {
        var bottom = top;
        drawn.slice(first, first + across).forEach(function (one, i) {
          var left = i * (WIDTH + GAP), y = top, title = one.panel.querySelector("h4");
          if (title) { put(root, "text", { x: left + 8, y: y + LINE, "font-size": 13, "font-weight": "bold" }, typed(title)); y += LINE + 8; }
          one.svg.setAttribute("x", left);
          one.svg.setAttribute("y", y);
          root.appendChild(document.importNode(one.svg, true));
          y += one.height;
          one.panel.querySelectorAll(".keys li").forEach(function (key) {
            var swatch = put(root, "svg", { x: left + 8, y: y, width: 30, height: 16, viewBox: "0 0 30 16" });
            key.querySelectorAll("path").forEach(function (path) {
              var copy = swatch.appendChild(path.cloneNode(true));
              copy.setAttribute("style", copy.getAttribute("style").replace(/var\([^,]*,\s*([^)]*)\)/g, "$1"));
            });
            put(root, "text", { x: left + 46, y: y + 12, "font-size": 12 }, typed(key));
            y += LINE;
          });
          bottom = Math.max(bottom, y);
        });
        top = bottom + GAP;
      }
      root.setAttribute("width", across * (WIDTH + GAP));
      root.setAttribute("height", top);
      return new XMLSerializer().serializeToString(root);
    });
  }

  document.querySelectorAll("[data-save]").forEach(function (button) {
    button.addEventListener("click", function () {
      var figure = button.closest("figure");
      if (button.getAttribute("data-save") === "csv") { return save(nameOf(figure) + ".csv", "text/csv", csvOf(figure)); }
      if (window.Plotly) { svgOf(figure).then(function (text) { save(nameOf(figure) + ".svg", "image/svg+xml", text); }); }
    });
  });
  window.pagePlots.csvOf = csvOf;
  window.pagePlots.svgOf = svgOf;
})();
