/* What widgets need on a static page; loaded before require.js and MathJax (see html_js_files in _config.yml). */
(function () {
  "use strict";
  var statics = document.currentScript.src.replace(/lop-book\.js.*$/, "");

  // Font Awesome would replace the icon elements that widgets (Play, for one) hold on to.
  window.FontAwesomeConfig = { observeMutations: false };

  // The widget manager's modules come in one file; where require.js believes them to be is where they look for their fonts.
  var paths = { "@jupyter-widgets/html-manager/dist": statics + "vendor/html-manager" };
  ["html-manager", "base", "base7", "controls", "controls7"].forEach(function (name) {
    paths["@jupyter-widgets/" + name] = statics + "vendor/html-manager/" + name;
  });
  window.require = { baseUrl: statics + "vendor", paths: paths };

  // Widgets typeset their labels through MathJax 2's queue; the book has MathJax 3 (ipywidgets issue 3829).
  document.addEventListener("DOMContentLoaded", function () {
    if (!window.MathJax) return;
    window.MathJax.Hub = {
      Queue: function (call) {
        var element = call[2];
        window.MathJax.startup.promise.then(function () { return window.MathJax.typesetPromise([element]); });
      },
    };
  });

  // What the theme leaves unsaid to those who do not see the page or use no mouse.
  var repairs = [
    ["summary", function (e) {
      if (e.textContent.trim()) e.removeAttribute("aria-label");  // its own words say more
      else if (!e.ariaLabel) {
        var link = e.closest("li") && e.closest("li").querySelector("a");
        e.setAttribute("aria-label", "pages under " + ((link && link.textContent.trim()) || "this"));
      }
    }],
    [".search-button-field, .theme-switch-button", function (e) { e.setAttribute("aria-label", e.textContent.trim() || e.ariaLabel); }],
    [".citation-list[role=list]", function (e) { e.removeAttribute("role"); }],  // its entries are no list items
    [".noUi-handle:not([aria-label])", function (e) {
      var label = e.closest(".widget-inline-hbox").querySelector(".widget-label");
      e.setAttribute("aria-label", (label && label.textContent.trim()) || "value");
    }],
    [".jupyter-button:not([aria-label])", function (e) {
      var icon = e.querySelector("i");
      if (icon && !e.textContent.trim()) e.setAttribute("aria-label", icon.className.replace(/.*fa-/, "").trim());
    }],
    ["span.math", function (e) { e.classList.toggle("lop-wide", e.scrollWidth > e.clientWidth + 8); }],  // more than a leaning letter
    ["figure, div.cell_output, div.cell_output div, div.pst-scrollable-table-container, .table-wrapper, table.indextable, pre, mjx-container, div.math, span.math, div.highlight", function (e) {
      var hidden = /(auto|scroll)/.test(getComputedStyle(e).overflowX + getComputedStyle(e).overflowY);
      if (hidden && (e.scrollWidth > e.clientWidth || e.scrollHeight > e.clientHeight)) e.tabIndex = 0;  // keys can scroll it
    }],
  ];
  function repair() {
    repairs.forEach(function (pair) { document.querySelectorAll(pair[0]).forEach(pair[1]); });
  }
  function unfold() {  // what a link leads to, in browsers that do not do it themselves
    var target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (var e = target && target.closest("details"); e; e = e.parentElement.closest("details")) e.open = true;
    if (target && target.closest("details")) target.scrollIntoView();
  }
  window.addEventListener("hashchange", unfold);
  window.addEventListener("load", function () {
    repair();
    unfold();
    if (window.MathJax && window.MathJax.startup) window.MathJax.startup.promise.then(repair);
    var due = 0;
    new MutationObserver(function () { clearTimeout(due); due = setTimeout(repair, 100); })
      .observe(document.querySelector("article") || document.body, { childList: true, subtree: true });
    window.addEventListener("resize", repair);
  });
})();
