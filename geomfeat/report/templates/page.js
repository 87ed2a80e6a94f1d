(function () {
  "use strict";
  var plots = Array.prototype.slice.call(document.querySelectorAll(".plot:not(.live)"));
  var hidden = { model: {}, at: {} };
  var config = {
    responsive: true,
    displaylogo: false,
    displayModeBar: window.matchMedia("(hover: hover)").matches ? "hover" : false,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"]
  };

  function draw(i) {
    if (i >= plots.length) {
      document.documentElement.setAttribute("data-plots", "drawn");
      return;
    }
    var div = plots[i];
    var spec = JSON.parse(document.getElementById(div.id + "-spec").textContent);
    Plotly.newPlot(div, spec.data, spec.layout, config);
    // One plot at a time, so that the page can be read and scrolled while the rest is drawn.
    setTimeout(function () { draw(i + 1); }, 0);
  }

  function shown(meta) {
    return !(meta && (hidden.model[meta.model] || hidden.at[meta.at]));
  }

  function update() {
    plots.forEach(function (div) {
      if (!div.data) { return; }
      var before = div.data.map(function (t) { return t.visible !== false; });
      var after = div.data.map(function (t) { return shown(t.meta); });
      if (before.join() !== after.join()) { Plotly.restyle(div, { visible: after }); }
    });
    document.querySelectorAll(".panel[data-model]").forEach(function (panel) {
      var hide = Boolean(hidden.model[panel.getAttribute("data-model")]);
      if (panel.hidden && !hide) {
        panel.hidden = false;
        // The window may have changed while the plot could not be seen.
        Plotly.Plots.resize(panel.querySelector(".plot"));
      }
      panel.hidden = hide;
    });
  }

  ["model", "at"].forEach(function (kind) {
    document.querySelectorAll("[data-toggle-" + kind + "]").forEach(function (button) {
      button.addEventListener("click", function () {
        var key = button.getAttribute("data-toggle-" + kind);
        hidden[kind][key] = !hidden[kind][key];
        button.setAttribute("aria-pressed", String(!hidden[kind][key]));
        update();
      });
    });
  });

  // Paper is narrower than most windows: give every plot the width it has there.
  var paper = 700;
  window.addEventListener("beforeprint", function () {
    plots.forEach(function (div) {
      var width = div.parentElement.parentElement.classList.contains("one") ? paper : Math.min(div.clientWidth, paper / 2 - 12);
      if (div.layout) { Plotly.relayout(div, { width: width }); }
    });
  });
  window.addEventListener("afterprint", function () {
    plots.forEach(function (div) {
      if (div.layout) { Plotly.relayout(div, { width: null, autosize: true }); }
    });
  });

  draw(0);
})();
