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
})();
