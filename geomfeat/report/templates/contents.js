// The contents follow the reader: the section in sight is marked.
(function () {
  "use strict";
  var links = Array.prototype.slice.call(document.querySelectorAll("nav.contents a"));
  var sections = links.map(function (a) { return document.getElementById(a.getAttribute("href").slice(1)); });
  var due = false;
  function mark() {
    due = false;
    var current = 0;
    sections.forEach(function (s, i) { if (s && s.getBoundingClientRect().top < window.innerHeight / 3) { current = i; } });
    links.forEach(function (a, i) {
      if (i === current) { a.setAttribute("aria-current", "true"); } else { a.removeAttribute("aria-current"); }
    });
  }
  window.addEventListener("scroll", function () {
    if (!due) { due = true; requestAnimationFrame(mark); }
  }, { passive: true });
  mark();
})();
